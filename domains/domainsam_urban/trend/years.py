"""Which inputs are compared, and when each was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

import rasterio

from domainsam.errors import ConfigError, InputError
from domainsam_urban.handles import Handles
from domainsam_urban.provenance import Acquisition, acquisition
from domainsam_urban.trend.dates import EXPECTED, Span, parse_span, shortest_labels
from domainsam_urban.trend.listings import Listed, read_csv, read_stac

Kind = Literal["scene", "mask-raster", "mask-vector"]

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".parquet", ".fgb", ".shp")


@dataclass(frozen=True)
class Year:
    """One input of a trend.

    ``stated`` says where the date comes from, for the outputs: ``the command
    line``, ``STAC item a``, ``line 3`` of a table, ``the file``. ``moment`` may only
    be unknown where two scenes are called before and after.
    """

    label: str
    moment: datetime | None
    path: str
    kind: Kind
    stated: str


def read_years(inputs: Sequence[str], masks: bool = False, asset: str | None = None) -> tuple[Year, ...]:
    """The years of a comparison, in order of time.

    Parameters
    ----------
    inputs
        ``2016=path``, plain paths whose date stands in the file or its name, a
        CSV of path and datetime, or a STAC item, item collection, collection or catalogue.
    masks
        The paths are existing results and not scenes.
    asset
        Key of the STAC asset to take.

    Raises
    ------
    ConfigError
        If a date on the command line cannot be read.
    InputError
        If a file is absent or has no date, there are fewer than two years, or
        two inputs are of the same time.
    """
    listed = [item for given in inputs for item in _expand(given, masks, asset)]
    dated = sorted(((item, _dated(item)) for item in listed), key=lambda pair: pair[1].middle)
    if len(dated) < 2:
        known = f"only one was given ({dated[0][0].path})" if dated else "none was given"
        raise InputError(f"a comparison needs at least two years, {known}: add another, such as 2020=b.tif")
    _refuse_same_time(dated)
    moments = [span.middle for _, span in dated]
    labels = [item.label for item, _ in dated]
    plain = shortest_labels(moments)
    chosen = [label or other for label, other in zip(labels, plain, strict=True)]
    if len(set(chosen)) < len(chosen):
        chosen = list(plain)
    return tuple(
        Year(label, span.middle, item.path, _kind(item.path, masks), item.stated)
        for label, (item, span) in zip(chosen, dated, strict=True)
    )


def read_pair(before: str, after: str, masks: bool = False) -> tuple[Year, Year]:
    """Two inputs in the order given; named by their dates as far as both have one.

    Raises
    ------
    ConfigError
        If a date on the command line cannot be read.
    InputError
        If a file is absent, or the dates contradict the order.
    """
    items = [_expand_one(given) for given in (before, after)]
    spans = [_found(item) for item in items]
    first, second = spans
    if first is not None and second is not None and first.middle > second.middle:
        raise InputError(
            f"{items[0].path} was taken after {items[1].path} ({first.middle:%Y-%m-%d}, "
            f"{second.middle:%Y-%m-%d}): give the earlier one first"
        )
    labels: tuple[str, ...] = ("before", "after")
    if first is not None and second is not None and not first.overlaps(second):
        labels = shortest_labels([first.middle, second.middle])
    one, other = (
        Year(label, span.middle if span else None, item.path, _kind(item.path, masks), item.stated)
        for label, item, span in zip(labels, items, spans, strict=True)
    )
    return one, other


def _expand(given: str, masks: bool, asset: str | None) -> list[Listed]:
    """What one argument stands for."""
    single = _expand_one(given)
    suffix = Path(given).suffix.lower()
    if single.label is None and suffix == ".csv":
        return read_csv(Path(given))
    if single.label is None and (suffix == ".json" or (suffix == ".geojson" and not masks)):
        return read_stac(Path(given), asset)
    return [single]


def _expand_one(given: str) -> Listed:
    """A path, with a date before it or not."""
    head, equals, path = given.partition("=")
    if not equals or Path(given).exists():
        return Listed(given, None, "the file")
    if parse_span(head) is None:
        raise ConfigError(f"'{given}': '{head}' is no date; {EXPECTED} before the =")
    return Listed(path, head, "the command line", label=head)


def _dated(item: Listed) -> Span:
    """When an input was taken."""
    if item.when is not None:
        span = parse_span(item.when)
        if span is None:
            raise InputError(f"{item.path}: '{item.when}' in {item.stated} is no date; {EXPECTED}")
        return span
    found = _found(item)
    if found is None:
        raise InputError(
            f"{item.path}: no date in its metadata or name; write it before the file, for example "
            f"2016={item.path}"
        )
    return found


def _found(item: Listed) -> Span | None:
    """When an input was taken, as far as it is known."""
    if item.when is not None:
        return parse_span(item.when)
    return _span(acquisition(Path(item.path).name, _tags(item.path)))


def _span(found: Acquisition) -> Span | None:
    if found.instant is not None:
        return Span(found.instant, found.instant)
    if found.start is not None and found.end is not None:
        return Span(found.start, found.end)
    return None


def _tags(path: str) -> dict[str, str]:
    """Metadata of a raster in which a date may stand; a vector file has none."""
    if Path(path).suffix.lower() in VECTOR_SUFFIXES:
        return {}
    handles = Handles(path)
    try:
        with handles.reading("its header") as dataset:
            domains = [space for space in dataset.tag_namespaces() if not space.startswith("xml:")]
            return {key: value for space in (None, *domains) for key, value in dataset.tags(ns=space).items()}
    except (rasterio.errors.RasterioError, UnicodeDecodeError):
        return {}
    finally:
        handles.close()


def _refuse_same_time(dated: Sequence[tuple[Listed, Span]]) -> None:
    for (one, first), (other, second) in pairwise(dated):
        if first.overlaps(second):
            same = first.start.date() if first == second else "the same time"
            raise InputError(
                f"{one.path} and {other.path} are both of {same}, so neither comes first: give one date "
                "each, or join tiles of one date with gdalbuildvrt"
            )


def _kind(path: str, masks: bool) -> Kind:
    if not masks:
        return "scene"
    return "mask-vector" if Path(path).suffix.lower() in VECTOR_SUFFIXES else "mask-raster"
