"""Outlines of a mask, traced by streaming it from disk.

GDAL reads the raster line by line and keeps only open outlines, so memory
follows the geometry and not the pixels. Coordinates here are pixel corners,
``(column, row)``, always whole numbers: exact under any geotransform.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
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
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from domainsam.errors import InputError, MissingInputError
from domainsam_urban.geodesy import apply_affine

BATCH = 4096
WINDOW = 1024
CACHE_BYTES = 64 * 2**20
"""GDAL's block cache while streaming; its own default, 5 % of the machine, would look like a leak."""


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


@contextmanager
def open_raster(path: Path | str) -> Iterator[Any]:
    """Open a raster for streaming: small cache, no complaint about a missing georeference.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If the file is not a raster.
    """
    if not str(path).startswith("/vsi") and not Path(path).is_file():
        raise MissingInputError(f"raster '{path}' does not exist: check the path")
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path)
        except RasterioError as error:
            raise InputError(f"'{path}' cannot be read as a raster ({error}); expected a GeoTIFF") from error
        with dataset:
            yield dataset


def windows(shape: tuple[int, int], size: int = WINDOW) -> Iterator[Window]:
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
    return traced.take(row_major(polygons))


def polygons_only(shapes: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
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


def row_major(polygons: NDArray[np.object_]) -> NDArray[np.int64]:
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
        for window in windows(dataset.shape):
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
    polygons, owner = polygons_only(corners)
    traced = Traced(polygons, values[owner])
    return traced if wanted is None else traced.take(wanted(polygons))


def _batched(items: Iterator[tuple[Any, int]], size: int) -> Iterator[list[tuple[Any, int]]]:
    while batch := list(islice(items, size)):
        yield batch
