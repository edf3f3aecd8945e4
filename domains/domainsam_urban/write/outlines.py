"""Trace the outlines of a mask by streaming it from disk.

GDAL reads the raster line by line and keeps only open outlines, so memory
follows the geometry and not the pixels. Coordinates here are pixel corners,
``(column, row)``, always whole numbers: exact under any geotransform.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio import features
from rasterio.errors import RasterioError
from rasterio.windows import Window

from domainsam.errors import InputError
from domainsam.grid import Float64
from domainsam.io.rasters import open_raster
from domainsam_urban.read.geodesy import GroundFrame, apply_affine, keep_polygons

BATCH = 4096
WINDOW = 1024


@dataclass(frozen=True, eq=False)
class Traced:
    """Polygons of a mask in pixel corners, in row-major order of their first pixel.

    Parameters
    ----------
    polygons
        ``(N,)`` valid shapely Polygons.
    values
        ``(N,)`` int64, the mask value of each.
    """

    polygons: NDArray[np.object_]
    values: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.polygons)

    def take(self, index: NDArray[Any]) -> Traced:
        """The polygons at ``index``: positions or a boolean array."""
        return Traced(self.polygons[index], self.values[index])


def list_windows(shape: tuple[int, int], size: int = WINDOW) -> Iterator[Window]:
    """Windows of at most ``size`` squared pixels that tile a raster, row by row."""
    for row in range(0, shape[0], size):
        for column in range(0, shape[1], size):
            yield Window(column, row, min(size, shape[1] - column), min(size, shape[0] - row))


def trace(
    mask_path: Path | str,
    values: Collection[int] = (1,),
    wanted: Callable[[NDArray[np.object_]], NDArray[np.bool_]] | None = None,
) -> Traced:
    """Trace the 4-connected regions of a single-band mask.

    Pixels that only touch at a corner belong to different polygons, so no ring
    crosses or runs over itself.

    Parameters
    ----------
    mask_path
        Raster of integers; 0 is outside and never traced.
    values
        Mask values to keep; all others (255, nodata, among them) are passed over.
    wanted
        Says of polygons in pixel corners which to keep; asked a few thousand
        at a time, so that a mask full of specks does not fill the memory.

    Raises
    ------
    InputError
        If the mask has several bands, is not of integers, or cannot be read.
    """
    with open_raster(mask_path) as dataset:
        if dataset.count != 1 or not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            raise InputError(
                f"mask '{mask_path}' has {dataset.count} band(s) of {dataset.dtypes[0]}: "
                "expected one band of integers (1 inside, 0 outside, 255 nodata)"
            )
        _check_readable(dataset, mask_path)
        kept = [
            _batch(outlines, ~dataset.transform, wanted)
            for outlines in _batched(_outlines(dataset, values), BATCH)
        ]
    if not kept:
        return Traced(np.empty(0, dtype=object), np.empty(0, dtype=np.int64))
    polygons = np.concatenate([batch.polygons for batch in kept])
    traced = Traced(polygons, np.concatenate([batch.values for batch in kept]))
    return traced.take(sort_row_major(polygons))


def sort_row_major(polygons: NDArray[np.object_]) -> NDArray[np.int64]:
    """Order of polygons in pixel corners by their topmost row, then its leftmost column."""
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    column = np.full(len(polygons), np.inf)
    row = shapely.bounds(polygons)[:, 1]
    topmost = points[:, 1] == row[owner]
    np.minimum.at(column, owner[topmost], points[topmost, 0])
    return np.lexsort((column, row))


def _check_readable(dataset: Any, name: Path | str) -> None:
    """Read everything once: on a damaged file, GDAL's tracing ends early without a word."""
    try:
        for window in list_windows(dataset.shape):
            dataset.read(1, window=window)
    except RasterioError as error:
        raise InputError(f"mask '{name}' is damaged ({error}): make it again") from error


def _outlines(dataset: Any, values: Collection[int]) -> Iterator[tuple[Any, int]]:
    """Polygons in the raster's CRS with their value, as GDAL closes them."""
    band = rasterio.band(dataset, 1)
    # rasterio takes bytes alone as a mask; without one, the background is traced and passed over.
    mask = band if dataset.dtypes[0] == "uint8" else None
    for outline, value in features.shapes(band, mask=mask, connectivity=4):
        if int(value) in values:
            rings = outline["coordinates"]
            yield shapely.Polygon(rings[0], rings[1:]), int(value)


def _batch(
    outlines: Sequence[tuple[Any, int]],
    back: Affine,
    wanted: Callable[[NDArray[np.object_]], NDArray[np.bool_]] | None,
) -> Traced:
    """Outlines brought to pixel corners; rounding undoes the geotransform's float noise."""
    shapes = np.empty(len(outlines), dtype=object)
    shapes[:] = [polygon for polygon, _ in outlines]
    values = np.asarray([value for _, value in outlines], dtype=np.int64)
    corners = shapely.transform(shapes, lambda points: np.rint(apply_affine(back, points)))
    polygons, owner = keep_polygons(corners)
    traced = Traced(polygons, values[owner])
    return traced if wanted is None else traced.take(wanted(polygons))


