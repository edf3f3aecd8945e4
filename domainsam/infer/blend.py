"""Blend overlapping tiles with Hann weights in a band of rows that is flushed as rows finish."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.protocols import Window

NODATA = 255
"""Stored value of a pixel without data."""
LEVELS = 254
"""Stored value of probability 1: ``p`` is kept as ``round(254 p)``."""


def quantise(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities 0 to 1 as stored values 0 to 254, to the nearest."""
    return np.rint(probability * LEVELS).astype(np.uint8)


def find_threshold_level(threshold: float) -> int:
    """Smallest stored value whose probability reaches ``threshold``, at least 1."""
    return max(1, int(np.ceil(threshold * LEVELS - 1e-9)))


@cache
def hann(size: int) -> NDArray[np.float32]:
    """Hann weights at pixel centres, ``(size,)`` float32, all above 0.

    Sampling at centres, ``sin^2(pi (i + 1/2) / size)``, avoids the zeros at
    both ends that would leave a frame of nodata around a scene.
    """
    weights = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    weights = weights.astype(np.float32)
    weights.setflags(write=False)
    return weights


@cache
def hann_window(height: int, width: int) -> NDArray[np.float32]:
    """Separable Hann weights ``(height, width)`` float32, all above 0."""
    weights: NDArray[np.float32] = hann(height)[:, None] * hann(width)[None, :]
    weights.setflags(write=False)
    return weights


@cache
def taper(size: int, margin: int, start: bool, end: bool) -> NDArray[np.float32]:
    """Weights of a tile along an axis, ``(size,)`` float32: Hann's between margins that weigh nothing.

    Parameters
    ----------
    size
        Pixels of the tile.
    margin
        Pixels at either side that weigh nothing; 0 gives :func:`hann`.
    start, end
        Whether a neighbour answers at that side. Where the scene ends there is none, and no margin.
    """
    if not margin or not (start or end):
        return hann(size)
    place = np.arange(size) + 0.5
    weights = np.ones(size)
    for distance, shared in ((place, start), (size - place, end)):
        first = margin if shared else 0
        rise = np.clip((distance - first) / (size / 2 - first), 0, 1)
        np.minimum(weights, np.sin(np.pi / 2 * rise) ** 2, out=weights)
    answer: NDArray[np.float32] = weights.astype(np.float32)
    answer.setflags(write=False)
    return answer


def clip_window(window: Window, rows: tuple[int, int], cols: tuple[int, int]) -> Window:
    """The part of a window inside half-open row and column ranges; may be empty."""
    top, left = max(window.row, rows[0]), max(window.col, cols[0])
    bottom = min(window.row + window.height, rows[1])
    right = min(window.col + window.width, cols[1])
    return Window(top, left, max(0, bottom - top), max(0, right - left), window.frame)


def slice_within(part: Window, origin: tuple[int, int]) -> tuple[slice, slice]:
    """Slices of ``part`` in an array whose first element is scene pixel ``origin``."""
    return Window(part.row - origin[0], part.col - origin[1], part.height, part.width).slices


class Band:
    """A band of rows of float32 planes that slides down a scene.

    Parameters
    ----------
    planes
        Number of planes kept for every pixel.
    height
        Most rows that are unfinished at one time: a tile's height.
    columns
        Scene columns covered, first and end.
    top
        First unfinished scene row.
    """

    def __init__(self, planes: int, height: int, columns: tuple[int, int], top: int = 0) -> None:
        self.columns = columns
        self.top = top
        self.planes = np.zeros((planes, height, columns[1] - columns[0]), dtype=np.float32)

    def view(self, window: Window) -> tuple[NDArray[np.float32], tuple[slice, slice]]:
        """The band's planes under a window ``(planes, h, w)``, and that part's slices in the window."""
        part = clip_window(window, (self.top, self.top + self.planes.shape[1]), self.columns)
        rows, cols = slice_within(part, (self.top, self.columns[0]))
        return self.planes[:, rows, cols], slice_within(part, (window.row, window.col))

    def finish(self, end: int) -> NDArray[np.float32]:
        """The planes ``(planes, rows, width)`` of all rows before ``end``; the band then starts there."""
        count = end - self.top
        done = self.planes[:, :count].copy()
        keep = max(0, self.planes.shape[1] - count)
        self.planes[:, :keep] = self.planes[:, count:].copy()
        self.planes[:, keep:] = 0
        self.top = end
        return done


class BandBlend:
    """Weighted means of overlapping planes in a sliding band.

    Weighted sums are float32, added in the order of the calls, so a band gives
    bit for bit what accumulators of the whole scene would give.

    Parameters
    ----------
    height, columns, top
        As of :class:`Band`.
    planes
        Number of planes that are blended.
    margin
        Pixels along the edges of a tile that weigh nothing where a neighbour
        answers; less than half of what neighbours share.
    shape
        Rows and columns of the scene, whose edges have no neighbours; needed with a margin.
    """

    def __init__(
        self,
        height: int,
        columns: tuple[int, int],
        top: int = 0,
        planes: int = 1,
        margin: int = 0,
        shape: tuple[int, int] = (0, 0),
    ) -> None:
        self.band = Band(planes + 1, height, columns, top)
        self._margin, self._shape = margin, shape

    def add(self, window: Window, values: Sequence[NDArray[Any]], valid: NDArray[np.bool_]) -> None:
        """Add one tile's planes, each ``(h, w)``; pixels that are not valid carry no weight."""
        sums, part = self.band.view(window)
        weight = self._weights(window)[part] * valid[part]
        for total, value in zip(sums[:-1], values, strict=True):
            total += weight * value[part].astype(np.float32, copy=False)
        sums[-1] += weight

    def _weights(self, window: Window) -> NDArray[np.float32]:
        if not self._margin:
            return hann_window(window.height, window.width)
        down, across = (
            taper(size, self._margin, first > 0, first + size < length)
            for size, first, length in zip(
                (window.height, window.width), (window.row, window.col), self._shape, strict=True
            )
        )
        return np.asarray(down[:, None] * across[None, :], dtype=np.float32)

    def finish(self, end: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Means ``(planes, rows, width)`` of all rows before ``end``, and where any tile was valid."""
        sums = self.band.finish(end)
        weight = sums[-1]
        seen = weight > 0
        return np.divide(sums[:-1], weight, out=np.zeros_like(sums[:-1]), where=seen), seen


def store_shares(shares: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Shares 0 to 1 as stored bytes, :data:`NODATA` where nothing was seen."""
    return np.where(seen, quantise(np.clip(shares, 0, 1)), np.uint8(NODATA))
