"""Size of a pixel on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.warp import transform_bounds

from domainsam.errors import InputError
from domainsam_urban.read.geodesy import find_geographic_crs, parse_crs


def measure_ground_pixel(crs: Any, transform: Any, shape: tuple[int, int]) -> tuple[float, float]:
    """Height and width of a scene's central pixel in metres on the ellipsoid.

    Measured along geodesics between the middles of the pixel's sides, so that
    it holds for degrees, feet and Web Mercator's stretched metres alike.

    Parameters
    ----------
    crs
        Anything with ``to_wkt()``.
    transform
        ``affine.Affine`` from (column, row), pixel corners, to the CRS.
    shape
        Rows and columns.

    Raises
    ------
    InputError
        If the CRS has no place on the Earth.
    """
    row, col = shape[0] / 2, shape[1] / 2
    corners = [transform @ (col + dx, row + dy) for dx, dy in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))]
    try:
        system = CRS.from_wkt(crs.to_wkt())
        geodetic = system.geodetic_crs
        if geodetic is None:
            raise ProjError("the CRS is not tied to the Earth")
        to_degrees = Transformer.from_crs(system, geodetic, always_xy=True)
        lon, lat = to_degrees.transform(*zip(*corners, strict=True))
    except ProjError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"the size of a pixel on the ground cannot be told from the CRS ({reason}); "
            "reproject the scene, or use it without a CRS"
        ) from error
    geod = system.get_geod() or Geod(ellps="WGS84")
    _, _, metres = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    width, height = (float(value) for value in metres)
    if not (np.isfinite([width, height]).all() and width > 0 and height > 0):
        raise InputError("the scene's centre lies outside the area of its CRS; check the geotransform")
    return height, width


@dataclass(frozen=True)
class Place:
    """A raster's grid: ``shape`` (rows, columns), affine of pixel *corners*, and CRS or None."""

    shape: tuple[int, int]
    affine: Affine
    crs: Any | None

    @classmethod
    def of(cls, dataset: Any) -> Place:
        """The grid of an open rasterio dataset."""
        return cls((dataset.height, dataset.width), dataset.transform, dataset.crs)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of the grid in its CRS, turned or not."""
        rows, columns = self.shape
        corners = [self.affine @ corner for corner in ((0, 0), (columns, 0), (0, rows), (columns, rows))]
        x, y = zip(*corners, strict=True)
        return min(x), min(y), max(x), max(y)

    def aligned(self, other: Place) -> bool:
        """Whether both have the same pixels, to a hundredth of one."""
        if self.shape != other.shape or (self.crs is None) != (other.crs is None):
            return False
        if self.crs is not None and parse_crs(self.crs) != parse_crs(other.crs):
            return False
        rows, columns = self.shape
        corners = ((0, 0), (columns, 0), (0, rows), (columns, rows))
        moved = [np.subtract(~self.affine @ (other.affine @ corner), corner) for corner in corners]
        return bool(np.abs(moved).max() < 0.01)

    def pixel_metres(self) -> float:
        """Side of a pixel on the ground at the centre: the root of its area; 1 without a CRS."""
        if self.crs is None:
            return 1.0
        base, degrees = find_geographic_crs(self.crs)
        column, row = self.shape[1] / 2, self.shape[0] / 2
        corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        points = gpd.GeoSeries.from_xy(
            *zip(*(self.affine @ corner for corner in corners), strict=True), crs=parse_crs(self.crs)
        ).to_crs(base)
        geod: Geod = parse_crs(self.crs).get_geod()
        area, _ = geod.polygon_area_perimeter(points.x * degrees, points.y * degrees)
        return float(abs(area) ** 0.5)


def require_same_ground(name: str, own: Place, scene: Place) -> None:
    """Refuse a raster that cannot be laid on a scene.

    Raises
    ------
    InputError
        If the two do not overlap or, where a CRS is missing, differ in size.
    """
    if own.crs is None or scene.crs is None:
        if own.shape != scene.shape:
            raise InputError(
                f"raster '{name}' is {own.shape[1]} x {own.shape[0]} pixels, the scene "
                f"{scene.shape[1]} x {scene.shape[0]}, and a CRS is missing: expected the same size"
            )
        return
    there = shapely.box(*transform_bounds(own.crs, scene.crs, *own.bounds))
    if not there.intersects(shapely.box(*scene.bounds)):
        raise InputError(
            f"raster '{name}' does not overlap the scene: it covers {to_extent(there.bounds)} in the scene's "
            f"CRS, the scene {to_extent(scene.bounds)}; check that both cover the same ground"
        )


def to_extent(bounds: tuple[float, float, float, float]) -> str:
    """``[left, bottom, right, top]`` for a message."""
    return "[" + ", ".join(f"{value:.10g}" for value in bounds) + "]"
