"""Lay the model's answer on the scene's own grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.store import RawRaster
from domainsam.io.resample import compute_axis_weights, resample
from domainsam.protocols import Window
from domainsam_urban.read.place import Place
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.read.workgrid import Straight

STRIP_PIXELS = 1 << 21
"""Pixels held at a time, of the scene's grid or of the work grid, whichever is finer."""
ANY_COVER = 1e-3
"""Pixels that the scene has seen take what is known near them, however little it is."""


def lay_on_scene(
    answer: RawRaster,
    source: RasterSource,
    target: Path,
    nearest: bool = False,
    shape: tuple[int, int] | None = None,
) -> None:
    """Write an answer of the work grid as staged bytes on the scene's own grid.

    A pixel's value follows from its place alone: interpolated linearly where
    the scene is finer than the work grid, the mean where it is coarser. A pixel
    of the scene without data is 255 exactly; the others are so only where the
    model has nothing near them. Memory follows a strip of rows.

    Parameters
    ----------
    answer
        Stored probabilities, ``round(254 p)``, or numbers of classes, on the work grid.
    target
        Raw bytes to be made, in the shape of ``source.scene_shape``.
    nearest
        Take the nearest pixel, as numbers of classes need it; only for work grids of the scene's own extent.
    shape
        Rows and columns of another grid of the scene's extent, in place of its own. Where it has data is then
        what the answer says.
    """
    rows, cols = shape or source.scene_shape
    laid_view = _View(source, (rows, cols))
    step = max(1, int(STRIP_PIXELS / cols / max(laid_view.finer, 1.0)))
    with RawRaster.create(target, (rows, cols)) as laid:
        for row in range(0, rows, step):
            end = min(row + step, rows)
            values = laid_view.read(answer, (row, end), nearest)
            if shape is None:
                values = np.where(source.find_seen((row, end)), values, np.uint8(NODATA))
            laid.write(Window(row, 0, end - row, cols), np.ascontiguousarray(values))


class _View:
    """A grid of the scene's extent, turned as the work grid is."""

    def __init__(self, source: RasterSource, shape: tuple[int, int]) -> None:
        self._shape, self._turn, self._work = shape, source.turn, source.work
        # Pixels of the scene's view in one of this grid, by rows and columns.
        own, filed = self._turn.shape(source.scene_shape), self._turn.shape(shape)
        factor = own[0] / filed[0], own[1] / filed[1]
        row, col = source.corner
        affine = source.view.affine @ Affine.translation(col, row) @ Affine.scale(factor[1], factor[0])
        self._warp = None
        if self._work.straight is None:
            self._warp = self._work.warp_onto(Place(filed, affine, source.view.crs))
            spans = self._warp.knots.steps((filed[0] / 2, filed[1] / 2))
            self.finer = spans[0] * spans[1]
        else:
            self._straight = _invert(self._work.straight, factor, (row, col))
            self.finer = self._straight.scale[0] * self._straight.scale[1]

    def read(self, answer: RawRaster, rows: tuple[int, int], nearest: bool) -> NDArray[np.uint8]:
        """Stored values ``(h, w)`` of some rows of the grid, in the file's order."""
        down, across = self._turn.to_view(rows, (0, self._shape[1]), self._shape)
        window = Window(down[0], across[0], down[1] - down[0], across[1] - across[0])
        if nearest:
            values = self._take_nearest(answer, window)
        elif self._warp is not None:
            planes = self._warp.sample(window, lambda rows, cols: _read_planes(answer, rows, cols), 2)
            known = planes[1] >= ANY_COVER
            share = np.divide(planes[0], planes[1], out=np.zeros_like(planes[0]), where=known)
            values = _store(np.clip(share, 0, 1), known)
        else:
            values = self._interpolate(answer, window)
        return self._turn.as_filed(values)

    def _interpolate(self, answer: RawRaster, window: Window) -> NDArray[np.uint8]:
        """Stored probabilities ``(h, w)`` where the axes of both grids agree."""
        (down, across) = (
            compute_axis_weights(first, count, scale, length, offset)
            for first, count, scale, length, offset in zip(
                (window.row, window.col),
                (window.height, window.width),
                self._straight.scale,
                answer.shape,
                self._straight.offset,
                strict=True,
            )
        )
        planes = _read_planes(answer, (down.first, down.end), (across.first, across.end))
        values, known = resample(planes[:1], planes[1] > 0, down.matrix, across.matrix, ANY_COVER)
        return _store(values[0], known)

    def _take_nearest(self, answer: RawRaster, window: Window) -> NDArray[np.uint8]:
        """Numbers of classes ``(h, w)``."""
        down, across = (
            np.floor((np.arange(first, first + count) + 0.5) * scale + offset).astype(np.int64)
            for first, count, scale, offset in zip(
                (window.row, window.col),
                (window.height, window.width),
                self._straight.scale,
                self._straight.offset,
                strict=True,
            )
        )
        stored = answer.read(Window(int(down[0]), 0, int(down[-1] - down[0]) + 1, answer.shape[1]))
        return np.asarray(stored[np.ix_(down - down[0], across)], np.uint8)


def _invert(straight: Straight, factor: tuple[float, float], corner: tuple[int, int]) -> Straight:
    """How a grid lies on the work grid whose pixels are ``factor`` of the scene's, from its ``corner`` on."""
    scale = factor[0] / straight.scale[0], factor[1] / straight.scale[1]
    starts = straight.starts
    offset = (corner[0] - starts[0]) / straight.scale[0], (corner[1] - starts[1]) / straight.scale[1]
    return Straight(scale, offset)


def _read_planes(answer: RawRaster, rows: tuple[int, int], cols: tuple[int, int]) -> NDArray[np.float32]:
    """Probability, 0 where it is not known, and whether it is, ``(2, h, w)``."""
    stored = answer.read(Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0]))
    known = stored != NODATA
    return np.stack([np.where(known, stored, 0) / np.float32(LEVELS), known]).astype(np.float32)


def _store(share: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(known, np.rint(share * LEVELS), NODATA).astype(np.uint8)
