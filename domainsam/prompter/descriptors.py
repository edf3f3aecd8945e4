"""What a foundation's features say about a place, as vectors to compare, and windows to compute them in."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.base import SIDE_MULTIPLE
from domainsam.protocols import Features, SceneObject, View, Window

CELL = 8
"""Pixels of a picture per descriptor, along each side."""


def describe_features(features: Features) -> Tensor:
    """Descriptors ``(D, H/8, W/8)`` float32 of one encoded image, each of length 1.

    The levels of the features, each scaled to length 1 and brought to a grid of 8 pixels, side by side:
    the coarse level knows what a thing is, the fine ones its colour and texture. A foundation without
    finer levels gives its one level alone, as PerSAM uses it.
    """
    height, width = features.size[0] // CELL, features.size[1] // CELL
    maps = [F.normalize(level.float(), dim=1) for level in (features.image, *features.levels)]
    placed = [_resize(level, (height, width)) for level in maps]
    return F.normalize(torch.cat(placed, dim=1)[0], dim=0)


def _resize(level: Tensor, size: tuple[int, int]) -> Tensor:
    if level.shape[-1] > size[1]:
        return F.adaptive_avg_pool2d(level, size)
    if level.shape[-1] < size[1]:
        return F.interpolate(level, size, mode="bilinear", align_corners=False)
    return level


def share_cells(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Share ``(H/8, W/8)`` float32 of every cell that a mask ``(H, W)`` covers; sides are multiples of 8."""
    cells = (mask.shape[0] // CELL, CELL, mask.shape[1] // CELL, CELL)
    return np.asarray(mask.reshape(cells).mean(axis=(1, 3)), np.float32)


def lay_windows(shape: tuple[int, int], side: int, frame: int = 0, shared: float = 0.25) -> list[Window]:
    """Windows of ``side`` pixels that cover a frame, neighbours sharing at least ``shared`` of a side.

    They begin at multiples of :data:`CELL`, so that their cells are cells of the frame. ``side`` is a
    multiple of 32; a frame that is smaller gets one window, of the next multiples of 32.
    """
    height, width = (min(side, -(-length // SIDE_MULTIPLE) * SIDE_MULTIPLE) for length in shape)
    return [
        Window(row, col, height, width, frame)
        for row in _starts(shape[0], height, shared)
        for col in _starts(shape[1], width, shared)
    ]


def _starts(length: int, side: int, shared: float) -> list[int]:
    if length <= side:
        return [0]
    last = -(-(length - side) // CELL) * CELL
    count = -(-last // int(side * (1 - shared))) + 1
    return [round(last * number / (count - 1) / CELL) * CELL for number in range(count)]


def centre_window(shape: tuple[int, int], bounds: Window, side: int) -> Window:
    """The window of ``side`` pixels with ``bounds`` in its middle, as far as the frame allows."""
    height, width = (min(side, -(-length // SIDE_MULTIPLE) * SIDE_MULTIPLE) for length in shape)
    row = _place(bounds.row + bounds.height / 2, height, shape[0])
    col = _place(bounds.col + bounds.width / 2, width, shape[1])
    return Window(row, col, height, width, bounds.frame)


def _place(middle: float, side: int, length: int) -> int:
    last = max(0, -(-(length - side) // CELL) * CELL)
    return int(min(max(0, round((middle - side / 2) / CELL) * CELL), last))


def read_valid_cells(view: View, window: Window) -> NDArray[np.bool_]:
    """Which cells ``(h/8, w/8)`` of a window lie in the scene and show something, at least by half."""
    return share_cells(cut_to_frame(view.block(window).valid, window, view.shape)) >= 0.5


def cut_to_frame(mask: NDArray[np.bool_], window: Window, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A window's mask without what lies beyond the frame."""
    cut = mask.copy()
    cut[max(0, shape[0] - window.row) :] = False
    cut[:, max(0, shape[1] - window.col) :] = False
    return cut


def paste_mask(one: SceneObject, window: Window) -> NDArray[np.bool_]:
    """What of an object's mask lies in a window, ``(h, w)`` of the window."""
    assert one.mask is not None
    mask = np.zeros((window.height, window.width), bool)
    bounds = one.bounds
    top, left = max(window.row, bounds.row), max(window.col, bounds.col)
    bottom = min(window.row + window.height, bounds.row + bounds.height)
    right = min(window.col + window.width, bounds.col + bounds.width)
    if top < bottom and left < right:
        part = one.mask[top - bounds.row : bottom - bounds.row, left - bounds.col : right - bounds.col]
        mask[top - window.row : bottom - window.row, left - window.col : right - window.col] = part
    return mask


def measure_centrality(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Cells to the nearest edge of a window of ``shape`` cells, at least 1."""
    rows, cols = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in shape)
    return np.asarray(np.minimum(rows[:, None], cols[None]), np.float32)


def cells_of(window: Window) -> tuple[slice, slice]:
    """Rows and columns of a window's cells among those of its frame."""
    row, col = window.row // CELL, window.col // CELL
    return slice(row, row + window.height // CELL), slice(col, col + window.width // CELL)


def count_cells(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of cells that the windows of :func:`lay_windows` cover."""
    last = lay_windows(shape, side)[-1]
    return (last.row + last.height) // CELL, (last.col + last.width) // CELL
