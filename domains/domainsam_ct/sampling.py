"""From slices to the network's grid and back, as products with small matrices.

An axial slice has pixels of any size; the network sees pixels of a fixed size
in millimetres (or, as published, any slice stretched to a fixed side). Both
ways are separable and linear, so a stack of slices is resampled by two matrix
products, whatever the scale: by area-weighted interpolation where pixels grow,
linearly where they shrink.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

STRIDE = 32
"""Sides of the network's grid are multiples of this."""
QUARTER = 4
"""Pixels of the network's input to one of its answer."""


@dataclass(frozen=True)
class SliceGrid:
    """How slices of one size and spacing lie on the network's grid.

    The two share their centre. ``size`` and ``network`` are (H, W) in pixels,
    ``step`` the network's pixel as a multiple of the slice's, (rows, columns).
    """

    size: tuple[int, int]
    network: tuple[int, int]
    step: tuple[float, float]

    def inward(self, stack: Tensor) -> Tensor:
        """Slices ``(..., H, W)`` on the network's grid, 0 outside them."""
        rows, columns = (
            _inward_matrix(have, want, step)
            for have, want, step in zip(self.size, self.network, self.step, strict=True)
        )
        return rows.to(stack) @ stack @ columns.to(stack).T

    def outward(self, maps: Tensor) -> Tensor:
        """The network's maps ``(..., h/4, w/4)`` at the slices' own pixels."""
        rows, columns = self.outward_matrices()
        return rows.to(maps) @ maps @ columns.to(maps).T

    def outward_matrices(self) -> tuple[Tensor, Tensor]:
        """Linear interpolation of rows and of columns, ``(H, h/4)`` and ``(W, w/4)``."""
        rows, columns = (
            _outward_matrix(want, have // QUARTER, step * QUARTER)
            for want, have, step in zip(self.size, self.network, self.step, strict=True)
        )
        return rows, columns


def slice_grid(
    size: tuple[int, int], spacing_mm: tuple[float, float], pixel_mm: float, side: int
) -> SliceGrid:
    """The network's grid for slices.

    Parameters
    ----------
    size, spacing_mm
        Of the slices: (H, W) in pixels, and the pixel's height and width in millimetres.
    pixel_mm
        The network's pixel; 0 stretches every slice to ``side``, as published.
    side
        Side of the network's grid where slices are stretched.
    """
    if not pixel_mm:
        return SliceGrid(size, (side, side), (size[0] / side, size[1] / side))
    steps = (pixel_mm / spacing_mm[0], pixel_mm / spacing_mm[1])
    height, width = (
        max(STRIDE, math.ceil(count / step / STRIDE - 1e-6) * STRIDE)
        for count, step in zip(size, steps, strict=True)
    )
    return SliceGrid(size, (height, width), steps)


@lru_cache(maxsize=64)
def _inward_matrix(have: int, want: int, step: float) -> Tensor:
    """``(want, have)`` weights; a row sums to 1 where its centre lies on the slice, else it is 0.

    The kernel is a triangle as wide as the larger of the two pixels.
    """
    centres = (np.arange(want) + 0.5 - want / 2) * step + have / 2
    reach = max(1.0, step)
    distance = np.abs(np.arange(have) + 0.5 - centres[:, None]) / reach
    weights = np.clip(1 - distance, 0, None)
    inside = (centres > 0) & (centres < have)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=inside[:, None] & (total > 0))
    return torch.from_numpy(weights.astype(np.float32))


@lru_cache(maxsize=64)
def _outward_matrix(want: int, have: int, step: float) -> Tensor:
    """``(want, have)`` weights of linear interpolation, the edge repeated."""
    position = (np.arange(want) + 0.5 - want / 2) / step + have / 2 - 0.5
    position = np.clip(position, 0, have - 1)
    low = np.minimum(position.astype(np.intp), max(0, have - 2))
    part = position - low
    weights = np.zeros((want, have), np.float32)
    rows = np.arange(want)
    weights[rows, low] += (1 - part).astype(np.float32)
    weights[rows, np.minimum(low + 1, have - 1)] += part.astype(np.float32)
    return torch.from_numpy(weights)
