"""Parse which inputs are compared, and their dates."""

from __future__ import annotations

import re
from calendar import monthrange
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

import rasterio

from domainsam.errors import ConfigError, InputError
from domainsam.io.rasters import Handles
from domainsam_urban.read.listings import Listed, read_csv, read_stac
from domainsam_urban.write.provenance import Acquisition, find_acquisition

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


def read_years(
    inputs: Sequence[str], masks: bool = False, asset: str | None = None, least: int = 2
) -> tuple[Year, ...]:
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
    least
        How many years there have to be.

    Raises
    ------
    ConfigError
        If a date on the command line cannot be read.
    InputError
        If a file is absent or has no date, there are fewer years than ``least``, or
        two inputs are of the same time.
    """
    listed = [item for given in inputs for item in _expand(given, masks, asset)]
    dated = sorted(((item, _dated(item)) for item in listed), key=lambda pair: pair[1].middle)
    if len(dated) < least == 1:
        raise InputError("no map was given: name one, such as 2020=b.tif")
    if len(dated) < least:
        known = f"only one was given ({dated[0][0].path})" if dated else "none was given"
        raise InputError(f"a comparison needs at least two years, {known}: add another, such as 2020=b.tif")
    _refuse_same_time(dated)
    moments = [span.middle for _, span in dated]
    labels = [item.label for item, _ in dated]
    plain = choose_labels(moments)
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
        labels = choose_labels([first.middle, second.middle])
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
    return _span(find_acquisition(Path(item.path).name, _tags(item.path)))


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


EXPECTED = "expected 2016, 2016-05, 2016-05-30 or 2016-05-30T10:15:00Z"


@dataclass(frozen=True)
class Span:
    """A stretch of time as precise as it was written: a year, a month, a day or an instant."""

    start: datetime
    end: datetime

    @property
    def middle(self) -> datetime:
        """The moment that stands for it in rates a year."""
        return (self.start + (self.end - self.start) / 2).replace(microsecond=0)

    def overlaps(self, other: Span) -> bool:
        """Whether the two cannot be put in order."""
        return self.start <= other.end and other.start <= self.end


def parse_span(text: str) -> Span | None:
    """A span from ISO 8601, as far as it goes; None if the text is no date. Times without a zone are UTC."""
    text = text.strip()
    if re.fullmatch(r"(18|19|20|21)\d\d", text):
        return _until(datetime(int(text), 1, 1, tzinfo=UTC), datetime(int(text) + 1, 1, 1, tzinfo=UTC))
    month = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text)
    if month:
        start = datetime(int(month[1]), int(month[2]), 1, tzinfo=UTC)
        return _until(start, start + timedelta(days=monthrange(start.year, start.month)[1]))
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    instant = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    if re.fullmatch(r"\d{4}-\d\d-\d\d|\d{8}", text):
        return _until(instant, instant + timedelta(days=1))
    return Span(instant, instant)


def _until(start: datetime, end: datetime) -> Span:
    """Up to the last second before ``end``."""
    return Span(start, end - timedelta(seconds=1))


def choose_labels(moments: Sequence[datetime]) -> tuple[str, ...]:
    """The year, if that tells all moments apart; otherwise months, days or seconds, the same for all."""
    for form in ("%Y", "%Y-%m", "%Y-%m-%d"):
        labels = [moment.strftime(form) for moment in moments]
        if max(Counter(labels).values(), default=0) <= 1:
            return tuple(labels)
    return tuple(moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments)
