"""Means of a raster inside polygons, a window at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio import features
from rasterio.errors import RasterioError
from rasterio.windows import Window

from domainsam.errors import InputError
from domainsam.grid import Float64
from domainsam_urban.tracing import open_raster, windows

PROBABILITY_STEPS = 254
"""A probability p is stored as p * 254 rounded in uint8; 255 is nodata."""


def mean_probability(
    polygons: NDArray[np.object_], probability_path: Path | str, shape: tuple[int, int]
) -> Float64:
    """Mean probability of the pixels whose centre lies in each polygon.

    Parameters
    ----------
    polygons
        ``(N,)`` Polygons in pixel corners of the raster, not overlapping.
    probability_path
        Band 1 is read: uint8 steps of 1/254 with 255 for nodata, or floats in
        0..1 with NaN or the declared nodata.
    shape
        Rows and columns the raster must have.

    Returns
    -------
    Float64
        ``(N,)`` means in 0..1, NaN where a polygon holds no valid pixel.

    Raises
    ------
    InputError
        If the raster has another size, or cannot be read.
    """
    total = np.zeros(len(polygons) + 1)
    count = np.zeros(len(polygons) + 1)
    tree = shapely.STRtree(polygons)
    with open_raster(probability_path) as dataset:
        if dataset.shape != shape:
            raise InputError(
                f"probability '{probability_path}' is {dataset.shape}, its mask {shape}: use one grid"
            )
        for window in windows(shape):
            zones = _zones(polygons, tree, window)
            if zones is None:
                continue
            try:
                raw = dataset.read(1, window=window)
            except RasterioError as error:
                raise InputError(
                    f"probability '{probability_path}' is damaged ({error}): make it again"
                ) from error
            inside = zones > 0
            value, valid = _decoded(raw[inside], dataset.nodata)
            zone = zones[inside][valid]
            total += np.bincount(zone, weights=value[valid], minlength=len(total))
            count += np.bincount(zone, minlength=len(count))
    with np.errstate(invalid="ignore"):
        means: Float64 = total[1:] / np.where(count[1:] > 0, count[1:], np.nan)
    return means


def _zones(polygons: NDArray[np.object_], tree: Any, window: Window) -> NDArray[np.int32] | None:
    """Number of the polygon, from 1, that each pixel of a window lies in; None if there is no polygon."""
    column, row, width, height = window.flatten()
    bounds = (column, row, column + width, row + height)
    hits = np.sort(tree.query(shapely.box(*bounds)))
    # Clipped first: an outline of a million points need not be walked for every window.
    pieces = shapely.clip_by_rect(polygons[hits], *bounds)
    # A polygon that only touches the window leaves a piece without area, which would be burnt as a line.
    inside = shapely.area(pieces) > 0
    if not inside.any():
        return None
    zones: NDArray[np.int32] = features.rasterize(
        zip(pieces[inside], hits[inside] + 1, strict=True),
        out_shape=(height, width),
        transform=Affine.translation(column, row),
        dtype="int32",
    )
    return zones


def _decoded(raw: NDArray[Any], nodata: float | None) -> tuple[Float64, NDArray[np.bool_]]:
    if raw.dtype == np.uint8:
        return raw / PROBABILITY_STEPS, raw != 255
    value = raw.astype(np.float64)
    valid = np.isfinite(value)
    if nodata is not None:
        valid &= value != nodata
    return value, valid
