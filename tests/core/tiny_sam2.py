"""A small official SAM 2 with seeded random weights, and what tests of memory and experts need of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from domainsam.foundation.embedded_sam2 import TinySam2Foundation, build
from tests.core.official import lively

SIDE = 64


def tiny_model(side: int = SIDE, seed: int = 0) -> Any:
    """An official ``SAM2Base`` for images of one side, its random weights spread so that answers vary."""
    torch.manual_seed(seed)
    model: Any = build()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5 / parameter.shape[1] ** 0.5)
    resized(model, side)
    return lively(model, seed)


def resized(model: Any, side: int) -> None:
    """Make an official model expect images of another side; no weight depends on it."""
    model.image_size = side
    model.sam_image_embedding_size = side // 16
    model.sam_prompt_encoder.image_embedding_size = (side // 16, side // 16)
    model.sam_prompt_encoder.mask_input_size = (side // 4, side // 4)


def tiny_foundation(side: int = SIDE, seed: int = 0) -> TinySam2Foundation:
    return TinySam2Foundation(tiny_model(side, seed))


def images(count: int, batch: int = 1, side: int = SIDE, seed: int = 1) -> Tensor:
    """Smooth random images ``(count, batch, 3, side, side)`` in 0 to 1."""
    coarse = torch.rand(count * batch, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    fine = nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
    return fine.clamp(0, 1).view(count, batch, 3, side, side)
