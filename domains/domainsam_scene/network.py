"""The network of the scene pack: several sensors in, one class map out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError

Method = Literal["memorysam", "mlesam", "both", "early", "single"]


@dataclass(frozen=True)
class NetworkConfig:
    """What is built.

    Parameters
    ----------
    labels
        Class names; their order is the order of the logits.
    modalities
        Sensors that it is trained on, in the order in which memory sees them.
    method
        How sensors are joined.
    image_size
        Longest side in pixels of the images that the network sees.
    """

    labels: tuple[str, ...]
    modalities: tuple[str, ...]
    method: Method = "both"
    image_size: int = 256

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or not self.modalities:
            raise ConfigError("a scene network needs two labels or more, and one modality or more")


@dataclass(frozen=True)
class SceneOutput:
    """What the network says of a batch.

    ``logits`` is ``(B, K, H, W)``; ``auxiliary`` the same from a second head,
    or None; ``per_modality`` ``(M, B, K, h, w)`` what each sensor says alone,
    at a quarter of the size; ``weights`` ``(M, B)`` how much each sensor
    counts, summing to 1 over sensors. ``modalities`` names the ``M`` sensors.
    """

    logits: Tensor
    auxiliary: Tensor | None
    per_modality: Tensor
    weights: Tensor
    modalities: tuple[str, ...]


class SceneNetwork(nn.Module):
    """See the module's text."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.heads = nn.ModuleList(
            nn.Conv2d(3, len(config.labels), 8, stride=4, padding=2) for _ in config.modalities
        )

    def forward(self, modalities: Mapping[str, Tensor]) -> SceneOutput:
        """Class logits of registered images ``(B, 3, H, W)`` in 0 to 1, by sensor."""
        names = tuple(name for name in self.config.modalities if name in modalities)
        own = [self.heads[self.config.modalities.index(name)](modalities[name]) for name in names]
        per_modality = torch.stack(own)
        size = modalities[names[0]].shape[-2:]
        logits = nn.functional.interpolate(per_modality.mean(0), size, mode="bilinear", align_corners=False)
        weights = logits.new_full((len(names), logits.shape[0]), 1 / len(names))
        return SceneOutput(logits, None, per_modality, weights, names)
