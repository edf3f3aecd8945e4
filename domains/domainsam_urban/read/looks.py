"""Look at a scene here and there, as the networks see it, to compare it with others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domainsam.protocols import Window
from domainsam_urban.read.scene import RasterSource

BANDS = ("red", "green", "blue")
"""Names of the bands under which a model file tells what its training scenes were like."""
SIDE = 256
"""Side of a look in pixels of the work grid."""
ACROSS = 3
"""Looks along each side of a scene."""


def sample_scene(source: RasterSource) -> NDArray[np.float32]:
    """Colours ``(3, SIDE, n)`` in 0 to 1 of places spread over a scene, NaN between them and without data."""
    rows, cols = source.grid.shape
    gap = np.full((3, SIDE, 1), np.nan, np.float32)
    parts: list[NDArray[np.float32]] = []
    for row in _starts(rows):
        for col in _starts(cols):
            height, width = min(SIDE, rows - row), min(SIDE, cols - col)
            block = source.read(Window(row, col, height, width))
            part = np.full((3, SIDE, width), np.nan, np.float32)
            part[:, :height] = np.where(block.valid, block.image, np.float32(np.nan))
            parts += [part, gap]
    return np.concatenate(parts, axis=2)


def _starts(length: int) -> list[int]:
    """First pixels of the looks along a side, each once."""
    last = max(0, length - SIDE)
    return sorted({round(last * step / (ACROSS - 1)) for step in range(ACROSS)})
