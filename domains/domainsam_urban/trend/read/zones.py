"""Read or make zones: districts, rings around a centre, areas within ring roads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.grid import Float64
from domainsam.io.vectors import read_table
from domainsam.names import show
from domainsam.reading import reading
from domainsam_urban.read.geodesy import apply_affine
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.settings import ZoneOptions

WHOLE, ZONES, RINGS = "whole", "zones", "rings"
"""Kinds of places: the whole ground, the user's polygons, distance from a centre."""
CIRCLE_POINTS = 720
"""Corners of a ring's circle; a polygon of as many covers 0.001 % less than the circle."""
NAME_COLUMNS = ("name", "NAME", "Name", "district", "zone", "label", "id")
ROUND_KM = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 20.0, 25.0, 50.0)
MOST_RINGS = 6


@dataclass(frozen=True, eq=False)
class Zoning:
    """Places of one kind.

    Parameters
    ----------
    kind
        :data:`WHOLE`, :data:`ZONES` or :data:`RINGS`.
    names
        One for each place, no two alike.
    polygons
        ``(Z,)`` valid Polygons and MultiPolygons in the ground's CRS; they may overlap.
    notes
        What was mended or left out in reading them, in sentences.
    """

    kind: str
    names: tuple[str, ...]
    polygons: NDArray[np.object_]
    notes: tuple[str, ...] = ()


def make_zonings(ground: CommonGround, options: ZoneOptions) -> tuple[Zoning, ...]:
    """The whole ground, then whatever the options ask for.

    Raises
    ------
    MissingInputError, InputError, ConfigError
        If a layer cannot be used; see :func:`read_zones`.
    """
    zonings = [make_whole(ground)]
    if options.zones is not None:
        zonings.append(read_zones(options.zones, ground, options.zone_name))
    if options.ring_polygons is not None:
        zonings.append(read_ring_roads(options.ring_polygons, ground, options.zone_name))
    elif options.centre is not None:
        zonings.append(make_rings(ground, options.centre, options.rings_km))
    return tuple(zonings)


def make_whole(ground: CommonGround) -> Zoning:
    """The ground as one place."""
    return Zoning(WHOLE, ("whole area",), np.array([shapely.box(*ground.bounds)], dtype=object))


def read_zones(path: Path, ground: CommonGround, name: str | None = None, kind: str = ZONES) -> Zoning:
    """Polygons of a vector file in any CRS, brought to the ground.

    Invalid ones are mended (GEOS, structure method) and said so; those without
    an area are left out. Polygons with one name are one place.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it cannot be read, has no CRS, holds no area, or lies elsewhere.
    ConfigError
        If the column ``name`` does not exist.
    """
    table, notes = _read(path)
    names = _names(table, path, name)
    try:
        shapes = np.asarray(table.geometry.to_crs(pyproj.CRS.from_wkt(ground.wkt)).values, dtype=object)
    except Exception as error:
        raise InputError(
            f"zones '{path}' cannot be brought to the common ground ({error}): check their CRS"
        ) from error
    finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    invalid = finite & ~shapely.is_valid(shapes)
    shapes = shapely.force_2d(shapes)
    shapes[invalid] = shapely.make_valid(shapes[invalid], method="structure", keep_collapsed=False)
    shapes = np.array([_polygonal(shape) for shape in shapes], dtype=object)
    solid = finite & (shapely.area(shapes) > 0)
    if not solid.any():
        raise InputError(f"zones '{path}' hold no polygon with an area: draw zones as polygons")
    notes += [f"{int(invalid.sum())} invalid zones in {path.name} were mended"] if invalid.any() else []
    if not solid.all():
        notes.append(f"{int((~solid).sum())} zones in {path.name} have no area and were left out")
    _require_overlap(path, shapes[solid], ground)
    return _by_name(kind, [n for n, good in zip(names, solid, strict=True) if good], shapes[solid], notes)


