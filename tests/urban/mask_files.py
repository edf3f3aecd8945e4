"""Small rasters for the tests, built in code."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import ArrayLike
from rasterio.errors import NotGeoreferencedWarning

UTM = "EPSG:32650"
METRE = Affine(1, 0, 450000, 0, -1, 4430000)


def write_raster(
    path: Path,
    values: ArrayLike,
    transform: Affine = METRE,
    crs: Any = UTM,
    nodata: float | None = 255,
    **profile: Any,
) -> Path:
    """Write ``(rows, columns)`` or ``(bands, rows, columns)`` as a GeoTIFF."""
    array = np.asarray(values)
    bands = array if array.ndim == 3 else array[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(bands),
            height=bands.shape[1],
            width=bands.shape[2],
            dtype=bands.dtype,
            transform=transform,
            crs=crs,
            nodata=nodata,
            **profile,
        ) as dataset:
            dataset.write(bands)
    return path


def blobs(shape: tuple[int, int], seed: int, cover: float = 0.3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Ragged random regions, some touching only at corners, some with holes."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((shape[0] // 8 + 1, shape[1] // 8 + 1)) < cover
    mask = np.kron(coarse, np.ones((8, 8), dtype=bool))[: shape[0], : shape[1]]
    return (mask ^ (rng.random(shape) < 0.02)).astype(np.uint8)
