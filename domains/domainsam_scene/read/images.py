"""Read image files of sensors (PNG, JPEG, TIFF, npy, npz) as arrays.

GDAL reads pictures, because it keeps 16 bits a channel, palettes and
nodata; numpy reads its own files, never unpickling.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from domainsam.errors import InputError, MissingInputError
from domainsam.io.arrays import read_npy, read_npz
from domainsam.io.rasters import RASTER_ERRORS, open_quietly, reason
from domainsam.limits import require_memory
from domainsam.names import show
from domainsam.network import gdal_settings
from domainsam.reading import reads

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
ARRAYS = (".npy", ".npz")
SUFFIXES = (*PICTURES, *ARRAYS)
"""File endings that can be read."""

PIXEL_BYTES = 12
"""Bytes a pixel and band while a picture is read: as stored, as float32, and a copy in 0 to 1."""


@dataclass(frozen=True, eq=False)
class RawImage:
    """What a file holds: ``values`` ``(C, H, W)`` of its own type, ``valid`` ``(H, W)`` bool."""

    values: NDArray[Any]
    valid: NDArray[np.bool_]


@reads("an image")
def read_image(path: Path, *, indices: bool = False) -> RawImage:
    """Read a file as it is.

    Parameters
    ----------
    path
        A picture (``(C, H, W)`` or ``(H, W, C)`` in numpy files, whichever has 4 channels or fewer).
    indices
        Keep the numbers of a picture with a palette, as labels need it; otherwise it turns into colours.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged or not an image.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if path.suffix.lower() in ARRAYS:
        return _array_image(path)
    return _picture(path, indices)


@reads("an array of numpy")
def read_array(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, or the one array of a ``.npz`` file.

    Raises
    ------
    InputError
        If the file is damaged, or holds anything but one array of numbers.
    """
    if path.suffix.lower() != ".npz":
        return read_npy(path)
    arrays = read_npz(path)
    if len(arrays) != 1:
        held = show(", ".join(list(arrays)[:6])) or "none"
        raise InputError(f"{path}: holds {len(arrays)} arrays ({held}), expected one")
    return next(iter(arrays.values()))


def _array_image(path: Path) -> RawImage:
    array = read_array(path)
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and array.shape[2] <= 4 < array.shape[0]:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] > 4 or 0 in array.shape:
        raise InputError(f"{path}: has shape {array.shape}, expected (H, W), or with up to 4 channels")
    return RawImage(array, _finite(array))


def _picture(path: Path, indices: bool) -> RawImage:
    try:
        with rasterio.Env(**gdal_settings(path)), open_quietly(path) as dataset:
            size = f"{dataset.width} x {dataset.height} pixels in {dataset.count} bands"
            pixels = dataset.width * dataset.height * dataset.count
            require_memory(path, PIXEL_BYTES * pixels, size)
            values = dataset.read()
            valid = _finite(values)
            if dataset.nodata is not None and not indices:
                valid &= ~np.all(values == dataset.nodata, axis=0)
            palette = dataset.colormap(1) if _has_palette(dataset) and not indices else None
            alpha = ColorInterp.alpha in dataset.colorinterp
    except RASTER_ERRORS as error:
        raise InputError(
            f"{path}: is damaged, truncated or not an image ({reason(error)}); copy or download it again"
        ) from error
    if palette is not None:
        table = np.array([palette.get(value, (0, 0, 0, 255))[:3] for value in range(256)], np.uint8)
        values = table[values[0]].transpose(2, 0, 1)
    elif alpha and len(values) in (2, 4):
        values = values[:-1]
    return RawImage(values, valid)


def _has_palette(dataset: Any) -> bool:
    return bool(dataset.count == 1 and dataset.colorinterp[0] == ColorInterp.palette)


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind != "f":
        return np.ones(values.shape[1:], bool)
    return np.asarray(np.isfinite(values).all(axis=0))
