"""Scenes by catalogue: STAC files, stac-geoparquet, CSV tables and folders, filtered by place and date."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.warp import transform_bounds

from domainsam.documents import expect, read_json, read_rows, resolve_beside, shorten
from domainsam.errors import ConfigError, InputError
from domainsam.infer.many import Entry
from domainsam.infer.outputs import safe_name
from domainsam.io.rasters import open_raster
from domainsam.names import show
from domainsam.network import require_local
from domainsam.reading import reads
from domainsam.remote import to_gdal
from domainsam_urban.read.geodesy import parse_crs
from domainsam_urban.read.listings import (
    PATH_COLUMNS,
    TIME_COLUMNS,
    find_picture,
    find_time,
    list_items,
    name_item,
)
from domainsam_urban.read.place import Place
from domainsam_urban.settings import ReadOptions

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img")
"""Endings of the files of a folder that are taken for scenes."""
NAME_COLUMNS = ("id", "name", "item", "scene_id")
DEGREES = "EPSG:4326"
MOST_SCENES = 1_000_000
ROWS = 2_000
"""Rows of a stac-geoparquet that are held at a time."""
STAC_TYPES = ("Feature", "FeatureCollection", "Catalog", "Collection")
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")

Span = tuple[datetime, datetime]
"""First and last moment, UTC."""


def list_scenes(inputs: Sequence[str], read: ReadOptions) -> tuple[Entry, ...]:
    """Scenes of all inputs, those that options leave out left out; a plain path is a scene by itself.

    Parameters
    ----------
    inputs
        Rasters as GDAL opens them, ``.json`` (STAC item, item collection, collection or catalogue),
        ``.parquet`` (stac-geoparquet), ``.csv`` (a column ``path``; ``id`` and ``datetime`` if need be), and
        folders of rasters.

    Raises
    ------
    MissingInputError
        If a catalogue is not there.
    InputError
        If one cannot be read, names an address on the network that is not allowed, or nothing is left.
    ConfigError
        If a filter is impossible.
    """
    listed = [list(_expand(given, read.asset)) for given in inputs]
    entries = [entry for scenes in listed for entry in scenes]
    if len(entries) > MOST_SCENES:
        raise InputError(f"the inputs lead to {len(entries)} scenes, more than {MOST_SCENES}: give fewer")
    dated = _choose_by_date(entries, read.date)
    chosen = dated
    if read.bbox is not None and any(is_catalogue(given) for given in inputs):
        chosen = _choose_by_place(dated, read)
    if not chosen:
        asked = [f"--date {read.date}"] * (read.date is not None) + ["--bbox"] * (len(dated) > 0)
        raise InputError(
            f"none of the {len(entries)} scenes of {', '.join(inputs)[:200]} fits {' and '.join(asked)}: "
            "widen it"
        )
    return tuple(chosen)


def is_catalogue(given: str) -> bool:
    """Whether an input names scenes instead of being one."""
    if given.startswith("/vsi") or "://" in given:
        return False
    path = Path(given)
    return path.suffix.lower() in (".csv", ".parquet", ".json") or bool(_list_folder(path))


def settle_area(inputs: Sequence[str], read: ReadOptions) -> ReadOptions:
    """The options with a CRS for the box: scenes of a catalogue lie in several, so that it is in degrees.

    Raises
    ------
    ConfigError
        If the box cannot be degrees.
    """
    if read.bbox is None or read.bbox_crs is not None or not any(map(is_catalogue, inputs)):
        return read
    west, south, east, north = read.bbox
    if max(abs(west), abs(east)) > 360 or max(abs(south), abs(north)) > 90:
        raise ConfigError(
            f"--bbox {west:g},{south:g},{east:g},{north:g} is not in degrees, as it is with a catalogue: "
            "give its CRS with --bbox-crs"
        )
    return replace(read, bbox_crs=DEGREES)


def _expand(given: str, asset: str | None) -> Iterator[Entry]:
    """The scenes that an input leads to."""
    if not is_catalogue(given):
        yield Entry(to_gdal(given))
        return
    path = Path(given)
    if path.is_dir():
        yield from (Entry(str(file)) for file in _list_folder(path))
        return
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".json": _read_stac}
    entries = readers[path.suffix.lower()](path, asset)
    if not entries:
        raise InputError(f"{path}: names no scene; give a catalogue that holds some")
    yield from entries


def _list_folder(path: Path) -> list[Path]:
    """Rasters that lie in a folder itself, by name; none in what GDAL opens as a whole."""
    if not path.is_dir():
        return []
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in RASTER_SUFFIXES and file.is_file() and not file.name.startswith(".")
    )


@reads("a table of scenes")
def _read_csv(path: Path, asset: str | None) -> list[Entry]:
    rows, names = read_rows(path)
    where = next((names[name] for name in PATH_COLUMNS if name in names), None)
    if where is None:
        raise InputError(
            f"{path}: expected a column 'path' and a row for each scene, got {', '.join(names) or 'nothing'}"
        )
    when = next((names[name] for name in TIME_COLUMNS if name in names), None)
    called = next((names[name] for name in NAME_COLUMNS if name in names and names[name] != where), None)
    entries = []
    for number, row in enumerate(rows, start=2):
        line = f"{path}: line {number}"
        if not (row[where] or "").strip():
            raise InputError(f"{line} lacks its path; fill it in")
        source = require_local(resolve_beside(path, row[where].strip()), line)
        moment = (row[when] or "").strip() if when else ""
        name = (row[called] or "").strip() if called else ""
        entries.append(_make_entry(source, name or None, moment or None, None, line))
    return entries


@reads("a STAC file")
def _read_stac(path: Path, asset: str | None) -> list[Entry]:
    kind = read_json(path, "a STAC file").get("type")
    if kind not in STAC_TYPES:
        raise InputError(f"{path}: is no STAC item, collection or catalogue (its type is {shorten(kind)})")
    return [_take_item(place, item, asset) for place, item in list_items(path)]


def _take_item(place: Path, item: Mapping[str, Any], asset: str | None) -> Entry:
    name, where = name_item(place, item)
    source = find_picture(place, item, asset)
    return _make_entry(source, name, find_time(item, where), item.get("bbox"), where)


@reads("a stac-geoparquet table")
def _read_parquet(path: Path, asset: str | None) -> list[Entry]:
    """Items of a stac-geoparquet table (https://github.com/radiantearth/stac-geoparquet-spec)."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        columns = set(table.schema_arrow.names)
        if not {"id", "assets"} <= columns:
            raise InputError(
                f"{path}: is no stac-geoparquet table; expected the columns 'id' and 'assets', got "
                f"{', '.join(sorted(columns))[:160]}"
            )
        wanted = [
            name
            for name in ("id", "assets", "bbox", "datetime", "start_datetime", "end_datetime")
            if name in columns
        ]
        return [
            _take_item(path, _as_item(row), asset)
            for batch in table.iter_batches(ROWS, columns=wanted)
            for row in batch.to_pylist()
        ]


def _as_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of stac-geoparquet as the item that it stands for."""
    box, assets = row.get("bbox"), row["assets"]
    if isinstance(box, dict):
        box = [box.get(side) for side in ("xmin", "ymin", "xmax", "ymax")]
    # A map comes as pairs, a struct with every key that any item has.
    pairs = assets.items() if isinstance(assets, dict) else (assets or ())
    times = {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in row.items()
        if key.endswith("datetime") and value is not None
    }
    return {
        "id": row["id"],
        "bbox": box,
        "properties": times,
        "assets": {
            key: {name: part for name, part in asset.items() if part is not None}
            for key, asset in pairs
            if asset is not None
        },
    }


def _make_entry(source: str, name: str | None, when: str | None, box: object, where: str) -> Entry:
    """An entry whose parts were checked; ``where`` begins messages."""
    if when is not None:
        parse_span(when, where)
    path = to_gdal(source.removeprefix("file://"))
    return Entry(path, None if name is None else safe_name(show(name), "scene"), when, _check_box(box, where))


def _check_box(box: object, where: str) -> tuple[float, float, float, float] | None:
    """West, south, east, north of a STAC box, which has six numbers where it has heights."""
    if box is None:
        return None
    numbers = [expect(part, float, f"{where}: 'bbox'") for part in expect(box, list, f"{where}: 'bbox'")]
    if len(numbers) not in (4, 6):
        raise InputError(f"{where}: 'bbox' has {len(numbers)} numbers, expected 4 or 6")
    half = len(numbers) // 2
    return numbers[0], numbers[1], numbers[half], numbers[half + 1]


def parse_span(text: str, where: str = "--date") -> Span:
    """First and last moment of a year, month, day or instant, in UTC.

    Raises
    ------
    InputError
        If it is none.
    """
    found = _DATE.fullmatch(text.strip())
    try:
        if found is None:
            moment = datetime.fromisoformat(text.strip())
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            return moment, moment
        year, month, day = (None if part is None else int(part) for part in found.groups())
        assert year is not None
        start = datetime(year, month or 1, day or 1, tzinfo=UTC)
        last_month = month or 12
        last = datetime(year, last_month, day or monthrange(year, last_month)[1], tzinfo=UTC)
    except ValueError as error:
        raise InputError(
            f"{where}: '{show(text)[:40]}' is no date: expected 2021, 2021-05, 2021-05-30 or "
            "2021-05-30T10:15:00Z"
        ) from error
    return start, last + timedelta(days=1, microseconds=-1)


@dataclass(frozen=True)
class Interval:
    """Dates that are wanted, ends included; None is open."""

    start: datetime | None
    end: datetime | None

    def holds(self, span: Span) -> bool:
        """Whether any moment of a span is wanted."""
        return (self.end is None or span[0] <= self.end) and (self.start is None or span[1] >= self.start)


def parse_interval(text: str) -> Interval:
    """The dates that ``--date`` asks for: one, or two with ``/`` between them, ``..`` for an open end.

    Raises
    ------
    ConfigError
        If it is none, or ends before it begins.
    """
    parts = text.split("/")
    try:
        if len(parts) == 1:
            return Interval(*parse_span(text))
        if len(parts) != 2:
            raise InputError("it has more than two ends")
        first, last = (None if part.strip() in ("", "..") else parse_span(part) for part in parts)
    except InputError as error:
        raise ConfigError(
            f"--date '{show(text)[:60]}': {error}; expected 2021, 2021-05/2021-09 or 2021-05-30/.."
        ) from error
    interval = Interval(first and first[0], last and last[1])
    if interval.start and interval.end and interval.start > interval.end:
        raise ConfigError(f"--date '{text}' ends before it begins: turn it round")
    return interval


def _choose_by_date(entries: list[Entry], date: str | None) -> list[Entry]:
    """Entries of the wanted dates.

    Raises
    ------
    InputError
        If one has no date: whether it is wanted is not known.
    """
    if date is None:
        return entries
    interval = parse_interval(date)
    for entry in entries:
        if entry.when is None:
            raise InputError(
                f"{entry.source}: --date was given and this scene has no date in a catalogue: list it in "
                "one with a column 'datetime', or leave out --date"
            )
    return [entry for entry in entries if entry.when and interval.holds(parse_span(entry.when))]


def _choose_by_place(entries: Iterable[Entry], read: ReadOptions) -> list[Entry]:
    """Entries that may meet the wanted box: by what a catalogue states, else by the scene's own header."""
    assert read.bbox is not None
    wanted = shapely.box(*_to_degrees(read.bbox, read.bbox_crs or DEGREES))
    return [
        entry for entry in entries if any(wanted.intersects(box) for box in _boxes(entry.box or _look(entry)))
    ]


def _to_degrees(box: Sequence[float], crs: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = transform_bounds(crs, DEGREES, *box, densify_pts=21)
    except Exception as error:
        raise ConfigError(f"--bbox cannot be brought from {crs} to degrees: check both") from error
    return west, south, east, north


def _boxes(box: tuple[float, float, float, float] | None) -> list[Any]:
    """A box of degrees as shapes, two across the antimeridian (RFC 7946, 5.2); the world if unknown."""
    if box is None:
        return [shapely.box(-180, -90, 180, 90)]
    west, south, east, north = box
    if west <= east:
        return [shapely.box(west, south, east, north)]
    return [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]


def _look(entry: Entry) -> tuple[float, float, float, float] | None:
    """Extent of a scene in degrees from its header; None where it cannot be told, which its run will tell."""
    try:
        with open_raster(entry.source) as dataset:
            place = Place.of(dataset)
        if place.crs is None:
            return None
        box = transform_bounds(parse_crs(place.crs).to_wkt(), DEGREES, *place.bounds, densify_pts=21)
    except Exception:
        # Absent, damaged, of a CRS without a place on the Earth: the scene's own run says what it is.
        return None
    if not np.isfinite(box).all():
        return None
    west, south, east, north = map(float, box)
    return west, south, east, north
