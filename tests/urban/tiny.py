"""A settlement model that needs no training and no weights, and small scenes to run it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine

from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.testing.synthetic import make_settlement_scene
from domainsam_urban.model.settlement import SettlementModel

UTM = "EPSG:32650"
PLACE = Affine.translation(443_200, 4_412_300) @ Affine.scale(0.9, -0.9)
FIELD = 64
"""Crops of pass two, far below a real foundation's."""


def tiny_prompter() -> SegFormerPrompter:
    """Random weights whose coarse mask has parts above and below a half everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prompter = SegFormerPrompter().eval()
        with torch.no_grad():
            prompter.head.classify.weight *= 30
    return prompter


def tiny_model() -> SettlementModel:
    """The prompter on the fake foundation, with crops of :data:`FIELD` pixels."""
    foundation = FakeFoundation()
    foundation.image_size = FIELD
    return SettlementModel("tiny", tiny_prompter(), foundation, torch.device("cpu"), "float32", 0.9)


def write_scene(
    path: Path,
    image: np.ndarray | None = None,
    crs: str | None = UTM,
    transform: Affine = PLACE,
    **profile: Any,
) -> Path:
    """A GeoTIFF of an image ``(H, W, C)``; a generated one of 160 x 128 pixels unless given."""
    pixels = make_settlement_scene(160, 128, seed=2).image if image is None else image
    height, width, count = pixels.shape
    with rasterio.open(
        path, "w", "GTiff", width, height, count, crs, transform, pixels.dtype, **profile
    ) as dataset:
        dataset.write(pixels.transpose(2, 0, 1))
    return path
