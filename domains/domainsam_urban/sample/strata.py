"""Divide the ground into the strata that a sample is drawn by, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from math import ceil

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.infer.blend import NODATA
from domainsam.io.rasters import GDAL_OPTIONS
from domainsam.protocols import Window
from domainsam_urban.trend.stack import YearStack, choose_sweep_size, tile_ground

OTHER, BUFFER, SETTLEMENT, GAIN, LOSS, MIXED = range(6)
UNSEEN = 255
NAMES = ("other", "buffer", "settlement", "gain", "loss", "mixed")
"""What a stratum's ground is by the maps.

``other``: no year shows settlement, nor near by; ``buffer``: none does, but one does near by, where
settlement is missed most often; ``settlement``: every year does; ``gain``: from some year on; ``loss``: up to
some year; ``mixed``: it comes and goes more than once.
"""


def stratify(settled: NDArray[np.bool_], near: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Strata ``(h, w)`` of ground that all years saw.

    Parameters
    ----------
    settled
        ``(Y, h, w)`` what each year's map calls settlement, in order of time.
    near
        ``(h, w)`` whether some year's map shows settlement near by.
    """
    steps = np.diff(settled.astype(np.int8), axis=0)
    turns = np.abs(steps).sum(axis=0)
    strata = np.where(near, BUFFER, OTHER).astype(np.uint8)
    strata[settled.any(axis=0)] = MIXED
    strata[settled.all(axis=0)] = SETTLEMENT
    strata[(turns == 1) & (steps.sum(axis=0) == 1)] = GAIN
    strata[(turns == 1) & (steps.sum(axis=0) == -1)] = LOSS
    return strata


def sweep_strata(stack: YearStack, buffer_m: float) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Windows of the ground and their strata ``(h, w)``, :data:`UNSEEN` where some year has no data.

    The same whatever the windows are: each is looked at with its surroundings.
    """
    ground = stack.ground
    halo = ceil(buffer_m / ground.pixel_m)
    with ExitStack() as opened:
        opened.enter_context(rasterio.Env(**GDAL_OPTIONS))
        years = [opened.enter_context(rasterio.open(year.probability)) for year in stack.years]
        valid = opened.enter_context(rasterio.open(stack.common_valid))
        for window in tile_ground(ground.shape, choose_sweep_size(len(years))):
            top, left = max(0, window.row - halo), max(0, window.col - halo)
            bottom = min(ground.height, window.row + window.height + halo)
            right = min(ground.width, window.col + window.width + halo)
            bounds = ((top, bottom), (left, right))
            values = np.stack([dataset.read(1, window=bounds) for dataset in years])
            settled = (values >= stack.threshold) & (values != NODATA)
            seen = valid.read(1, window=bounds) == 1
            strata = stratify(settled, find_near(settled.any(axis=0), buffer_m / ground.pixel_m))
            strata[~seen] = UNSEEN
            inner = np.s_[window.row - top :, window.col - left :]
            yield window, strata[inner][: window.height, : window.width]


def find_near(settled: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Pixels whose centre lies within ``reach`` pixels of a settlement's pixel's centre, itself included."""
    if not settled.any() or reach <= 0:
        return np.zeros(settled.shape, dtype=bool)
    return np.asarray(ndimage.distance_transform_edt(~settled) <= reach, dtype=bool)


def count_strata(stack: YearStack, buffer_m: float) -> NDArray[np.int64]:
    """Pixels of each stratum, ``(6,)`` in the order of :data:`NAMES`."""
    counts = np.zeros(len(NAMES), dtype=np.int64)
    for _, strata in sweep_strata(stack, buffer_m):
        counts += np.bincount(strata[strata != UNSEEN], minlength=len(NAMES))
    return counts
