"""What networks of the scene pack answer, and which sensors they know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import ConfigError


@dataclass(frozen=True)
class SceneOutput:
    """What the network says of a batch.

    ``logits`` is ``(B, K, H, W)``; ``auxiliary`` the same from the second
    head, or None; ``per_modality`` ``(M, B, K, h, w)`` what each sensor says,
    at a quarter of the size; ``weights`` ``(M, B)`` how much each sensor
    counts, summing to 1 over sensors. ``modalities`` names the ``M`` sensors.
    ``finest`` ``(B, C, h, w)`` is the finest level of features; of networks
    beside SAM 2 it has 32 channels, and prototypes are made of it.
    """

    logits: Tensor
    auxiliary: Tensor | None
    per_modality: Tensor
    weights: Tensor
    modalities: tuple[str, ...]
    finest: Tensor


def find_known(given: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the sensors given that a network knows, in the network's order.

    Raises
    ------
    ConfigError
        If it knows none.
    """
    names = tuple(given)
    found = tuple(name for name in known if name in names)
    if not found:
        raise ConfigError(
            f"none of {', '.join(names) or 'no sensors'} is known; there are: {', '.join(known)}"
        )
    return found


def enlarge_logits(logits: Tensor, size: torch.Size) -> Tensor:
    """Upsample logits to the size of the images."""
    return F.interpolate(logits.float(), (size[0], size[1]), mode="bilinear", align_corners=False)
