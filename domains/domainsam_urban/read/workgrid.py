"""The grid that the networks look at: north-up, and fixed to the ground instead of to a file's corner.

A network with strides answers otherwise when its strides fall otherwise on the ground. On this grid the same
ground always falls on the same pixels, whichever file shows it: cut elsewhere, turned, in another projection,
or with other pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS as RasterCRS

from domainsam.infer.tiling import ALIGN
from domainsam_urban.read.geodesy import apply_affine, find_geographic_crs, parse_crs
from domainsam_urban.read.place import Place, measure_ground_pixel
from domainsam_urban.read.warp import STEPS, Knots, Warp

SURROUND = 2 * ALIGN
"""Pixels round a scene for networks that sweep it. They pad their edges with zeros and answer otherwise
beside them; on a grid that ends with its scene, that is on ground, and elsewhere in every file of it."""
OWN_PIXEL = 1.02
"""A scene whose pixels are within this factor of the wanted ones is looked at in its own: to move them by a
part of a pixel would only blur them."""
OWN_PHASE = 0.37
"""Part of a pixel from which a scene's own pixels count as the next ones of the lattice. Files begin at whole
pixels or halves, where rounding would waver, and hardly ever here."""
RUNG = 1 / 16
"""Pixels in degrees or stretched metres are the wanted one times a whole power of 2 to this: 4 % apart, so
that neighbouring files, whose centres differ a little, still share one lattice."""
MILESTONE, SCALE_DECIMALS = 1 << 14, 9
"""Pixels between milestones of the lattice, and decimals of a scale: over as many pixels it is off by less
than a ten-thousandth."""
MOST_DEGREES = 6.0
"""Scenes wider than a UTM zone are looked at in their own CRS."""
HAIR = 1e-6
"""Pixels; what ends on an edge does not reach beyond it for rounding's sake."""


@dataclass(frozen=True)
class Straight:
    """Both grids have the same axes: pixel ``i`` begins at ``offset + scale * (first + i)`` of the other.

    Each for rows and columns; the work grid's pixels on the scene, unless it is
    said otherwise. ``first`` counts from a place of the lattice, so that a pixel's
    place is computed alike in every grid of the lattice.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    first: tuple[int, int] = (0, 0)

    @property
    def starts(self) -> tuple[float, float]:
        """Where the first pixel begins."""
        down, across = (
            offset + scale * first
            for offset, scale, first in zip(self.offset, self.scale, self.first, strict=True)
        )
        return down, across

    @property
    def whole(self) -> bool:
        """Whether every pixel of the one is one of the other's."""
        return self.scale == (1.0, 1.0) and all(offset == round(offset) for offset in self.offset)


@dataclass(frozen=True, eq=False)
class WorkGrid:
    """A grid that networks look at.

    Parameters
    ----------
    shape
        Rows and columns.
    transform, crs
        Affine of pixel corners; its CRS, which need not be the scene's.
    anchor
        Rows and columns from the origin of the ground's lattice to the first pixel, multiples of 32; or 0.
    straight
        How it lies on the scene's view, if their axes agree; otherwise it is warped.
    """

    shape: tuple[int, int]
    transform: Affine
    crs: Any
    anchor: tuple[int, int] = (0, 0)
    straight: Straight | None = None

    @property
    def middle(self) -> tuple[float, float]:
        """Row and column of its centre."""
        return self.shape[0] / 2, self.shape[1] / 2

    def warp_from(self, place: Place) -> Warp:
        """Looks at a raster's pixels through this grid."""
        knots = Knots(self.transform, self.crs, place.affine, place.crs)
        return Warp(knots, self.middle, place.shape, _own_phase(place.affine))

    def warp_onto(self, place: Place) -> Warp:
        """Looks at this grid's pixels through a raster's."""
        knots = Knots(place.affine, place.crs, self.transform, self.crs)
        middle = place.shape[0] / 2, place.shape[1] / 2
        return Warp(knots, middle, self.shape, self.anchor)


