"""MobileSAM (Zhang et al. 2023, arXiv 2306.14289): TinyViT-5M (Wu et al. 2022) at stride 16, SAM's neck.

The trunk is timm's; the last downsampling's stride becomes 1. The official file also holds TinyViT's
classifier, which MobileSAM never calls.
"""

from __future__ import annotations

import re

from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from domainsam.foundation.encoders.spec import EncoderSpec, make_neck

WIDTHS = (64, 128, 160, 320)
PREFIX = "image_encoder."
TRUNK = f"{PREFIX}trunk."
DOWNSAMPLE = re.compile(r"^stages\.(\d+)\.downsample\.")


class TinyVitEncoder(nn.Module):
    """Normalised images ``(B, 3, H, W)`` to features ``(B, 256, H/16, W/16)``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = TinyVit(
            embed_dims=WIDTHS,
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
            num_classes=0,
        )
        self.trunk.head = nn.Identity()
        self.trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.neck = make_neck(WIDTHS[-1])

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.neck(self.trunk.stages(self.trunk.patch_embed(images)))
        return features


def tiny_vit_name(name: str) -> str:
    """Name in the official file of a tensor of ours.

    There a stage ends with the downsampling that begins the next one in timm, and a convolution
    with its norm is a pair ``c``, ``bn``.
    """
    if not name.startswith(TRUNK):
        return name
    name = name.removeprefix(TRUNK)
    name = DOWNSAMPLE.sub(lambda found: f"layers.{int(found[1]) - 1}.downsample.", name)
    name = name.replace("stages.", "layers.")
    name = name.replace("patch_embed.conv1.", "patch_embed.seq.0.")
    name = name.replace("patch_embed.conv2.", "patch_embed.seq.2.")
    return PREFIX + name.replace(".conv.", ".c.")


SPECS = (
    EncoderSpec(
        "mobile_sam",
        TinyVitEncoder,
        tiny_vit_name,
        unused=(f"{PREFIX}norm_head.", f"{PREFIX}head."),
    ),
)
