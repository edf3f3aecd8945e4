"""EdgeSAM (Zhou et al. 2023, arXiv 2312.06660): RepViT-M1, strides 16 and 32 added, and SAM's neck.

What is tapped at stride 16 is the feature behind the last block before the downsampling. timm counts
that block with the next stage, so timm's own feature of the stage would be another one.
"""

from __future__ import annotations

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.encoders.repvit_sam import PREFIX, repvit_name
from domainsam.foundation.encoders.spec import EncoderSpec, make_neck
from domainsam.foundation.layers import EMBED_DIM

M1_DEPTHS = (2, 2, 14, 2)
FUSED = f"{PREFIX}fuse_stage3."


class EdgeSamEncoder(nn.Module):
    """Normalised images ``(B, 3, H, W)``, sides multiples of 32, to features ``(B, 256, H/16, W/16)``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = timm.create_model("repvit_m1", pretrained=False, num_classes=0)
        widths = self.trunk.embed_dim
        self.fuse_stage2 = nn.Conv2d(widths[2], EMBED_DIM, 1, bias=False)
        self.fuse_stage3 = nn.Conv2d(widths[3], EMBED_DIM, 1, bias=False)
        self.neck = make_neck(EMBED_DIM)

    def forward(self, images: Tensor) -> Tensor:
        x = self.trunk.stem(images)
        for stage in self.trunk.stages[:3]:
            x = stage(x)
        last = self.trunk.stages[3]
        down = last.downsample
        stride16 = down.pre_block(x)
        x = down.channel_downsample(down.spatial_downsample(stride16))
        stride32 = last.blocks(x + down.ffn(x))
        deep = F.interpolate(
            self.fuse_stage3(stride32).float(), size=stride16.shape[-2:], mode="bicubic", align_corners=False
        )
        features: Tensor = self.neck(self.fuse_stage2(stride16) + deep)
        return features


def edge_sam_name(name: str) -> str:
    """Name in the official file of a tensor of ours."""
    if name.startswith(FUSED):
        return f"{FUSED}op_list.0.{name.removeprefix(FUSED)}"
    return repvit_name(name, M1_DEPTHS)


# What a trainer of detection heads leaves in some files (scripts/convert_weights.py) has no part in SAM.
SPECS = tuple(
    EncoderSpec(name, EdgeSamEncoder, edge_sam_name, unused=("rpn_head.",), channels_last=True)
    for name in ("edge_sam", "edge_sam_3x")
)
