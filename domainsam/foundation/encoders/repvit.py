"""RepViT (Wang et al. 2024) with SAM's neck: the encoder of the embedded foundation."""

from __future__ import annotations

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.layers import EMBED_DIM, ChannelNorm
from domainsam.protocols import Features


class RepVitEncoder(nn.Module):
    """RepViT image encoder with SAM's neck.

    ``(B, 3, H, W)`` normalised images to features ``(B, 256, H/16, W/16)`` and
    finer levels ``(B, 32, H/4, W/4)`` and ``(B, 64, H/8, W/8)``.
    """

    def __init__(self, model: str = "repvit_m1") -> None:
        super().__init__()
        self.trunk = timm.create_model(model, features_only=True, pretrained=False)
        widths = self.trunk.feature_info.channels()
        self.fuse_stage2 = nn.Conv2d(widths[2], EMBED_DIM, 1, bias=False)
        self.fuse_stage3 = nn.Conv2d(widths[3], EMBED_DIM, 1, bias=False)
        self.neck = nn.Sequential(
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 1, bias=False),
            ChannelNorm(EMBED_DIM),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
            ChannelNorm(EMBED_DIM),
        )
        self.level4 = nn.Conv2d(widths[0], EMBED_DIM // 8, 1)
        self.level8 = nn.Conv2d(widths[1], EMBED_DIM // 4, 1)

    def forward(self, images: Tensor) -> Features:
        stride4, stride8, stride16, stride32 = self.trunk(images)
        deep = F.interpolate(
            self.fuse_stage3(stride32), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        image = self.neck(self.fuse_stage2(stride16) + deep)
        height, width = images.shape[-2:]
        return Features(image, (self.level4(stride4), self.level8(stride8)), (height, width))
