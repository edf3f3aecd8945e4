"""Semantic prototypes: a running mean feature of every class, used in training only (MemorySAM's SPMM).

Each batch's class means are drawn to the running means, so that a class looks
alike whatever sensor or scene it comes from. There are no parameters, and
nothing of it remains when the network is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = 255


@dataclass(frozen=True)
class PrototypeOptions:
    """How prototypes are made.

    Parameters
    ----------
    momentum
        Share of the batch in the running mean: 0.2 as published.
    weight
        Of the loss: 1 as published; 0 leaves prototypes out.
    twice
        Divide class means by the class's pixels once more and multiply the
        loss by the pixels of the map, as the published code does and the
        paper does not say.
    absent
        What happens to the running mean of a class that the batch lacks:
        ``True`` draws it towards zero, as published; ``False`` leaves it.
    """

    momentum: float = 0.2
    weight: float = 1.0
    twice: bool = False
    absent: bool = False


class Prototypes(nn.Module):
    """Running class means ``(K, C)``; a buffer that a training's state keeps and no model."""

    running: Tensor

    def __init__(self, classes: int, channels: int, options: PrototypeOptions | None = None) -> None:
        super().__init__()
        self.options = options or PrototypeOptions()
        self.register_buffer("running", torch.zeros(classes, channels), persistent=False)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch; updates the running means first, as published.

        With momentum ``m`` the error against the updated mean is ``(1 - m)``
        times that against the earlier one, so the loss is ``(1 - m)^2`` of what
        it looks like.

        Parameters
        ----------
        features
            ``(B, C, h, w)``.
        labels
            ``(B, H, W)`` int64, 255 where unknown; taken to ``(h, w)`` by the nearest pixel.
        """
        current, present = self.class_means(features, labels)
        with torch.no_grad():
            share = self.options.momentum
            updated = (1 - share) * self.running + share * current
            keep = present[:, None] | self.options.absent
            self.running.copy_(torch.where(keep, updated, self.running))
        error = F.mse_loss(current, self.running.where(keep, current.detach()))
        scale = features.shape[-2] * features.shape[-1] if self.options.twice else 1
        return error * scale

    def class_means(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean feature of every class ``(K, C)``, 0 for one that is absent, and which are there ``(K,)``."""
        classes = len(self.running)
        size = (features.shape[-2], features.shape[-1])
        small = F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()
        known = small != IGNORE
        which = F.one_hot(small.where(known, 0), classes).float() * known[..., None]
        flat = features.float().movedim(1, -1).reshape(-1, features.shape[1])
        which = which.reshape(-1, classes)
        count = which.sum(0)
        means = (which.T @ flat) / count.clamp(min=1)[:, None]
        if self.options.twice:
            means = means / count.clamp(min=1)[:, None]
        return means, count > 0