def _batched(items: Iterator[tuple[Any, int]], size: int) -> Iterator[list[tuple[Any, int]]]:
    while batch := list(islice(items, size)):
        yield batch


LARGEST_CHANGE = 0.05
"""Share of its area that thinning may give or take from a polygon."""


def measure_ground_area(polygons: NDArray[np.object_], frame: GroundFrame) -> Float64:
    """Area ``(N,)`` of polygons in pixel corners, in the frame's equal-area plane: fast, for thresholds."""
    area: Float64 = shapely.area(shapely.transform(polygons, frame.to_ground))
    return area


def close_holes(traced: Traced, frame: GroundFrame, area_m2: float) -> Traced:
    """Fill the holes smaller than ``area_m2``.

    Polygons of the same value that lie in a filled hole are swallowed by it. A
    hole that holds another value stays open: filling it would make two classes
    claim one place.

    Parameters
    ----------
    area_m2
        Square metres on the ground (square pixels in a frame without a CRS).
    """
    holed = np.flatnonzero(shapely.get_num_interior_rings(traced.polygons) > 0)
    if area_m2 <= 0 or not len(holed):
        return traced
    rings, owner = shapely.get_rings(traced.polygons[holed], return_index=True)
    inner = np.r_[False, owner[1:] == owner[:-1]]
    holes, owner = shapely.polygons(rings[inner]), holed[owner[inner]]
    small = measure_ground_area(holes, frame) < area_m2
    hole, island = shapely.STRtree(traced.polygons).query(holes, predicate="covers")
    other = traced.values[island] != traced.values[owner[hole]]
    small[hole[other]] = False
    keep = np.ones(len(traced), dtype=bool)
    keep[island[small[hole]]] = False
    polygons = traced.polygons.copy()
    for index in np.unique(owner[small]):
        open_still = rings[inner][(owner == index) & ~small]
        polygons[index] = shapely.Polygon(polygons[index].exterior, list(open_still))
    return Traced(polygons[keep], traced.values[keep])


def simplify(polygons: NDArray[np.object_], frame: GroundFrame, tolerance_m: float) -> NDArray[np.object_]:
    """Drop vertices whose triangle is smaller than ``tolerance_m`` squared, on shared edges alike.

    This is Visvalingam and Whyatt's measure (1993) on all polygons as one
    coverage: an edge between two neighbours stays one edge, places where three
    meet stay, no edge crosses another. Vertices are only ever dropped, so those
    that remain are still exact pixel corners. A staircase of pixels of size s
    is straight from a tolerance of about s on.

    Parameters
    ----------
    polygons
        ``(N,)`` valid Polygons in pixel corners that do not overlap.
    tolerance_m
        Metres on the ground (pixels in a frame without a CRS).

    Returns
    -------
    NDArray
        ``(N,)`` polygons in the order given. One that is too small for the
        tolerance, so that its area would change by more than
        :data:`LARGEST_CHANGE`, is left as it was.
    """
    if tolerance_m <= 0 or not len(polygons):
        return polygons

    def to_corners(points: Float64) -> Float64:
        return np.rint(frame.to_pixels(points))

    if not shapely.coverage_is_valid(polygons):
        # Where three classes meet, one of them may run straight past: give all the same corners.
        polygons = shapely.transform(shapely.segmentize(polygons, 1.0), np.rint)
    try:
        coverage = shapely.coverage_simplify(shapely.transform(polygons, frame.to_ground), tolerance_m)
    except shapely.GEOSException:
        # GEOS refuses coverages that touch in ways it cannot node; full detail is still right.
        return polygons
    thinned: NDArray[np.object_] = shapely.transform(coverage, to_corners)
    return _restore_small(polygons, thinned)


def _restore_small(polygons: NDArray[np.object_], thinned: NDArray[np.object_]) -> NDArray[np.object_]:
    """Give polygons that thinning made a caricature their outline back, where neighbours allow it.

    A square of a few pixels becomes a triangle of half its area. It is restored
    unless its old outline would now cross or leave a neighbour's new one.
    """
    change = np.abs(shapely.area(thinned) / shapely.area(polygons) - 1)
    spoilt = change > LARGEST_CHANGE
    restored = np.where(spoilt, polygons, thinned)
    clash = ~shapely.is_empty(shapely.coverage_invalid_edges(restored))
    result: NDArray[np.object_] = np.where(spoilt & ~clash, polygons, thinned)
    return result if shapely.coverage_is_valid(result) else thinned
