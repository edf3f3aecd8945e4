"""Choose the common ground: the one grid on which all years lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import LambertAzimuthalEqualAreaConversion
from pyproj.exceptions import CRSError, ProjError
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from domainsam.errors import ConfigError, InputError
from domainsam_urban.read.geodesy import parse_crs
from domainsam_urban.read.place import Place
from domainsam_urban.trend.settings import GroundOptions

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


RIM_POINTS = 32
"""Points along each side of a footprint, which is curved in another CRS."""
AREA_TOLERANCE = 1e-3
"""A CRS whose areas are true within a thousandth at the centre passes for equal-area."""


@dataclass(frozen=True)
class Footprint:
    """What a year covers: its grid, and the finest pixel in metres that is of use to it."""

    label: str
    place: Place
    pixel_m: float


@dataclass(frozen=True)
class ChosenGround:
    """The ground, the share of it that all footprints cover, and what a reader ought to know."""

    ground: CommonGround
    shared: float
    warnings: tuple[str, ...] = ()


def choose_ground(footprints: Sequence[Footprint], options: GroundOptions) -> ChosenGround:
    """The smallest north-up grid that holds every year, in square pixels as large as the coarsest year's.

    Without a CRS of the user's it is a Lambert azimuthal equal-area projection
    around the middle of all footprints.

    Raises
    ------
    InputError
        If the footprints have no place in common.
    ConfigError
        If the CRS asked for is unknown or not in metres, or nothing lies in the extent asked for.
    """
    crs = _equal_area_around(footprints) if options.crs is None else _asked_for(options.crs)
    shapes = [_outline(footprint.place, crs) for footprint in footprints]
    common = _shared(footprints, shapes)
    pixel = options.pixel or _rounded(max(footprint.pixel_m for footprint in footprints))
    bounds = options.extent or shapely.union_all(shapes).bounds
    if not shapely.box(*bounds).intersects(common):
        extent = ", ".join(f"{value:.10g}" for value in bounds)
        raise ConfigError(f"--extent {extent} holds nothing that all years cover; it is in {crs.name}")
    ground = _grid(crs, pixel, bounds)
    whole = shapely.box(*ground.bounds)
    warnings: tuple[str, ...] = ()
    if abs(ground.areal_scale - 1) > AREA_TOLERANCE:
        warnings = (
            f"{crs.name} is not equal-area: areas are corrected by the factor "
            f"{1 / ground.areal_scale:.4f} of the ground's centre",
        )
    return ChosenGround(ground, float(common.intersection(whole).area / whole.area), warnings)


def _rounded(metres: float) -> float:
    """To three digits: a pixel of 2 m in a UTM grid is 1.9993 m long on the ground, which nobody wants."""
    return float(f"{metres:.3g}")


def _grid(crs: pyproj.CRS, pixel: float, bounds: tuple[float, float, float, float]) -> CommonGround:
    left, bottom, right, top = bounds
    # A hair less, so that bounds on the lattice do not gain a pixel by rounding.
    first_col, last_col = math.floor(left / pixel + 1e-6), math.ceil(right / pixel - 1e-6)
    first_row, last_row = math.floor(bottom / pixel + 1e-6), math.ceil(top / pixel - 1e-6)
    affine = Affine(pixel, 0, first_col * pixel, 0, -pixel, last_row * pixel)
    return CommonGround(
        crs.to_wkt(), affine, max(1, last_col - first_col), max(1, last_row - first_row), pixel
    )


def _equal_area_around(footprints: Sequence[Footprint]) -> pyproj.CRS:
    """An equal-area CRS whose centre is rounded to a hundredth of a degree, so that it can be read."""
    boxes = [
        transform_bounds(footprint.place.crs, "EPSG:4326", *footprint.place.bounds)
        for footprint in footprints
    ]
    west, south, east, north = np.array(boxes).T
    lon, lat = (west.min() + east.max()) / 2, (south.min() + north.max()) / 2
    lon, lat = round(float(lon), 2), round(float(lat), 2)
    place = f"{abs(lat):.2f}{'S' if lat < 0 else 'N'} {abs(lon):.2f}{'W' if lon < 0 else 'E'}"
    # With a name and a base that is known: programs show "unknown" otherwise, and ask for a datum shift.
    return ProjectedCRS(
        conversion=LambertAzimuthalEqualAreaConversion(lat, lon),
        name=f"WGS 84 / Lambert azimuthal equal-area around {place}",
        geodetic_crs=pyproj.CRS.from_epsg(4326),
    )


def _asked_for(text: str) -> pyproj.CRS:
    try:
        crs = pyproj.CRS.from_user_input(text)
    except CRSError as error:
        raise ConfigError(f"--crs '{text}' is unknown: expected EPSG:32650 or another code") from error
    if not crs.is_projected or crs.axis_info[0].unit_conversion_factor != 1.0:
        raise ConfigError(f"--crs '{text}' is not in metres: choose a projected CRS in metres")
    return crs


def _outline(place: Place, crs: pyproj.CRS) -> Any:
    """The footprint as a polygon in another CRS."""
    rows, cols = place.shape
    steps = np.linspace(0, 1, RIM_POINTS, endpoint=False)
    flat, full = np.zeros_like(steps), np.ones_like(steps)
    u = np.concatenate([steps, full, 1 - steps, flat]) * cols
    v = np.concatenate([flat, steps, full, 1 - steps]) * rows
    x, y = place.affine @ (u, v)
    try:
        moved = pyproj.Transformer.from_crs(parse_crs(place.crs), crs, always_xy=True).transform(
            x, y, errcheck=True
        )
    except ProjError as error:
        raise ConfigError(f"--crs {crs.name} does not reach the scenes ({error}); choose another") from error
    return shapely.make_valid(shapely.Polygon(np.column_stack(moved)))


def _shared(footprints: Sequence[Footprint], shapes: Sequence[Any]) -> Any:
    """What all footprints cover."""
    common = shapely.intersection_all(np.array(shapes, dtype=object))
    if common.area > 0:
        return common
    for index, shape in enumerate(shapes):
        for other, earlier in enumerate(shapes[:index]):
            if shape.intersection(earlier).area == 0:
                raise InputError(
                    f"{footprints[other].label} and {footprints[index].label} do not overlap, so nothing can "
                    "be compared: check that all scenes cover the same ground, or leave one out"
                )
    raise InputError("no ground is covered by all years, so nothing can be compared: leave some years out")
