"""Fit one picture of any size to a foundation's input, and its masks back to the picture.

Scenes go through the engine at their own resolution and need none of this;
it is for single pictures, and for comparison with ``SamPredictor`` and
``SAM2ImagePredictor``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import resize

from domainsam.errors import InputError
from domainsam.prompts import PromptSet
from domainsam.weights import SAM_PIXELS


@dataclass(frozen=True)
class Fit:
    """How a picture was fitted into a foundation's input.

    ``original`` is the picture's (H, W), ``resized`` what it was resized to,
    ``size`` the whole input; what ``resized`` leaves free is at the right and the bottom.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]

    def prompts(self, prompts: PromptSet) -> PromptSet:
        """Prompts from the picture's pixels to the input's; mask logits and tokens stay as they are.

        Both frames measure from the corner of the first pixel, so this is a scaling.
        """
        scale_x = self.resized[1] / self.original[1]
        scale_y = self.resized[0] / self.original[0]
        points, boxes = prompts.points, prompts.boxes
        if points is not None:
            points = points * points.new_tensor([scale_x, scale_y, 1.0])
        if boxes is not None:
            boxes = boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
        return prompts.replace(points=points, boxes=boxes)

    def masks(self, logits: Tensor) -> Tensor:
        """Mask logits ``(N, K, h, w)`` of the whole input to ``(N, K, *original)``."""
        if self.resized != self.size:
            logits = F.interpolate(logits, self.size, mode="bilinear", align_corners=False)
            logits = logits[..., : self.resized[0], : self.resized[1]]
        return F.interpolate(logits, self.original, mode="bilinear", align_corners=False)


def fit_longest(image: NDArray[np.uint8], side: int = 1024) -> tuple[Tensor, Fit]:
    """Longest side to ``side``, then padded at the right and the bottom: SAM's way.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8 RGB.
    side
        Side of the square input in pixels.

    Returns
    -------
    images, fit
        ``(1, 3, side, side)`` float32 in 0 to 1, and the way back. The
        padding has SAM's mean colour, which normalisation turns into zeros.

    Raises
    ------
    InputError
        If ``image`` is no RGB picture of bytes.
    """
    height, width = _checked(image)
    scale = side / max(height, width)
    resized = (int(height * scale + 0.5), int(width * scale + 0.5))
    small = np.asarray(resize(Image.fromarray(image), list(resized)), dtype=np.float32) / 255
    padded = torch.tensor(SAM_PIXELS.mean).view(3, 1, 1).repeat(1, side, side)
    padded[:, : resized[0], : resized[1]] = torch.from_numpy(small).permute(2, 0, 1)
    return padded[None], Fit((height, width), resized, (side, side))


def fit_squash(image: NDArray[np.uint8], side: int = 1024) -> tuple[Tensor, Fit]:
    """Both sides to ``side``, whatever that does to the proportions: SAM 2's way.

    Parameters, results and errors as for :func:`fit_longest`; there is no padding.
    """
    height, width = _checked(image)
    full = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    squashed: Tensor = resize(full, [side, side], antialias=True)
    return squashed[None], Fit((height, width), (side, side), (side, side))


def fit_stretch(image: NDArray[np.uint8], side: int = 1024) -> tuple[Tensor, Fit]:
    """Both sides to ``side`` by plain bilinear interpolation: EfficientSAM's way.

    Parameters, results and errors as for :func:`fit_longest`; there is no padding, and unlike
    :func:`fit_squash` no antialiasing, because its authors trained without.
    """
    height, width = _checked(image)
    full = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    stretched = F.interpolate(full[None], (side, side), mode="bilinear", align_corners=False)
    return stretched, Fit((height, width), (side, side), (side, side))


FITS = {"longest": fit_longest, "squash": fit_squash, "stretch": fit_stretch}
"""How a picture is fitted, by the word in a row of :data:`domainsam.foundations.FOUNDATIONS`."""


def _checked(image: NDArray[np.uint8]) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(
            f"a picture of shape {image.shape} and type {image.dtype} was given; expected (H, W, 3) uint8 RGB"
        )
    return image.shape[0], image.shape[1]
