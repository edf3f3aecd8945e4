"""A light pyramid of features: each level sees what the coarser ones saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def make_mixing(width: int, dilation: int = 1) -> nn.Sequential:
    """A depthwise separable convolution of 3 x 3 pixels with batch norm and ReLU, ``width`` channels wide.

    Some eight times cheaper than a full convolution, so that a head costs less than its trunk.
    """
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class Pyramid(nn.Module):
    """The way down of a feature pyramid (Lin et al. 2017, arXiv:1612.03144), for levels of one width.

    Each level is added to the enlarged one below it and mixed; at the
    coarsest two dilated mixings look across the whole picture.

    Parameters
    ----------
    width
        Channels of each level.
    levels
        How many there are, each with twice the stride of the one before.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.context = nn.Sequential(make_mixing(width, dilation=2), make_mixing(width, dilation=2))
        self.mix = nn.ModuleList(make_mixing(width) for _ in range(levels - 1))
        # Depthwise convolutions on the CPU are several times as fast with the channels last.
        self.to(memory_format=torch.channels_last)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels ``(B, C, h, w)``, finest first, to as many of the same shapes."""
        coarse = levels[-1].contiguous(memory_format=torch.channels_last)
        refined = [coarse + self.context(coarse)]
        for mix, level in zip(self.mix, reversed(levels[:-1]), strict=True):
            refined.append(mix(F.interpolate(refined[-1], scale_factor=2.0, mode="nearest") + level))
        return refined[::-1]
