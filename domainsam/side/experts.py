"""One low-rank expert a sensor on a frozen encoder, and a router that weighs the sensors (MLE-SAM).

Zhu et al. 2024 leave open how many sensors the router keeps, how its two
fusions are joined and what the second head looks like; each is an argument
here, with our default.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from domainsam.side.lora import Width, add_updates, copy_structure


class ExpertEncoder:
    """A frozen SAM 2 image encoder with low-rank updates, for several sensors in one batch.

    It is deliberately no ``nn.Module``: whoever keeps it registers
    ``updates``, and nothing of the frozen encoder enters a state dict.

    Parameters
    ----------
    encoder
        The official ``ImageEncoder``; left as it is.
    mean, std
        What it normalises with, ``(3, 1, 1)``.
    rank, experts, width
        As for :class:`domainsam.side.lora.LowRank`; one expert serves all sensors.
    checkpointing
        Compute activations anew in the backward pass rather than keep them.
    """

    def __init__(
        self,
        encoder: Any,
        mean: Tensor,
        std: Tensor,
        rank: int,
        experts: int = 1,
        width: Width = "full",
        checkpointing: bool = False,
    ) -> None:
        self._encoder = copy_structure(encoder)
        self._encoder.trunk, self.updates, self._choice = add_updates(encoder.trunk, rank, experts, width)
        self._mean, self._std = mean, std
        self.experts, self.checkpointing = experts, checkpointing

    def encode(
        self, images: Tensor, experts: tuple[int, ...], normalised: tuple[bool, ...] | None = None
    ) -> list[Tensor]:
        """The pyramid of images ``(M, B, 3, H, W)`` in 0 to 1 of ``M`` sensors, finest first.

        ``experts`` says which expert each sensor has; it does not matter where there is one only.
        ``normalised`` says of each sensor whether the encoder's statistics are taken out of it;
        of all by default.
        Levels are ``(M, B, 256, H/4, W/4)``, ``(..., H/8, W/8)`` and ``(..., H/16, W/16)``.
        """
        chosen = experts if self.experts > 1 else (0,)
        ready = (images - self._mean) / self._std
        if normalised is not None and not all(normalised):
            ready = torch.stack(
                [one if done else raw for one, raw, done in zip(ready, images, normalised, strict=True)]
            )
        flat = ready.flatten(0, 1)
        if self.checkpointing and torch.is_grad_enabled():
            levels = checkpoint(self._run, flat, chosen, use_reentrant=False)
        else:
            levels = self._run(flat, chosen)
        return [level.float().reshape(*images.shape[:2], *level.shape[1:]) for level in levels]

    def _run(self, images: Tensor, experts: tuple[int, ...]) -> list[Tensor]:
        with self._choice.of(experts):
            levels: list[Tensor] = self._encoder(images)["backbone_fpn"]
        return levels


class Router(nn.Module):
    """How much each sensor counts at each level of the pyramid.

    ``softmax`` over the sensors present of a linear map of the level's mean;
    of the ``keep`` greatest where given, renormalised.
    """

    def __init__(self, channels: int = 256, levels: int = 3, keep: int | None = None) -> None:
        super().__init__()
        self.score = nn.ModuleList(nn.Linear(channels, 1) for _ in range(levels))
        self.keep = keep

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Weights ``(L, M, B)``, summing to 1 over ``M``, of levels ``(M, B, C, h, w)``."""
        return torch.stack(
            [
                self._weights(score(level.mean((3, 4)))[..., 0])
                for score, level in zip(self.score, levels, strict=True)
            ]
        )

    def _weights(self, logits: Tensor) -> Tensor:
        if self.keep is not None and self.keep < len(logits):
            least = logits.topk(self.keep, dim=0).values[-1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        return logits.softmax(0)


def fuse(values: Tensor, weights: Tensor) -> Tensor:
    """Half the weighted and half the plain mean over sensors: ``(B, ...)`` of ``(M, B, ...)`` and ``(M, B)``.

    MLE-SAM uses both and does not say how; their mean keeps the scale of one.
    """
    share = weights.view(*weights.shape, *[1] * (values.ndim - 2))
    return ((values * share).sum(0) + values.mean(0)) / 2


class PyramidHead(nn.Module):
    """The second head: every level to one width, all to the finest size, one map of classes."""

    def __init__(self, classes: int, channels: int = 256, width: int = 256, levels: int = 3) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in range(levels))
        self.classify = nn.Conv2d(levels * width, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Class logits ``(B, K, H/4, W/4)`` of levels ``(B, C, h, w)``, finest first."""
        size = levels[0].shape[-2:]
        maps = [
            F.interpolate(F.gelu(lateral(level)), size, mode="bilinear", align_corners=False)
            for lateral, level in zip(self.lateral, levels, strict=True)
        ]
        logits: Tensor = self.classify(torch.cat(maps, dim=1))
        return logits
