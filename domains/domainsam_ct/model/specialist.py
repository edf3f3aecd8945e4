"""The specialist alone: a pretrained trunk and a light pyramid head, without a foundation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.side.pyramid import make_mixing
from domainsam.trunks import build_trunk, find_normalisation

STRIDES = (2, 4, 8, 16, 32)
"""Levels of the trunk; the answer comes at the first."""


class Specialist(nn.Module):
    """Windowed slices ``(B, 3, H, W)`` in 0 to 1 to logits ``(B, classes, H/2, W/2)``.

    A feature pyramid (Lin et al. 2017, arXiv:1612.03144): levels are brought
    to one width, and each is added to the enlarged one below it. Mixing is by
    depthwise separable convolutions, so that the head costs less than the trunk.
    At the lowest level two dilated ones look across the whole body.

    Parameters
    ----------
    trunk
        A backbone of ``timm`` by name, with levels at :data:`STRIDES`.
    width
        Channels of the pyramid.
    classes
        Number of organs and the background.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: str, width: int, classes: int) -> None:
        super().__init__()
        self.trunk = build_trunk(trunk, strides=STRIDES)
        self.project = nn.ModuleList(nn.Conv2d(count, width, 1) for count in self.trunk.widths)
        self.context = nn.Sequential(make_mixing(width, dilation=2), make_mixing(width, dilation=2))
        self.mix = nn.ModuleList(make_mixing(width) for _ in STRIDES[:-1])
        self.out = nn.Conv2d(width, classes, 1)
        norm = find_normalisation(trunk)
        self.register_buffer("mean", torch.tensor(norm.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(norm.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, slices: Tensor) -> Tensor:
        logits: Tensor = self.out(self.describe(slices))
        return logits

    def describe(self, slices: Tensor) -> Tensor:
        """What the logits are made from: the pyramid's finest level, ``(B, width, H/2, W/2)``."""
        levels = self.trunk((slices - self.mean) / self.std)
        found = self.project[-1](levels[-1])
        found = found + self.context(found)
        finer = list(zip(self.mix, list(self.project)[:-1], levels[:-1], strict=True))
        for mix, project, level in reversed(finer):
            found = mix(F.interpolate(found, scale_factor=2.0, mode="nearest") + project(level))
        described: Tensor = found
        return described
