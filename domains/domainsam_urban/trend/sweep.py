"""One pass over all years, a window at a time, with masks made soft at their outlines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.infer.blend import LEVELS, NODATA
from domainsam.protocols import Window
from domainsam_urban.handles import GDAL_OPTIONS
from domainsam_urban.trend.stack import YearStack, ground_windows, sweep_size

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sight:
    """What the years show in one window.

    Parameters
    ----------
    values
        ``(Y, h, w)`` stored probabilities, 255 without data.
    valid
        ``(h, w)`` pixels that all years saw.
    """

    window: Window
    values: Bytes
    valid: Bools


def sweep(stack: YearStack, size: int | None = None) -> Iterator[Sight]:
    """Windows of the ground, row by row, by default as large as the number of years allows.

    A year that is sure of every pixel of a window (a mask) says nothing of its
    own doubt. Its outline is then taken to be known to about a pixel: see
    :func:`soft_outline`.
    """
    rows, columns = stack.ground.shape
    side = size or sweep_size(len(stack.years))
    with ExitStack() as files:
        files.enter_context(rasterio.Env(**GDAL_OPTIONS))
        years = [files.enter_context(rasterio.open(year.probability)) for year in stack.years]
        common = files.enter_context(rasterio.open(stack.common_valid))
        for window in ground_windows(stack.ground.shape, side):
            top, left = max(window.row - 1, 0), max(window.col - 1, 0)
            bottom = min(window.row + window.height + 1, rows)
            right = min(window.col + window.width + 1, columns)
            around = ((top, bottom), (left, right))
            inner = np.s_[
                window.row - top : window.row - top + window.height,
                window.col - left : window.col - left + window.width,
            ]
            values = np.stack([_read(year, around, stack.threshold)[inner] for year in years])
            yield Sight(window, values, common.read(1, window=around)[inner] == 1)


def _read(year: rasterio.DatasetReader, around: object, threshold: int) -> Bytes:
    values: Bytes = year.read(1, window=around)
    sure = (values == 0) | (values >= LEVELS)
    return soft_outline(values, threshold) if sure.all() else values


def soft_outline(values: Bytes, threshold: int) -> Bytes:
    """A mask with doubt at its outline: the share of mask pixels among each pixel's nine neighbours.

    A straight outline gets two thirds inside and one third outside, so bounds
    of 0.2 around a threshold of one half move it by one pixel either way.
    Which pixels reach the threshold does not change.

    Parameters
    ----------
    values
        ``(h, w)`` of 0, 254 and 255 (no data) alone.
    threshold
        Smallest stored value that is settlement.
    """
    inside, known = values == LEVELS, values != NODATA
    share = ndimage.uniform_filter(inside.astype(np.float32), 3, mode="nearest")
    seen = ndimage.uniform_filter(known.astype(np.float32), 3, mode="nearest")
    soft = np.rint(LEVELS * share / np.maximum(seen, 1 / 9)).clip(0, LEVELS).astype(np.uint8)
    soft = np.where(inside, np.maximum(soft, threshold), np.minimum(soft, max(threshold - 1, 0)))
    return np.where(known, soft, NODATA).astype(np.uint8)