def make_rings(
    ground: CommonGround, centre: tuple[float, float], radii_km: tuple[float, ...] | None
) -> Zoning:
    """Rings by geodesic distance from a centre given as longitude and latitude.

    Raises
    ------
    InputError
        If no ring reaches the ground.
    """
    crs = pyproj.CRS.from_wkt(ground.wkt)
    to_ground = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to_ground.transform(*centre)
    place, box = shapely.Point(x, y), shapely.box(*ground.bounds)
    if not np.isfinite([x, y]).all():
        raise InputError(f"centre {centre[0]:g},{centre[1]:g} lies outside the ground's CRS: check it")
    farthest = float(shapely.hausdorff_distance(place, box)) / 1000
    nearest = float(shapely.distance(place, box)) / 1000
    radii = radii_km or _round_radii(nearest, farthest)
    geod = pyproj.Geod(ellps="WGS84")
    azimuths = np.linspace(0, 360, CIRCLE_POINTS, endpoint=False)
    discs = []
    for radius in radii:
        lon, lat, _ = geod.fwd(
            np.full(CIRCLE_POINTS, centre[0]),
            np.full(CIRCLE_POINTS, centre[1]),
            azimuths,
            np.full(CIRCLE_POINTS, radius * 1000),
        )
        discs.append(shapely.make_valid(shapely.Polygon(np.column_stack(to_ground.transform(lon, lat)))))
    edges = (0.0, *radii)
    names = tuple(f"{a:g} to {b:g} km" for a, b in pairwise(edges))
    polygons = _nested(np.array(discs, dtype=object))
    touching = shapely.intersects(polygons, box)
    if not touching.any():
        raise InputError(
            f"no ring around {centre[0]:g},{centre[1]:g} reaches the scenes, which lie {nearest:.1f} to "
            f"{farthest:.1f} km away: check longitude,latitude, or give larger rings"
        )
    notes = []
    if radii[-1] < farthest:
        notes.append(
            f"the rings end at {radii[-1]:g} km; the ground reaches {farthest:.1f} km from the centre"
        )
    kept = tuple(n for n, hit in zip(names, touching, strict=True) if hit)
    return Zoning(RINGS, kept, polygons[touching], tuple(notes))


def read_ring_roads(path: Path, ground: CommonGround, name: str | None = None) -> Zoning:
    """Areas within ring roads, smallest first; each without those inside it."""
    given = read_zones(path, ground, name, RINGS)
    order = np.argsort(shapely.area(given.polygons), kind="stable")
    polygons = _nested(given.polygons[order])
    return Zoning(RINGS, tuple(given.names[i] for i in order), polygons, given.notes)


def _read(path: Path) -> tuple[Any, list[str]]:
    if not path.exists():
        raise MissingInputError(f"zones '{path}' do not exist: check the path")
    with reading(f"zones '{path}'", "polygons; expected GeoPackage, GeoParquet, GeoJSON or Shapefile"):
        table = read_table(path)
        crs, geometry = table.crs, table.geometry
    if crs is None:
        raise InputError(f"zones '{path}' have no CRS: assign the one they were drawn in")
    empty = np.asarray(geometry.isna() | geometry.is_empty)
    if empty.all():
        raise InputError(f"zones '{path}' hold no geometry: expected polygons")
    notes = [f"{int(empty.sum())} empty zones in {path.name} were left out"] if empty.any() else []
    return table[~empty].reset_index(drop=True), notes


def _names(table: Any, path: Path, wanted: str | None) -> list[str]:
    columns = [str(column) for column in table.columns if column != table.geometry.name]
    if wanted is not None and wanted not in columns:
        raise ConfigError(
            f"zones '{path}' have no column '{wanted}': choose one of {', '.join(columns) or '(none)'}"
        )
    texts = [c for c in columns if table[c].dtype.kind in "OUT" or str(table[c].dtype).startswith("str")]
    usual = [column for column in NAME_COLUMNS if column in columns]
    column = wanted or next(iter([*usual, *texts]), None)
    if column is None:
        return [f"zone {number}" for number in range(1, len(table) + 1)]
    return [f"zone {n}" if _missing(v) else _plain(v) for n, v in enumerate(table[column], start=1)]


def _plain(value: Any) -> str:
    """A name on one line, for charts, layers and tables alike."""
    return " ".join(show(str(value)).split())


def _missing(value: Any) -> bool:
    return value is None or value != value or not str(value).strip()


def _polygonal(shape: Any) -> Any:
    """What has an area in a shape: a Polygon or MultiPolygon, perhaps empty."""
    if shape is None or shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else shapely.Polygon()


def _by_name(kind: str, names: list[str], shapes: NDArray[np.object_], notes: list[str]) -> Zoning:
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    joined = [
        shapes[index[0]] if len(index) == 1 else shapely.union_all(shapes[index]) for index in groups.values()
    ]
    if len(groups) < len(names):
        notes.append(f"{len(names)} polygons share {len(groups)} names; those of one name count as one zone")
    return Zoning(kind, tuple(groups), np.array(joined, dtype=object), tuple(notes))


