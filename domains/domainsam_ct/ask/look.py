"""Slices as a radiologist looks at them: from the feet, the patient's right on the left, square pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from domainsam.infer.pictures import PictureView
from domainsam.protocols import Foundation, SceneObject
from domainsam_ct.read.geometry import to_axial
from domainsam_ct.read.volume import Volume

UNEQUAL = 1.01
"""Pixels whose sides differ by more than this factor are made square."""
ENLARGED = 512
"""Shortest picture that a model is shown along its longest side: small slices are enlarged to it."""


class Slices:
    """The slices of a scan as pictures.

    Parameters
    ----------
    volume
        An opened CT.
    window
        Hounsfield units that become black and white.
    """

    def __init__(self, volume: Volume, window: tuple[float, float]) -> None:
        self.volume, self.window = volume, window
        # Rows of a slice run along the volume's second axis, columns along its first.
        across, down = volume.spacing[0], volume.spacing[1]
        rows, cols = volume.shape[1], volume.shape[0]
        pixel = min(across, down)
        square = max(across, down) / pixel <= UNEQUAL
        self.own = (rows, cols)
        self.shape = self.own if square else (round(rows * down / pixel), round(cols * across / pixel))

    def read(self, frame: int) -> NDArray[np.uint8]:
        """The picture ``(H, W, 3)`` uint8 of a slice; slice 0 is the one nearest to the feet."""
        seen = to_axial(self.volume.slices(frame, frame + 1))[0].astype(np.float32)
        low, high = self.window
        grey = np.clip((seen - low) / (high - low), 0.0, 1.0)
        if self.shape != self.own:
            grey = _resize(grey, self.shape)
        return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)

    def view(self, foundation: Foundation) -> PictureView:
        """The slices as prompt sources look at them."""
        return PictureView(self.read, self.volume.shape[2], foundation)

    def show(self, frame: int) -> NDArray[np.uint8]:
        """The picture that a model is shown: small ones are enlarged."""
        picture = self.read(frame)
        scale = ENLARGED / max(picture.shape[:2])
        if scale <= 1:
            return picture
        size = (round(picture.shape[0] * scale), round(picture.shape[1] * scale))
        grey = _resize(picture[..., 0].astype(np.float32), size)
        return np.repeat(np.rint(grey).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    def place(self, one: SceneObject, view: PictureView) -> NDArray[np.bool_]:
        """An object's mask on the voxels of its slice, ``(rows, columns)``."""
        mask = view.enlarge_mask(one)
        return mask if self.shape == self.own else _resize(mask.astype(np.float32), self.own) > 0.5


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    given = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    made = F.interpolate(given, size, mode="bilinear", align_corners=False, antialias=True)
    return np.asarray(made[0, 0].numpy())
