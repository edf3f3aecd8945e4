"""Look at a scene as a whole, decimated: how bright it is, and which undeclared value stands for no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.io.rasters import RASTER_ERRORS, overview_size
from domainsam_urban.read.bands import Radiometry, choose_rule, is_always_valid, make_full_range, stretch
from domainsam_urban.read.fill import Fill, find_fill
from domainsam_urban.read.pixels import RawPixels

STRIP_PIXELS = 1 << 19
"""Pixels held at a time while a scene is searched for data."""


@dataclass(frozen=True)
class Overview:
    """What a look at a whole scene has told: how its values are scaled, and which stands for no data."""

    radiometry: Radiometry
    fill: Fill | None


def look_over(
    path: str,
    dataset: Any,
    pixels: RawPixels,
    normalize: str,
    stats: Radiometry | Mapping[str, Any] | None,
    whole: bool,
) -> Overview:
    """What a look at a whole scene tells of its values.

    Parameters
    ----------
    dataset
        The open ``rasterio`` dataset.
    pixels
        What is taken of it, its fill not known yet.
    normalize, stats
        As of :class:`~domainsam_urban.read.scene.RasterSource`.
    whole
        Whether all of the scene is wanted. Of a part nothing is read that it does not need, not even to see
        whether there is any data.

    Raises
    ------
    InputError
        If there is no data, ``normalize`` is unknown, or ``stats`` are for another number of bands.
    """
    chosen = _choose_stated(path, dataset, pixels, normalize, stats)
    if chosen is not None and not whole:
        return Overview(chosen, None)
    rows, cols = dataset.height, dataset.width
    try:
        samples, valid = pixels.read(dataset, (0, rows), (0, cols), overview_size((rows, cols)))
    except RASTER_ERRORS:
        if chosen is None or pixels.nodata is not None or not is_always_valid(dataset, pixels.bands):
            raise
        # Wherever the file is damaged, reading that part will say so.
        return Overview(chosen, None)
    fill = find_fill(samples, valid) if pixels.nodata is None else None
    if fill is not None:
        valid &= ~(samples == fill.value).all(axis=0)
    if not valid.any():
        samples, valid = _read_first_data(path, dataset, replace(pixels, fill=fill))
    return Overview(chosen or stretch([band[valid] for band in samples]), fill)


def _choose_stated(
    path: str,
    dataset: Any,
    pixels: RawPixels,
    normalize: str,
    stats: Radiometry | Mapping[str, Any] | None,
) -> Radiometry | None:
    """The scaling that needs no look: a reference scene's, or the data type's range."""
    dtype, count = np.dtype(dataset.dtypes[pixels.bands[0] - 1]), len(pixels.bands)
    rule = choose_rule(dtype, normalize)
    chosen = Radiometry.from_dict(stats) if isinstance(stats, Mapping) else stats
    if chosen is not None and len(chosen.low) != count:
        raise InputError(f"{path}: the reference radiometry is for {len(chosen.low)} bands, not {count}")
    if chosen is None and rule == "dtype":
        return make_full_range(dtype, count)
    return chosen


def _read_first_data(path: str, dataset: Any, pixels: RawPixels) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values ``(C, h, w)`` of the first rows that hold any data, in full resolution, and where they do."""
    rows, cols = dataset.height, dataset.width
    step = max(1, STRIP_PIXELS // cols)
    for row in range(0, rows, step):
        samples, valid = pixels.read(dataset, (row, min(row + step, rows)), (0, cols))
        if valid.any():
            return samples, valid
    declared = pixels.nodata if pixels.nodata is not None else dataset.nodata
    what = f"nodata ({declared:g})" if declared is not None else "nodata"
    raise InputError(
        f"{path}: holds no data, all {rows} x {cols} pixels are {what}; check the file or --nodata"
    )
