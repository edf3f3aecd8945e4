"""The common ground: the one grid on which all years of a comparison lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyproj
from affine import Affine
from rasterio.crs import CRS

HECTARE = 10_000.0
"""Square metres."""


@dataclass(frozen=True)
class CommonGround:
    """A north-up grid of square pixels in metres.

    Parameters
    ----------
    wkt
        The projected CRS, in metres. Equal-area unless the user chose another.
    affine
        From (column, row), pixel corners, to the CRS.
    width, height
        Columns and rows.
    pixel_m
        Side of a pixel in metres of the CRS.
    """

    wkt: str
    affine: Affine
    width: int
    height: int
    pixel_m: float

    @property
    def crs(self) -> CRS:
        """The CRS as rasterio wants it."""
        return CRS.from_wkt(self.wkt)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in the CRS."""
        left, top = self.affine.c, self.affine.f
        return left, top - self.height * self.pixel_m, left + self.width * self.pixel_m, top

    @cached_property
    def areal_scale(self) -> float:
        """Area on the grid over area on the ellipsoid, at the grid's centre; 1 where it is equal-area."""
        projection = pyproj.Proj(pyproj.CRS.from_wkt(self.wkt))
        left, bottom, right, top = self.bounds
        lon, lat = projection((left + right) / 2, (bottom + top) / 2, inverse=True)
        scale = float(projection.get_factors(lon, lat).areal_scale)
        return scale if math.isfinite(scale) and scale > 0 else 1.0

    @property
    def pixel_ha(self) -> float:
        """Hectares on the ellipsoid that a pixel stands for."""
        return self.pixel_m**2 / self.areal_scale / HECTARE

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "crs": self.crs.to_string(),
            "transform": list(self.affine.to_gdal()),
            "width": self.width,
            "height": self.height,
            "pixel_m": self.pixel_m,
        }
