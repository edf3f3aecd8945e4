"""Classify every pixel of all years in one pass: surely, by threshold, or possibly settlement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray

from domainsam.infer.blend import LEVELS, NODATA
from domainsam.io.rasters import GDAL_OPTIONS
from domainsam.protocols import Window
from domainsam_urban.trend.stack import YearStack, choose_sweep_size, tile_ground

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

NOT, POSSIBLY, LIKELY, SURELY = 0, 1, 2, 3
"""Classes of a pixel. From ``LIKELY`` on it reaches the threshold: that is the map."""


@dataclass(frozen=True)
class Thresholds:
    """Smallest stored values that are settlement: strictly, centrally and laxly judged."""

    strict: int
    central: int
    lax: int

    @classmethod
    def around(cls, central: int, spread: float) -> Thresholds:
        """Moved by ``spread``, a probability, either way, but never to 0 or above 1."""
        moved = round(spread * LEVELS)
        return cls(min(central + moved, LEVELS), central, max(central - moved, 1))


@dataclass(frozen=True, eq=False)
class Sight:
    """What the years show in one window.

    Parameters
    ----------
    values
        ``(Y, h, w)`` stored probabilities, 255 without data.
    classes
        ``(Y, h, w)`` :data:`NOT` to :data:`SURELY`; see :func:`classify`.
    valid
        ``(h, w)`` pixels that all years saw.
    """

    window: Window
    values: Bytes
    classes: Bytes
    valid: Bools


def sweep(stack: YearStack, thresholds: Thresholds, size: int | None = None) -> Iterator[Sight]:
    """Windows of the ground, row by row, by default as large as the number of years allows."""
    rows, columns = stack.ground.shape
    side = size or choose_sweep_size(len(stack.years))
    with ExitStack() as files:
        files.enter_context(rasterio.Env(**GDAL_OPTIONS))
        years = [files.enter_context(rasterio.open(year.probability)) for year in stack.years]
        common = files.enter_context(rasterio.open(stack.common_valid))
        for window in tile_ground(stack.ground.shape, side):
            top, left = max(window.row - 1, 0), max(window.col - 1, 0)
            bottom = min(window.row + window.height + 1, rows)
            right = min(window.col + window.width + 1, columns)
            around = ((top, bottom), (left, right))
            inner = np.s_[
                window.row - top : window.row - top + window.height,
                window.col - left : window.col - left + window.width,
            ]
            values = np.empty((len(years), window.height, window.width), np.uint8)
            classes = np.empty_like(values)
            for index, year in enumerate(years):
                read: Bytes = year.read(1, window=around)
                values[index] = read[inner]
                classes[index] = classify(read, thresholds)[inner]
            yield Sight(window, values, classes, common.read(1, window=around)[inner] == 1)


def classify(values: Bytes, thresholds: Thresholds) -> Bytes:
    """How sure the map is of every pixel, its outlines being known to about a pixel.

    Surely settlement is what reaches the strict threshold together with its
    eight neighbours; possibly what has a neighbour that reaches the lax one.
    Neighbours without data have no say.

    Parameters
    ----------
    values
        ``(h, w)`` stored probabilities; pixels at the rim lack neighbours.

    Returns
    -------
    NDArray
        ``(h, w)`` classes; no data is :data:`NOT`.
    """
    known = values != NODATA
    strict = ~_widened((values < thresholds.strict) & known) & known
    lax = _widened((values >= thresholds.lax) & known) & known
    central = (values >= thresholds.central) & known
    return np.asarray(lax.astype(np.uint8) + central + strict, dtype=np.uint8)


def _widened(mask: Bools) -> Bools:
    """A mask with the eight neighbours of its pixels."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wider = wide.copy()
    wider[:, 1:] |= wide[:, :-1]
    wider[:, :-1] |= wide[:, 1:]
    return wider
