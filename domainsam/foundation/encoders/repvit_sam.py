"""RepViT-SAM (Wang et al. 2023, arXiv 2312.05760): RepViT-M2.3 up to stride 16, and SAM's neck.

The trunk is timm's; the last stage's stride becomes 1, so that its 640 channels stay at stride 16.
"""

from __future__ import annotations

from functools import cache, partial

import timm
from torch import Tensor, nn

from domainsam.foundation.encoders.spec import EncoderSpec, make_neck, rename_starts

M23_DEPTHS = (6, 6, 34, 2)
"""Blocks of a stage behind its downsampling, as timm counts them."""
PREFIX = "image_encoder."


class RepVitSamEncoder(nn.Module):
    """Normalised images ``(B, 3, H, W)`` to features ``(B, 256, H/16, W/16)``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = timm.create_model("repvit_m2_3", pretrained=False, num_classes=0)
        self.trunk.stages[3].downsample.spatial_downsample.c.stride = (1, 1)
        self.neck = make_neck(self.trunk.num_features)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.neck(self.trunk.forward_features(images))
        return features


@cache
def repvit_starts(depths: tuple[int, ...]) -> dict[str, str]:
    """Starts of timm's names of a RepViT's tensors, and of the official ones.

    The official code counts all blocks in one list, the stem being the first. timm keeps the block
    before a downsampling, and the downsampling, with the stage that follows.
    """
    starts = {"stem.conv1.": "features.0.0.", "stem.conv2.": "features.0.2."}
    number = 1
    for stage, depth in enumerate(depths):
        ours = f"stages.{stage}."
        if stage:
            starts |= _plain_block(f"{ours}downsample.pre_block.", number)
            starts |= _downsampling(f"{ours}downsample.", number + 1)
            number += 2
        for block in range(depth):
            starts |= _plain_block(f"{ours}blocks.{block}.", number)
            number += 1
    return {
        f"{PREFIX}trunk.{timm_name}": f"{PREFIX}{official_name}"
        for timm_name, official_name in starts.items()
    }


def _plain_block(ours: str, number: int) -> dict[str, str]:
    theirs = f"features.{number}."
    return {
        f"{ours}token_mixer.": f"{theirs}token_mixer.0.",
        f"{ours}se.": f"{theirs}token_mixer.1.",
        f"{ours}channel_mixer.conv1.": f"{theirs}channel_mixer.m.0.",
        f"{ours}channel_mixer.conv2.": f"{theirs}channel_mixer.m.2.",
    }


def _downsampling(ours: str, number: int) -> dict[str, str]:
    theirs = f"features.{number}."
    return {
        f"{ours}spatial_downsample.": f"{theirs}token_mixer.0.",
        f"{ours}channel_downsample.": f"{theirs}token_mixer.2.",
        f"{ours}ffn.conv1.": f"{theirs}channel_mixer.m.0.",
        f"{ours}ffn.conv2.": f"{theirs}channel_mixer.m.2.",
    }


def repvit_name(name: str, depths: tuple[int, ...]) -> str:
    """Name in the official file of a tensor of ours, for a trunk of these depths."""
    return rename_starts(name, repvit_starts(depths))


SPECS = (
    EncoderSpec("repvit_sam", RepVitSamEncoder, partial(repvit_name, depths=M23_DEPTHS), channels_last=True),
)
