"""Photographs and pictures of films as prompt sources look at them, scaled to suit a foundation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.grid import Grid
from domainsam.prompter.search import cut_out
from domainsam.protocols import Block, Features, Foundation, SceneObject, Window

KEPT = 4
"""Windows whose features, and frames whose pictures, are kept."""


class PictureView:
    """Pictures of one size, scaled so that their longest side fits a foundation: a ``View``.

    Only the last few pictures and their features are held, whatever the number of frames.

    Parameters
    ----------
    read
        Gives the picture of a frame, ``(H, W, 3)`` uint8 RGB, all of one size.
    frames
        Number of pictures.
    foundation
        Encodes them; None where nobody asks for features.
    side
        Longest side after scaling; the foundation's image size unless told.

    Raises
    ------
    InputError
        If there is no picture, or one is none or of another size; the latter when it is read.
    """

    def __init__(
        self,
        read: Callable[[int], NDArray[np.uint8]],
        frames: int,
        foundation: Foundation | None,
        side: int | None = None,
    ) -> None:
        if frames < 1:
            raise InputError("there is no picture; expected at least one")
        self.frames = frames
        self._read, self.foundation = read, foundation
        self._pictures: dict[int, NDArray[np.float32]] = {}
        self._features: dict[Window, Features] = {}
        first = read(0)
        _check_picture(first, 0)
        self.original = (first.shape[0], first.shape[1])
        if side is None and foundation is None:
            raise InputError("nothing says how large pictures are to be: give a foundation, or a side")
        scale = (side or (foundation.image_size if foundation else 0)) / max(self.original)
        height, width = (max(1, round(length * scale)) for length in self.original)
        self.shape = (height, width)
        self.grid = Grid.of_pixels(self.shape)

    def picture(self, frame: int) -> NDArray[np.float32]:
        """The scaled picture ``(3, h, w)`` float32 in 0 to 1."""
        if frame not in self._pictures:
            original = self._read(frame)
            _check_picture(original, frame)
            if original.shape[:2] != self.original:
                raise InputError(
                    f"picture {frame} is {original.shape[1]} x {original.shape[0]}; the first one is "
                    f"{self.original[1]} x {self.original[0]}: expected pictures of one size"
                )
            small = Image.fromarray(original).resize(self.shape[::-1], Image.Resampling.BILINEAR)
            _make_room(self._pictures)
            scaled = np.asarray(small, np.float32) / np.float32(255)
            self._pictures[frame] = np.ascontiguousarray(scaled.transpose(2, 0, 1))
        return self._pictures[frame]

    def block(self, window: Window) -> Block:
        """Picture of a window, and where it holds something."""
        picture = self.picture(window.frame)
        image = np.zeros((3, window.height, window.width), np.float32)
        valid = np.zeros((window.height, window.width), bool)
        top, left = max(0, window.row), max(0, window.col)
        part = picture[:, top : window.row + window.height, left : window.col + window.width]
        place = np.s_[top - window.row :, left - window.col :]
        image[:, *place][:, : part.shape[1], : part.shape[2]] = part
        valid[place][: part.shape[1], : part.shape[2]] = True
        return Block(window, image, valid)

    def image(self, window: Window) -> NDArray[np.float32]:
        """RGB picture ``(3, h, w)`` float32 in 0 to 1, 0 outside."""
        return self.block(window).image

    def features(self, window: Window) -> Features:
        """Features (``B = 1``) of a window whose sides are multiples of 32; outside, its edge is repeated."""
        if self.foundation is None:
            raise InputError("this view has no foundation, so it has no features; give it one")
        if window not in self._features:
            block = self.block(window)
            picture = torch.from_numpy(block.image)[None]
            rows, cols = int(block.valid[:, 0].sum()), int(block.valid[0].sum())
            if 0 < rows < window.height or 0 < cols < window.width:
                beyond = (0, window.width - cols, 0, window.height - rows)
                picture = F.pad(picture[..., :rows, :cols], beyond, mode="replicate")
            with torch.inference_mode():
                features = self.foundation.encode(picture.to(self.foundation.device))
            _make_room(self._features)
            self._features[window] = features
        return self._features[window]

    def shrink_mask(self, mask: NDArray[np.bool_], frame: int = 0) -> SceneObject:
        """A mask ``(H, W)`` of the original picture as an object of this view.

        Raises
        ------
        InputError
            If it is of another size than the picture, or empty.
        """
        if mask.shape != self.original:
            raise InputError(
                f"the mask is {mask.shape[1]} x {mask.shape[0]}; its picture is "
                f"{self.original[1]} x {self.original[0]}: expected one size"
            )
        if not mask.any():
            raise InputError("the mask is empty; expected the object to be marked with other values than 0")
        share = F.interpolate(torch.from_numpy(mask.astype(np.float32))[None, None], self.shape, mode="area")[
            0, 0
        ].numpy()
        small = share >= min(0.5, float(share.max()))
        bounds, part = cut_out(small, Window(0, 0, *self.shape, frame))
        return SceneObject(bounds, mask=part)

    def enlarge_mask(self, one: SceneObject) -> NDArray[np.bool_]:
        """An object's mask at the size of the original picture, ``(H, W)`` bool.

        Raises
        ------
        InputError
            If the object has no mask.
        """
        if one.mask is None:
            raise InputError("the object has no mask; expected one that was decoded")
        small = np.zeros(self.shape, np.float32)
        small[one.bounds.slices] = one.mask
        large = F.interpolate(
            torch.from_numpy(small)[None, None], self.original, mode="bilinear", align_corners=False
        )
        return np.asarray((large[0, 0] > 0.5).numpy())


def _check_picture(picture: NDArray[np.uint8], frame: int) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise InputError(f"picture {frame} is {picture.shape} {picture.dtype}; expected (H, W, 3) uint8 RGB")


def _make_room(kept: dict[int, NDArray[np.float32]] | dict[Window, Features]) -> None:
    while len(kept) >= KEPT:
        kept.pop(next(iter(kept)))  # type: ignore[call-overload]