def lay_on_file(view: Place, shape: tuple[int, int]) -> WorkGrid:
    """A grid of the extent of a file, from its corner on."""
    scale = view.shape[0] / shape[0], view.shape[1] / shape[1]
    return WorkGrid(
        shape, view.affine @ Affine.scale(scale[1], scale[0]), view.crs, (0, 0), Straight(scale, (0.0, 0.0))
    )


def lay_on_ground(
    view: Place, wanted: Place, ground: tuple[float, float], resolution: float | None, surround: int = 0
) -> WorkGrid | None:
    """The grid for a scene on the ground's lattice.

    Parameters
    ----------
    view
        The scene, turned round so that it is as near to north-up as whole quarter turns and mirrors go.
    wanted
        The part of it that an answer is wanted for; the same CRS.
    ground
        Height and width of a pixel in metres.
    resolution
        The pixel that the network has learnt, in metres; None for the scene's own.
    surround
        Pixels on each side of what is wanted that belong to the grid too; a multiple of the stride.

    Returns
    -------
    None if the scene's own pixels are wanted and do not run north-up.
    """
    upright = _is_upright(view)
    near = resolution is None or all(1 / OWN_PIXEL <= side / resolution <= OWN_PIXEL for side in ground)
    if upright and near:
        return _keep_pixels(view, wanted, surround)
    if resolution is None:
        return None
    crs = choose_work_crs(wanted)
    pixel = choose_work_pixel(wanted, crs, resolution)
    left, bottom, right, top = _bounds_in(wanted, crs)
    rows = _span(-top / pixel[0], -bottom / pixel[0], surround)
    cols = _span(left / pixel[1], right / pixel[1], surround)
    transform = Affine(pixel[1], 0, cols[0] * pixel[1], 0, -pixel[0], -rows[0] * pixel[0])
    shape = rows[1] - rows[0], cols[1] - cols[0]
    straight = None
    if upright and parse_crs(crs) == parse_crs(view.crs):
        own = view.affine
        # Places are counted from a milestone of the lattice: the noise in a file's numbers stays below what
        # rounding takes away, and files that begin a few pixels apart still share it.
        down, across = (first // MILESTONE * MILESTONE for first in (rows[0], cols[0]))
        scale = round(pixel[0] / -own.e, SCALE_DECIMALS), round(pixel[1] / own.a, SCALE_DECIMALS)
        offset = (-down * pixel[0] - own.f) / own.e, (across * pixel[1] - own.c) / own.a
        straight = Straight(
            scale, (_rounded(offset[0]), _rounded(offset[1])), (rows[0] - down, cols[0] - across)
        )
    return WorkGrid(shape, transform, crs, (rows[0], cols[0]), straight)


def _is_upright(view: Place) -> bool:
    """Whether rows run from north to south and columns from west to east, to a hundredth of a pixel."""
    affine, (rows, cols) = view.affine, view.shape
    slant = max(abs(affine.b) * rows / abs(affine.a or 1), abs(affine.d) * cols / abs(affine.e or 1))
    return bool(affine.a > 0 and affine.e < 0 and slant < 0.01)


def _own_phase(affine: Affine) -> tuple[int, int]:
    """Rows and columns from the origin of the lattice of a raster's own pixels to its first pixel."""
    col, row = ~affine @ (0.0, 0.0)
    return math.floor(OWN_PHASE - row), math.floor(OWN_PHASE - col)


def _keep_pixels(view: Place, wanted: Place, surround: int) -> WorkGrid:
    """The scene's own pixels, with so many before them that the grid begins at a stride of the ground."""
    corners = (~view.affine @ (wanted.affine @ spot) for spot in ((0, 0), wanted.shape[::-1]))
    phase = _own_phase(view.affine)
    starts, sizes, anchor = [], [], []
    # A file that runs from south to north ends where its view begins.
    for own, *ends in zip(phase, *(corner[::-1] for corner in corners), strict=True):
        begin = (own + round(min(ends))) // ALIGN * ALIGN - own - surround
        starts.append(begin)
        sizes.append(round(max(ends)) + surround - begin)
        anchor.append(own + begin)
    down, across = phase
    return WorkGrid(
        (sizes[0], sizes[1]),
        view.affine @ Affine.translation(starts[1], starts[0]),
        view.crs,
        (anchor[0], anchor[1]),
        Straight((1.0, 1.0), (float(-down), float(-across)), (anchor[0], anchor[1])),
    )


def _span(first: float, end: float, surround: int) -> tuple[int, int]:
    """Whole pixels that hold a stretch and what surrounds it; the first is a multiple of the stride."""
    start = math.floor(first / ALIGN + HAIR) * ALIGN
    return start - surround, max(start + 1, math.ceil(end - HAIR)) + surround


def _rounded(place: float) -> float:
    return round(place * STEPS) / STEPS


def choose_work_crs(place: Place) -> Any:
    """The CRS of the ground's lattice: UTM, so that a piece of ground has one lattice whatever a file's CRS.

    A scene in a UTM zone keeps it; of any other the zone of its centre is taken, on WGS 84. Where UTM does
    not reach, beyond 84 degrees north and 80 south, and for scenes wider than a zone, the scene's own CRS is
    kept.
    """
    if parse_crs(place.crs).utm_zone is not None:
        return place.crs
    base, degrees = find_geographic_crs(place.crs)
    rows, cols = place.shape
    spots = [(col, row) for row in (0.0, rows / 2, rows) for col in (0.0, cols / 2, cols)]
    x, y = apply_affine(place.affine, np.array(spots, np.float64)).T
    lon, lat = Transformer.from_crs(parse_crs(place.crs), base, always_xy=True).transform(x, y)
    lon, lat = np.asarray(lon) * degrees, np.asarray(lat) * degrees
    if not np.isfinite([lon, lat]).all() or np.ptp(lon) > MOST_DEGREES or lat.min() < -80 or lat.max() > 84:
        return place.crs
    zone = min(60, max(1, math.floor((lon[4] + 180) / 6) + 1))
    return RasterCRS.from_epsg((32600 if lat[4] >= 0 else 32700) + zone)


def choose_work_pixel(place: Place, crs: Any, resolution: float) -> tuple[float, float]:
    """Height and width of a pixel of the ground's lattice, in units of a CRS; in UTM the resolution."""
    if parse_crs(crs).utm_zone is not None and parse_crs(crs).axis_info[0].unit_conversion_factor == 1:
        return resolution, resolution
    # Such a CRS is the scene's own; its unit is measured at the scene's centre.
    x, y = place.affine @ (place.shape[1] / 2, place.shape[0] / 2)
    unit = math.sqrt(abs(place.affine.determinant))
    metres = measure_ground_pixel(crs, Affine(unit, 0, x - unit / 2, 0, -unit, y + unit / 2), (1, 1))
    down, across = (resolution * 2 ** (round(math.log2(unit / side) / RUNG) * RUNG) for side in metres)
    return down, across


def _bounds_in(place: Place, crs: Any) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a raster's edges in a CRS."""
    rows, cols = place.shape
    along = np.linspace(0, 1, 33)
    none, all_of = np.zeros_like(along), np.ones_like(along)
    sides = [(along, none), (along, all_of), (none, along), (all_of, along)]
    edges = np.concatenate([np.column_stack(side) for side in sides]) * (cols, rows)
    x, y = apply_affine(place.affine, edges).T
    source, target = parse_crs(place.crs), parse_crs(crs)
    if source != target:
        x, y = Transformer.from_crs(source, target, always_xy=True).transform(x, y)
    return float(np.min(x)), float(np.min(y)), float(np.max(x)), float(np.max(y))
