"""Areas, lengths and metric frames on the ellipsoid of any CRS.

A planar CRS lies about areas: by the square of the secant of the latitude in
EPSG:3857, and altogether in degrees. Every figure that a user sees is therefore
measured on the CRS's own ellipsoid, and every tolerance in metres is applied
in an equal-area frame laid around the scene.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from domainsam.errors import InputError
from domainsam.grid import Float64

EDGE_M = 1000.0
"""Longest edge, in metres, that is measured as one geodesic.

An edge is straight in its CRS, a geodesic bends away from it. The sagitta
between a parallel and the geodesic over a length L is ``L^2 tan(latitude) / 8R``:
4 cm for 1 km at 60 degrees, which is 0.003 % of the area of a 1 km square.
"""


@dataclass(frozen=True, eq=False)
class Measures:
    """What polygons measure on the ground.

    Parameters
    ----------
    area_m2
        ``(N,)`` square metres, holes subtracted.
    perimeter_m
        ``(N,)`` metres along outer *and* inner rings, as PostGIS and QGIS count.
    """

    area_m2: Float64
    perimeter_m: Float64


def parse_crs(crs: Any) -> CRS:
    """A pyproj CRS from that of another package, a code or a WKT; the EPSG's own where it is exactly one."""
    if isinstance(crs, CRS):
        return crs
    to_wkt = getattr(crs, "to_wkt", None)
    return _known(crs if to_wkt is None else to_wkt())


@lru_cache(maxsize=64)
def _known(text: Any) -> CRS:
    given = CRS.from_user_input(text)
    code = given.to_epsg(min_confidence=100)
    return given if code is None else CRS.from_epsg(code)


def find_geographic_crs(crs: Any) -> tuple[CRS, float]:
    """Geographic CRS of the same datum, and how many degrees its unit is.

    Raises
    ------
    InputError
        If the CRS is tied to no ellipsoid (an engineering or local CRS).
    """
    given = parse_crs(crs)
    base = given.geodetic_crs
    if base is None:
        raise InputError(
            f"CRS '{given.name}' is not tied to the Earth: areas need a geographic or projected CRS; "
            "assign one, or work in pixels with --allow-no-crs"
        )
    plain = base.to_2d()
    return plain, math.degrees(plain.axis_info[0].unit_conversion_factor)


def convert_edge_length(crs: Any, metres: float = EDGE_M) -> float:
    """About ``metres`` on the ground in the units of ``crs``; never longer on the ground in EPSG:3857."""
    given = parse_crs(crs)
    factor = given.axis_info[0].unit_conversion_factor
    if given.is_geographic:
        factor *= given.get_geod().a
    return float(metres / factor)