def _require_overlap(path: Path, shapes: NDArray[np.object_], ground: CommonGround) -> None:
    left, bottom, right, top = shapely.total_bounds(shapes)
    box = shapely.box(*ground.bounds)
    if not shapely.intersects(shapes, box).any():
        raise InputError(
            f"zones '{path}' do not overlap the scenes: they cover [{left:.0f}, {bottom:.0f}, {right:.0f}, "
            f"{top:.0f}] on the common ground, the scenes {[round(v) for v in ground.bounds]}; check both CRS"
        )


def _nested(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Each polygon without the one before it."""
    outer = polygons.copy()
    outer[1:] = shapely.difference(polygons[1:], polygons[:-1])
    return outer


def _round_radii(nearest: float, farthest: float) -> tuple[float, ...]:
    """Radii at the smallest round step that needs no more than :data:`MOST_RINGS` rings over the ground."""
    reach = farthest - nearest
    step = next((s for s in ROUND_KM if reach / s <= MOST_RINGS), reach / MOST_RINGS)
    first, last = int(nearest // step), int(np.ceil(farthest / step - 1e-9))
    inner = (first * step,) if first else ()
    return (*inner, *(step * number for number in range(first + 1, max(last, first + 1) + 1)))


def compute_pixel_coverage(polygon: Any, affine: Affine, shape: tuple[int, int]) -> Float64:
    """Share of every pixel that lies inside a polygon.

    Parameters
    ----------
    polygon
        Valid shapely Polygon or MultiPolygon in the CRS; parts outside the grid count for nothing.
    affine
        From (column, row), pixel corners, to the CRS.
    shape
        Rows and columns.

    Returns
    -------
    Float64
        ``(rows, columns)`` shares 0 to 1.
    """
    rows, columns = shape
    pixels = shapely.transform(polygon, lambda points: apply_affine(~affine, points))
    inside = shapely.clip_by_rect(pixels, 0, 0, columns, rows)
    covered = np.zeros((rows, columns + 1))
    parts = shapely.orient_polygons(shapely.get_parts(inside))
    starts, ends = _edges(parts)
    if len(starts):
        _accumulate(covered, starts, ends)
    return np.clip(np.abs(np.cumsum(covered, axis=1)[:, :columns]), 0, 1)


def _edges(parts: NDArray[np.object_]) -> tuple[Float64, Float64]:
    """Start and end ``(E, 2)`` of every edge of every ring that is not level."""
    rings = shapely.get_rings(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])
    points, ring = shapely.get_coordinates(rings, return_index=True)
    inner = (ring[1:] == ring[:-1]) & (points[1:, 1] != points[:-1, 1])
    return points[:-1][inner], points[1:][inner]


def _accumulate(covered: Float64, starts: Float64, ends: Float64) -> None:
    first, last = _cut(starts, ends)
    middle, height = (first + last) / 2, last[:, 1] - first[:, 1]
    row = np.clip(np.floor(middle[:, 1]).astype(np.int64), 0, covered.shape[0] - 1)
    column = np.clip(np.floor(middle[:, 0]).astype(np.int64), 0, covered.shape[1] - 1)
    right = middle[:, 0] - column
    width = covered.shape[1]
    flat = covered.ravel()
    flat += np.bincount(row * width + column, weights=height * (1 - right), minlength=flat.size)
    # An edge on the grid's right border has nothing further right to cover.
    beyond = column + 1 < width
    flat += np.bincount(
        (row * width + column + 1)[beyond], weights=(height * right)[beyond], minlength=flat.size
    )


def _cut(starts: Float64, ends: Float64) -> tuple[Float64, Float64]:
    """Edges cut where they cross whole numbers in x or y; start and end ``(S, 2)`` of each piece."""
    edge, at = [np.arange(len(starts))], [np.zeros(len(starts))]
    for axis in (0, 1):
        one, other = starts[:, axis], ends[:, axis]
        low, high = np.minimum(one, other), np.maximum(one, other)
        begin = np.floor(low).astype(np.int64) + 1
        count = np.maximum(np.ceil(high).astype(np.int64) - begin, 0)
        owner = np.repeat(np.arange(len(starts)), count)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        edge.append(owner)
        at.append((begin[owner] + step - one[owner]) / (other - one)[owner])
    owner, where = np.concatenate(edge), np.concatenate(at)
    order = np.lexsort((where, owner))
    owner, where = owner[order], np.clip(where[order], 0, 1)
    until = np.append(where[1:], 1.0)
    until[np.append(owner[1:] != owner[:-1], True)] = 1.0
    span = ends[owner] - starts[owner]
    return starts[owner] + where[:, None] * span, starts[owner] + until[:, None] * span
