"""How a model of words looks at objects: windows that show them whole, scaled to what the model sees best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.protocols import Box, Features, Foundation, SceneObject, View, Window

ALIGN = 32
"""Sides of pictures are multiples of what foundations divide them by."""
SHARE = 0.5
"""Neighbouring windows of the lattice share so much of their side, so that most objects lie well inside."""


@dataclass(frozen=True)
class Look:
    """A window of a frame, and the objects that are looked at in it.

    Parameters
    ----------
    window
        What is looked at, square but for what the alignment adds.
    side
        Side in pixels of the square picture that the network sees of it.
    objects
        Their places in the list that was given.
    """

    window: Window
    side: int
    objects: tuple[int, ...]

    @property
    def scale(self) -> float:
        """Pixels of the picture for one of the frame."""
        return self.side / self.window.width


def plan_looks(shape: tuple[int, int], objects: Sequence[SceneObject], side: int) -> list[Look]:
    """Windows that show objects whole, as few as a lattice of windows of ``side`` allows.

    Which window shows an object depends on the object and the frame alone, never on other objects. An
    object that no window of the lattice holds has one of its own around it, scaled down.

    Parameters
    ----------
    shape
        Rows and columns of a frame.
    side
        Of the pictures that the network sees, a multiple of 32.
    """
    shown: dict[Window, list[int]] = {}
    for number, one in enumerate(objects):
        shown.setdefault(_find_window(shape, one.bounds, side), []).append(number)
    return [Look(window, side, tuple(numbers)) for window, numbers in shown.items()]


def _find_window(shape: tuple[int, int], bounds: Window, side: int) -> Window:
    if max(shape) <= side:
        return Window(0, 0, side, side, bounds.frame)
    places = [
        _place(start, length, frame, side)
        for start, length, frame in (
            (bounds.row, bounds.height, shape[0]),
            (bounds.col, bounds.width, shape[1]),
        )
    ]
    row, col = places
    if row is None or col is None:
        wanted = min(max(bounds.height, bounds.width) * 3 // 2, max(shape))
        own = -(-max(wanted, side) // ALIGN) * ALIGN
        top = _centre(bounds.row, bounds.height, shape[0], own)
        left = _centre(bounds.col, bounds.width, shape[1], own)
        return Window(top, left, own, own, bounds.frame)
    return Window(row, col, side, side, bounds.frame)


def _place(start: int, length: int, frame: int, side: int) -> int | None:
    """Start of the lattice's window, nearest to centred, that holds a stretch; None where none does."""
    if frame <= side:
        return 0
    last = frame - side
    step = max(1, int(side * SHARE))
    wanted = start + length / 2 - side / 2
    near = min(max(0, round(wanted / step)), -(-last // step))
    place = min(near * step, last)
    return place if place <= start and start + length <= place + side else None


def _centre(start: int, length: int, frame: int, side: int) -> int:
    """Start of a window of ``side`` around a stretch, inside the frame as far as that goes."""
    wanted = start + length // 2 - side // 2
    return max(0, min(wanted, frame - side))


def read_look(view: View, look: Look) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The picture ``(3, side, side)`` float32 in 0 to 1 of a look, and where ``(side, side)`` it is valid."""
    block = view.block(look.window)
    if look.window.width == look.side and look.window.height == look.side:
        return block.image, block.valid
    size = (look.side, look.side)
    small = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(block.image))[None],
        size,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    valid = F.interpolate(torch.from_numpy(block.valid.astype(np.float32))[None, None], size, mode="nearest")
    return small[0].numpy().clip(0, 1), np.asarray(valid[0, 0].numpy() > 0.5)


def encode_look(view: View, look: Look, foundation: Foundation) -> Features:
    """A foundation's features (``B = 1``) of a look; the view's own where it has the same foundation."""
    theirs = getattr(view, "foundation", None)
    plain = look.window.width == look.side and look.window.height == look.side
    if plain and theirs is not None and theirs.sha256 == foundation.sha256:
        return view.features(look.window)
    image, _ = read_look(view, look)
    with torch.inference_mode():
        return foundation.encode(torch.from_numpy(np.ascontiguousarray(image))[None].to(foundation.device))


def place_boxes(look: Look, objects: Sequence[SceneObject]) -> NDArray[np.float32]:
    """Boxes ``(n, 4)`` left, top, right, bottom of a look's objects, in pixels of its picture."""
    rows = [_in_picture(look, _box_of(objects[number])) for number in look.objects]
    return np.asarray(rows, np.float32).reshape(-1, 4)


def _box_of(one: SceneObject) -> Box:
    return one.bounds.box if one.box is None else one.box


def _in_picture(look: Look, box: Box) -> Box:
    left, top, right, bottom = box
    across = look.side / look.window.width
    down = look.side / look.window.height
    return (
        (left - look.window.col) * across,
        (top - look.window.row) * down,
        (right - look.window.col) * across,
        (bottom - look.window.row) * down,
    )


def place_masks(look: Look, objects: Sequence[SceneObject], stride: int = 1) -> Tensor:
    """Masks ``(n, side/stride, side/stride)`` float32 of a look's objects: the share of each cell inside.

    An object without a mask counts as its box. A mask that no cell's share reaches stays as thin as it is.
    """
    cells = look.side // stride
    masks = torch.zeros(len(look.objects), cells, cells)
    for place, number in enumerate(look.objects):
        one = objects[number]
        whole = torch.zeros(look.window.height, look.window.width)
        top, left = one.bounds.row - look.window.row, one.bounds.col - look.window.col
        mask = np.ones((one.bounds.height, one.bounds.width), bool) if one.mask is None else one.mask
        rows = slice(max(0, top), min(look.window.height, top + one.bounds.height))
        cols = slice(max(0, left), min(look.window.width, left + one.bounds.width))
        part = mask[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
        whole[rows, cols] = torch.from_numpy(part.astype(np.float32))
        masks[place] = F.interpolate(whole[None, None], (cells, cells), mode="area")[0, 0]
    return masks


def has_own_masks(look: Look, objects: Sequence[SceneObject]) -> Tensor:
    """Whether each of a look's objects ``(n,)`` bool has a mask."""
    return torch.tensor([objects[number].mask is not None for number in look.objects], dtype=torch.bool)
