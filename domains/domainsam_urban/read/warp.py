"""Look at a raster through another grid, turned or in another projection, by windows.

As in :mod:`domainsam.io.resample` a window's values do not depend on where the window lies: places are exact
at knots that are fixed to the grid, and linear between them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from scipy import ndimage

from domainsam.io.resample import SPLINE_REACH, find_spline, find_spread
from domainsam.protocols import Window
from domainsam_urban.read.geodesy import apply_affine, parse_crs

KNOT = 32
"""Pixels between exactly projected places. Over 32 pixels of 1 m a straight line bends by 0.02 mm."""
STEPS = 1024
"""Places are rounded to this part of a pixel: files that say the same in other words give the same bits."""
FAR = -1e7
"""Pixels; where a projection is not defined."""
CHUNK_PIXELS = 1 << 19
"""Source pixels held at a time."""

Planes = NDArray[np.float32]
ReadPlanes = Callable[[tuple[int, int], tuple[int, int]], Planes]
"""From rows and columns (first, end) of a raster to its planes ``(P, h, w)``."""


def round_places(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places in pixels, to a :data:`STEPS`-th of one."""
    return np.asarray(np.rint(places * STEPS) / STEPS)


@dataclass(frozen=True, eq=False)
class Knots:
    """Where pixels of one grid lie in another.

    Parameters
    ----------
    transform, crs
        The grid whose pixels are asked about: affine of pixel corners.
    target_transform, target_crs
        The grid in which they are found.
    """

    transform: Affine
    crs: Any
    target_transform: Affine
    target_crs: Any
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def _project(self) -> Transformer | None:
        source, target = parse_crs(self.crs), parse_crs(self.target_crs)
        return None if source == target else Transformer.from_crs(source, target, always_xy=True)

    def locate(self, rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[np.float64]:
        """Row and column ``(2, ...)`` in the target of some of the grid; both in the corner frame."""
        points = np.column_stack([np.ravel(cols), np.ravel(rows)]).astype(np.float64)
        x, y = apply_affine(self.transform, points).T
        if self._project is not None:
            # One projection serves one thread at a time.
            with self._lock:
                x, y = self._project.transform(x, y)
        found = apply_affine(~self.target_transform, np.column_stack([x, y])).T[::-1]
        return np.asarray(np.where(np.isfinite(found), found, FAR)).reshape(2, *np.shape(rows))

    def places(self, window: Window) -> NDArray[np.float64]:
        """Row and column ``(2, h, w)`` in the target of the centres of a window's pixels."""
        rows, down = _knots(window.row, window.height)
        cols, across = _knots(window.col, window.width)
        knots = round_places(self.locate(*np.meshgrid(rows, cols, indexing="ij")))
        return np.asarray(down @ knots @ across.T)

    def steps(self, middle: tuple[float, float]) -> tuple[float, float]:
        """Rows and columns of the target that a pixel of the grid spans at a place, as a box's spread has it.

        A turned pixel is as wide along an axis as a box of the same variance.
        """
        row, col = middle
        rows = np.array([row - 0.5, row + 0.5, row, row])
        cols = np.array([col, col, col - 0.5, col + 0.5])
        found = self.locate(rows, cols)
        spans = found[:, 1::2] - found[:, ::2]
        down, across = np.hypot(spans[:, 0], spans[:, 1])
        return float(down), float(across)


def _knots(first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The knots around some pixels, and the weights ``(count, knots)`` that give the pixels' centres."""
    start, end = first // KNOT, -(-(first + count) // KNOT)
    knots = np.arange(start, end + 1) * KNOT
    place = (np.arange(first, first + count) + 0.5) / KNOT - start
    index = np.floor(place).astype(np.int64)
    weights = np.zeros((count, len(knots)))
    weights[np.arange(count), index] = 1 - (place - index)
    weights[np.arange(count), index + 1] = place - index
    return knots, weights


class Warp:
    """A raster's planes at the pixels of another grid.

    Where the grid is coarser, values are means over about the area of its
    pixels: over whole pixels by the largest whole number that fits, which are
    counted from the raster's own lattice and not from its corner, and then by a
    kernel of three that leaves a value as spread as an area mean is. Between
    pixels they are interpolated linearly; pictures by a cubic spline, which
    blurs them less, and as little between pixels as on them.

    Parameters
    ----------
    knots
        From the grid to the raster.
    middle
        Row and column of the grid where its pixel is measured.
    shape
        Rows and columns of the raster.
    phase
        Rows and columns from the origin of the raster's lattice to its first pixel.
    """

    def __init__(
        self,
        knots: Knots,
        middle: tuple[float, float],
        shape: tuple[int, int],
        phase: tuple[int, int] = (0, 0),
    ) -> None:
        self.knots, self.shape = knots, shape
        # Rounded, so that the noise of a projection never decides between two whole numbers.
        spans = [round(span, 6) for span in knots.steps(middle)]
        self._whole = tuple(max(1, int(span)) for span in spans)
        self._phase = tuple(start % count for start, count in zip(phase, self._whole, strict=True))
        # The mean over s pixels spreads a value by (s^2 + 1) / 12, its variance; linear interpolation by 1/6
        # of that, a spline by nothing, and pixels are means over their own area already.
        self._soft = [find_spread(span / count) for span, count in zip(spans, self._whole, strict=True)]
        self._sharp = [np.convolve(spread, find_spline()) for spread in self._soft]
        widest = max(*spans, 1.0) * np.sqrt(2)
        self._chunk = max(KNOT, int(CHUNK_PIXELS**0.5 / widest) // KNOT * KNOT)

    def sample(self, window: Window, read: ReadPlanes, count: int, pictures: int = 0) -> Planes:
        """Planes ``(count, h, w)`` of a window of the grid, 0 outside the raster.

        Planes that are 0 where there is no data, and a plane that says where there is, are means alike: their
        quotient leaves out what is missing. The first planes may be ``pictures``; the one after them is 1
        where these show something and 0 elsewhere, and near what is missing they are interpolated linearly.
        """
        answer = np.zeros((count, window.height, window.width), np.float32)
        for part, inside in _split(window, self._chunk):
            answer[(slice(None), *inside)] = self._sample(part, read, count, pictures)
        return answer

    def _sample(self, window: Window, read: ReadPlanes, count: int, pictures: int) -> Planes:
        places = self.knots.places(window)
        reach = SPLINE_REACH if pictures else 0
        cells = []
        for axis in range(2):
            # Cells of whole pixels; the first may be cut by the raster's edge.
            number = -(-(self.shape[axis] + self._phase[axis]) // self._whole[axis])
            cell = (places[axis] + self._phase[axis]) / self._whole[axis] - 0.5
            cells.append(np.clip(cell, -3, number + 2))
        first = [int(np.floor(cell.min())) - 1 - reach for cell in cells]
        ends = [int(np.floor(cell.max())) + 3 + reach for cell in cells]
        size = [end - start for start, end in zip(first, ends, strict=True)]
        planes = self._read_cells(first, size, read, count)
        if planes is None:
            return np.zeros((count, window.height, window.width), np.float32)
        spots = np.stack([cell - start for cell, start in zip(cells, first, strict=True)])
        if not pictures:
            return _interpolate(planes, spots, self._soft, 1)
        whole = ndimage.minimum_filter(planes[pictures], 2 * SPLINE_REACH + 1, mode="constant") == 1
        sharp = whole[tuple(np.rint(spots).astype(np.int64))]
        if not sharp.any():
            return _interpolate(planes, spots, self._soft, 1)
        fine = _interpolate(planes[:pictures], spots, self._sharp, 3)
        if sharp.all():
            return np.concatenate([fine, _interpolate(planes[pictures:], spots, self._soft, 1)])
        answer = _interpolate(planes, spots, self._soft, 1)
        answer[:pictures] = np.where(sharp, fine, answer[:pictures])
        return answer

    def _read_cells(self, first: list[int], size: list[int], read: ReadPlanes, count: int) -> Planes | None:
        """Means over cells ``(count, *size)``, 0 outside the raster; None if all of them are there."""
        ranges, lead = [], []
        for axis in range(2):
            start = first[axis] * self._whole[axis] - self._phase[axis]
            end = start + size[axis] * self._whole[axis]
            ranges.append((max(0, start), min(self.shape[axis], end)))
            lead.append(ranges[-1][0] - start)
            if ranges[-1][0] >= ranges[-1][1]:
                return None
        values = read(ranges[0], ranges[1])
        full = [length * whole for length, whole in zip(size, self._whole, strict=True)]
        padded = np.zeros((count, *full), np.float32)
        padded[:, lead[0] : lead[0] + values.shape[1], lead[1] : lead[1] + values.shape[2]] = values
        if self._whole == (1, 1):
            return padded
        parts = padded.reshape(count, size[0], self._whole[0], size[1], self._whole[1])
        return np.asarray(parts.mean(axis=(2, 4), dtype=np.float32))


def _interpolate(
    planes: Planes, spots: NDArray[np.float64], kernels: Sequence[NDArray[np.float64]], order: int
) -> Planes:
    """Values ``(P, h, w)`` at places ``(2, h, w)`` in planes to which a kernel is applied along each axis."""
    for axis, kernel in enumerate(kernels, start=1):
        if len(kernel) > 1:
            planes = ndimage.convolve1d(planes, kernel, axis=axis, mode="constant")
    return np.stack([ndimage.map_coordinates(plane, spots, order=order, prefilter=False) for plane in planes])


def _split(window: Window, side: int) -> Iterator[tuple[Window, tuple[slice, slice]]]:
    """A window in parts of at most ``side``, and where each lies in it."""
    for row in range(0, window.height, side):
        for col in range(0, window.width, side):
            height, width = min(side, window.height - row), min(side, window.width - col)
            part = Window(window.row + row, window.col + col, height, width)
            yield part, (slice(row, row + height), slice(col, col + width))
