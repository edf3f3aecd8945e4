"""EfficientSAM (Xiong et al. 2023, arXiv 2312.00863): plain ViT-Ti and ViT-S with SAM's neck.

The blocks are timm's. Positions were learnt on 14 x 14 patches and are enlarged by plain bicubic
interpolation; timm's own way, with antialiasing, is another function even where it enlarges.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.encoders.spec import EncoderSpec, make_neck
from domainsam.foundations import IMAGENET

PATCH = 16
DEPTH = 12
GRID = 14
"""Patches along a side of the images of 224 pixels that the positions were learnt on."""
SIZES = {"efficientsam_ti": (192, 3), "efficientsam_s": (384, 6)}
"""Width and heads."""


class PatchEmbed(nn.Module):
    """Patches of 16 x 16 pixels as vectors, under the official name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.proj(images)
        return patches


class EfficientSamEncoder(nn.Module):
    """Normalised images ``(B, 3, H, W)`` to features ``(B, 256, H/16, W/16)``."""

    def __init__(self, width: int, heads: int, depth: int = DEPTH) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(width)
        # The first of them is that of the class token, which the network no longer has.
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID**2 + 1, width))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.neck = make_neck(width)

    def forward(self, images: Tensor) -> Tensor:
        tokens, size = self.tokens(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self.finish(tokens, size)

    def tokens(self, images: Tensor) -> tuple[Tensor, torch.Size]:
        """Patches with their positions ``(B, hw, C)`` before the first block, and the grid (h, w)."""
        patches = self.patch_embed(images)
        size = patches.shape[-2:]
        positions = self.pos_embed[:, 1:].reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
        return (patches + resize_positions(positions, size)).flatten(2).transpose(1, 2), size

    def finish(self, tokens: Tensor, size: torch.Size) -> Tensor:
        """Features ``(B, 256, h, w)`` of what the last block gave, ``(B, hw, C)``."""
        features: Tensor = self.neck(tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size))
        return features


def resize_positions(positions: Tensor, size: torch.Size) -> Tensor:
    """Positions ``(1, C, h, w)`` at another ``size``: bicubic, without antialiasing."""
    if positions.shape[-2:] == size:
        return positions
    return F.interpolate(positions, size=tuple(size), mode="bicubic", align_corners=False)


SPECS = tuple(
    EncoderSpec(name, partial(EfficientSamEncoder, width, heads), pixels=IMAGENET)
    for name, (width, heads) in SIZES.items()
)
