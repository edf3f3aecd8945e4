"""Lay the model's answer on the scene's own grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.store import RawRaster
from domainsam.io.resample import AxisWeights, compute_axis_weights, resample
from domainsam.protocols import Window
from domainsam_urban.read.scene import RasterSource

STRIP_PIXELS = 1 << 21
"""Pixels held at a time, of the scene's grid or of the work grid, whichever is finer."""
ANY_COVER = 1e-3
"""Pixels that the scene has seen take what is known near them, however little it is."""


def lay_on_scene(answer: RawRaster, source: RasterSource, target: Path, nearest: bool = False) -> None:
    """Write an answer of the work grid as staged bytes on the scene's own grid.

    Both grids have one extent and one direction of axes, so that a pixel's
    value follows from its place alone: interpolated linearly where the scene
    is finer than the work grid, the mean where it is coarser. A pixel of the
    scene without data is 255 exactly; the others are so only where the model
    has nothing near them. Memory follows a strip of rows.

    Parameters
    ----------
    answer
        Stored probabilities, ``round(254 p)``, or numbers of classes, on the work grid.
    target
        Raw bytes to be made, in the shape of ``source.scene_shape``.
    nearest
        Take the nearest pixel, as numbers of classes need it.
    """
    rows, cols = source.scene_shape
    scale = answer.shape[0] / rows, answer.shape[1] / cols
    across = compute_axis_weights(0, cols, scale[1], answer.shape[1])
    step = max(1, int(STRIP_PIXELS / max(cols, answer.shape[1]) / max(scale[0], 1.0)))
    with RawRaster.create(target, (rows, cols)) as laid:
        for row in range(0, rows, step):
            end = min(row + step, rows)
            # The work grid counts from the north, whichever way the scene's rows run.
            first = rows - end if source.turned[0] else row
            if nearest:
                values = _take_nearest(answer, (first, end - row), scale, cols)
            else:
                down = compute_axis_weights(first, end - row, scale[0], answer.shape[0])
                values = _interpolate(answer, down, across)
            if source.turned[0]:
                values = values[::-1]
            if source.turned[1]:
                values = values[:, ::-1]
            seen = source.find_seen((row, end))
            laid.write(Window(row, 0, end - row, cols), np.where(seen, values, np.uint8(NODATA)))


def _interpolate(answer: RawRaster, down: AxisWeights, across: AxisWeights) -> NDArray[np.uint8]:
    """Stored probabilities ``(h, w)`` of some rows of the scene."""
    stored = answer.read(Window(down.first, 0, down.end - down.first, answer.shape[1]))
    stored = stored[:, across.first : across.end]
    known = stored != NODATA
    image = np.where(known, stored, 0).astype(np.float32)[None] / np.float32(LEVELS)
    values, kept = resample(image, known, down.matrix, across.matrix, ANY_COVER)
    return np.where(kept, np.rint(values[0] * LEVELS), NODATA).astype(np.uint8)


def _take_nearest(
    answer: RawRaster, rows: tuple[int, int], scale: tuple[float, float], cols: int
) -> NDArray[np.uint8]:
    """Numbers of classes ``(h, w)`` of some rows of the scene, first and count."""
    down = ((np.arange(rows[0], rows[0] + rows[1]) + 0.5) * scale[0]).astype(np.int64)
    across = ((np.arange(cols) + 0.5) * scale[1]).astype(np.int64)
    stored = answer.read(Window(int(down[0]), 0, int(down[-1] - down[0]) + 1, answer.shape[1]))
    return np.asarray(stored[np.ix_(down - down[0], across)], np.uint8)
