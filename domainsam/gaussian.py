"""Gaussian means of images that are tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def weigh_gaussian(sigma: float, reach: int) -> Tensor:
    """Weights ``(2 * reach + 1,)`` of a Gaussian of ``sigma`` pixels, which sum to 1."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    return weights / weights.sum()


def blur_images(images: Tensor, weights: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` with ``weights`` along rows and columns; beyond an edge its pixels go on."""
    channels, reach = images.shape[1], len(weights) // 2
    kernel = weights.to(images.dtype).expand(channels, 1, 1, -1)
    wide = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(wide, kernel, groups=channels)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=channels)
