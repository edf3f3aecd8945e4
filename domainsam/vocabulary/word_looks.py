"""How the embedded model of words sees an object: two squares around it, its colours and its shape."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.protocols import Box, SceneObject, View, Window
from domainsam.vocabulary.word_network import SHAPE, WordNetwork, fit_square, plan_squares

MOST_SIDE = 1024
"""Pixels of a square beyond which several of the frame are averaged into one."""
STRIP = 32
"""Rows of such a square that are read at a time."""


def look_at(view: View, one: SceneObject) -> tuple[Tensor, Tensor, Tensor] | None:
    """An object's two squares ``(5, 128, 128)``, narrow and wide, and its colour and shape ``(8,)``.

    Channels are red, green, blue in 0 to 1, validity and the mask. None if no pixel of the mask is valid.
    """
    squares = plan_squares(_box_of(one))
    top, left, side = squares.wide
    channels, step = _read_square(view, one, top, left, side)
    mask = np.asarray(channels[4] > 0)
    if not mask.any():
        return None
    # The narrow square lies inside the wide one: same centre, smaller side. Rounding may push it out by one.
    inner, start = squares.narrow[2] // step, (squares.narrow[0] - top, squares.narrow[1] - left)
    rows, cols = (slice(max(0, at // step), min(side, at // step + inner)) for at in start)
    shape = torch.from_numpy(describe_shape(channels[:3, mask], mask))
    whole = torch.from_numpy(channels)
    return fit_square(whole[:, rows, cols]), fit_square(whole), shape


def _read_square(
    view: View, one: SceneObject, top: int, left: int, side: int
) -> tuple[NDArray[np.float32], int]:
    """The five channels of a square, and how many pixels of the frame along a side make one of them.

    Large squares are read strip by strip and averaged, so that memory does not grow with objects.
    """
    step = -(-side // MOST_SIDE)
    cells = -(-side // step)
    strips = []
    for start in range(0, cells, cells if step == 1 else STRIP):
        rows = min(cells - start, cells if step == 1 else STRIP) * step
        window = Window(top + start * step, left, rows, cells * step, one.bounds.frame)
        block = view.block(window)
        mask = _place_mask(one, window) & block.valid
        full = np.concatenate([block.image, block.valid[None], mask[None]], dtype=np.float32)
        cut = full.reshape(5, rows // step, step, cells, step)
        strips.append(full if step == 1 else cut.mean(axis=(2, 4)))
    return np.concatenate(strips, axis=1), step


def _box_of(one: SceneObject) -> Box:
    return one.bounds.box if one.box is None or one.mask is not None else one.box


def _place_mask(one: SceneObject, window: Window) -> NDArray[np.bool_]:
    """An object's mask in a window of its frame; its bounds where it has none."""
    placed = np.zeros((window.height, window.width), bool)
    own = np.ones((one.bounds.height, one.bounds.width), bool) if one.mask is None else one.mask
    row, col = one.bounds.row - window.row, one.bounds.col - window.col
    rows = slice(max(0, row), max(0, min(window.height, row + own.shape[0])))
    cols = slice(max(0, col), max(0, min(window.width, col + own.shape[1])))
    if rows.start < rows.stop and cols.start < cols.stop:
        placed[rows, cols] = own[rows.start - row : rows.stop - row, cols.start - col : cols.stop - col]
    return placed


def describe_shape(colours: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean and spread of colours ``(3, n)``, logarithm of the aspect and share of its box: ``(8,)``."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(cols) + 1
    form = (np.log(width / height), mask.sum() / (width * height))
    found = np.concatenate([colours.mean(axis=1), colours.std(axis=1), form]).astype(np.float32)
    assert found.shape == (SHAPE,)
    return found


def prepare_crops(network: WordNetwork, narrow: Tensor, wide: Tensor) -> Tensor:
    """What the trunk sees ``(B, 2, 4, 128, 128)`` of squares ``(B, 5, 128, 128)`` of :func:`look_at`."""
    both = torch.stack([narrow, wide], dim=1)
    image, valid, mask = both[:, :, :3], both[:, :, 3:4], both[:, :, 4:]
    # Where a square overhangs, scaled colours fade to 0; the trunk's 0 is the mean colour of its pictures.
    mean, std = network.mean, network.std
    return torch.cat([(image - mean * valid) / std, mask], dim=2)
