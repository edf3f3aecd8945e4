"""The decode head of UV-SAM's released code, which differs from SegFormer's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.protocols import Coarse


class ReleasedHead(nn.Module):
    """A projection and a ReLU for every level, then one fusing projection and a ReLU; no norm anywhere.

    Parameters
    ----------
    widths
        Channels of the levels, finest first.
    width, classes
        Of the fused feature, and of the logits.
    dropout
        Rate before the classifier: whole channels, as published.
    """

    def __init__(self, widths: tuple[int, ...], width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)
        self.fuse = nn.Conv2d(len(widths) * width, width, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, levels: tuple[Tensor, ...]) -> Coarse:
        """Levels at strides 4, 8, 16 and 32 to logits and fused feature at stride 4."""
        size = levels[0].shape[-2:]
        maps = [
            F.interpolate(F.relu(project(level)), size, mode="bilinear", align_corners=False)
            for project, level in zip(self.levels, levels, strict=True)
        ]
        features = F.relu(self.fuse(torch.cat(maps, dim=1)))
        return Coarse(self.classify(self.dropout(features)), features)

    def logits(self, levels: tuple[Tensor, ...]) -> Tensor:
        """The logits of :meth:`forward` alone."""
        coarse: Coarse = self(levels)
        return coarse.logits