def measure_polygons(polygons: Iterable[Any], crs: Any) -> Measures:
    """Area and perimeter of polygons on the ellipsoid of their CRS.

    Edges are split to at most :data:`EDGE_M` in the CRS, brought to the
    geographic CRS of the same datum and measured as geodesics (Karney 2013,
    "Algorithms for geodesics", as PROJ implements it).

    Parameters
    ----------
    polygons
        ``N`` shapely Polygons or MultiPolygons, x and y in the CRS's
        easting-northing or longitude-latitude order.
    crs
        Anything :func:`parse_crs` understands.

    Raises
    ------
    InputError
        If the CRS is tied to no ellipsoid, or coordinates lie outside its domain.
    """
    shapes = np.asarray(list(polygons), dtype=object)
    area = np.zeros(len(shapes))
    perimeter = np.zeros(len(shapes))
    if not len(shapes):
        return Measures(area, perimeter)
    base, degrees = find_geographic_crs(crs)
    geod = parse_crs(crs).get_geod()
    parts, owner = shapely.get_parts(shapely.segmentize(shapes, convert_edge_length(crs)), return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    points, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    lon, lat = _transform(parse_crs(crs), base, points)
    starts = np.searchsorted(ring_of_point, np.arange(len(rings) + 1))
    for ring, part in enumerate(part_of_ring):
        span = slice(starts[ring], starts[ring + 1])
        ring_area, length = geod.polygon_area_perimeter(lon[span] * degrees, lat[span] * degrees)
        outer = ring == 0 or part_of_ring[ring - 1] != part
        area[owner[part]] += abs(ring_area) if outer else -abs(ring_area)
        perimeter[owner[part]] += length
    return Measures(area, perimeter)


@dataclass(frozen=True, eq=False)
class GroundFrame:
    """Plane metres around a scene, reached from its pixel corners and back.

    Pixel coordinates are ``(column, row)`` of pixel *corners*: the scene spans
    0 to width and 0 to height. Ground coordinates are metres of a Lambert
    azimuthal equal-area projection around the scene's centre on the CRS's own
    ellipsoid, so areas in it are true wherever the scene lies. Without a CRS
    the ground is the pixel plane itself.
    """

    affine: Affine
    crs: Any | None
    ground: CRS | None

    @classmethod
    def around(cls, shape: tuple[int, int], affine: Affine, crs: Any | None) -> GroundFrame:
        """Frame of a raster of ``shape`` (rows, columns); ``affine`` maps corners to the CRS."""
        if crs is None:
            return cls(affine, None, None)
        base, degrees = find_geographic_crs(crs)
        rows, columns = shape
        centre = np.array([affine @ (columns / 2, rows / 2)])
        lon, lat = _transform(parse_crs(crs), base, centre)
        return cls(affine, crs, make_equal_area_crs(crs, float(lon[0]) * degrees, float(lat[0]) * degrees))

    def to_ground(self, pixels: Float64) -> Float64:
        """Ground metres ``(N, 2)`` of pixel corners ``(N, 2)``."""
        if self.ground is None:
            return pixels
        return np.column_stack(
            _transform(parse_crs(self.crs), self.ground, apply_affine(self.affine, pixels))
        )

    def to_pixels(self, ground: Float64) -> Float64:
        """Pixel corners ``(N, 2)`` of ground metres ``(N, 2)``."""
        if self.ground is None:
            return ground
        world = np.column_stack(_transform(self.ground, parse_crs(self.crs), ground))
        return apply_affine(~self.affine, world)


def make_equal_area_crs(crs: Any, lon: float, lat: float) -> CRS:
    """Lambert azimuthal equal-area CRS around a place, on the ellipsoid of ``crs``; metres."""
    geod = parse_crs(crs).get_geod()
    return CRS.from_proj4(
        f"+proj=laea +lat_0={lat!r} +lon_0={lon!r} +a={geod.a!r} +b={geod.b!r} +units=m +no_defs"
    )


def apply_affine(affine: Affine, points: Float64) -> Float64:
    """``affine`` times each of ``points (N, 2)``, x first."""
    x, y = points[:, 0], points[:, 1]
    return np.column_stack((affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f))


def _transform(source: CRS, target: CRS, points: Float64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    try:
        x, y = Transformer.from_crs(source, target, always_xy=True).transform(
            points[:, 0], points[:, 1], errcheck=True
        )
    except ProjError as error:
        raise InputError(
            f"coordinates do not fit CRS '{source.name}': {error}; check the file's CRS and geotransform"
        ) from error
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)


def keep_polygons(shapes: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Valid Polygons with an area out of ``shapes``, and the index each came from.

    Invalid shapes are rebuilt by GEOS's structure method, which keeps what the
    rings enclose; parts of several become polygons of their own; points, lines
    and polygons without area are left out.
    """
    wrong = ~shapely.is_valid(shapes)
    mended = shapes.copy()
    if wrong.any():
        mended[wrong] = shapely.make_valid(shapes[wrong], method="structure", keep_collapsed=False)
    parts, owner = shapely.get_parts(mended, return_index=True)
    solid = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return parts[solid], np.asarray(owner[solid], dtype=np.int64)
