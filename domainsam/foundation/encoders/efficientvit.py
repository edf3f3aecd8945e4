"""EfficientViT-SAM (Zhang et al. 2024, arXiv 2402.05008): EfficientViT's large trunks, three levels added.

The blocks are timm's. Batch norms have an epsilon of 1e-6, and linear attention one of 1e-15, as in the
official code: with timm's 1e-5 the features differ by 1e-4, and more where few keys are alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from timm.layers import GELUTanh
from timm.models.efficientvit_mit import (
    ConvBlock,
    ConvNormAct,
    EfficientVitBlock,
    FusedMBConv,
    LiteMLA,
    MBConv,
    ResidualBlock,
)
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.encoders.spec import EncoderSpec
from domainsam.foundation.layers import EMBED_DIM, ChannelNorm

NORM = partial(nn.BatchNorm2d, eps=1e-6)
HEAD_DIM = 32
ATTENTION_EPS = 1e-15


@dataclass(frozen=True)
class VitSize:
    """Sizes of one network; tuples count stages from the stem on.

    ``blocks`` are ``res`` (two convolutions), ``fmb`` (fused inverted residuals), ``mb`` (inverted
    residuals) and ``att3`` or ``att5`` (linear attention with keys gathered over 3 or 5 pixels).
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: tuple[str, ...]
    expand: tuple[int, ...]
    neck_depth: int
    neck_expand: int


def _large(depths: tuple[int, ...], neck_depth: int) -> VitSize:
    blocks = ("res", "fmb", "fmb", "mb", "att5")
    return VitSize((32, 64, 128, 256, 512), depths, blocks, (1, 4, 4, 4, 6), neck_depth, 1)


def _extra_large(depths: tuple[int, ...], neck_depth: int) -> VitSize:
    blocks = ("res", "fmb", "fmb", "fmb", "att3", "att3")
    return VitSize((32, 64, 128, 256, 512, 1024), depths, blocks, (1, 4, 4, 4, 4, 6), neck_depth, 4)


SIZES = {
    "efficientvit_sam_l0": _large((1, 1, 1, 4, 4), 4),
    "efficientvit_sam_l1": _large((1, 1, 1, 6, 6), 8),
    "efficientvit_sam_l2": _large((1, 2, 2, 8, 8), 12),
    "efficientvit_sam_xl0": _extra_large((0, 1, 1, 2, 3, 3), 6),
    "efficientvit_sam_xl1": _extra_large((1, 2, 2, 4, 6, 6), 12),
}
"""As in ``efficientvit.models.efficientvit.sam``."""


class Steps(nn.Module):
    """Modules one after the other, under the official name of their list."""

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.op_list:
            x = step(x)
        return x


def _local(kind: str, width: int, out: int, stride: int, expand: int) -> nn.Module:
    """A block that looks at its neighbourhood; ``mb`` has a norm at its end only."""
    block: nn.Module
    if kind == "res":
        block = ConvBlock(width, out, stride=stride, norm_layer=NORM, act_layer=(GELUTanh, None))
    elif kind == "fmb":
        acts = (GELUTanh, None)
        block = FusedMBConv(width, out, stride=stride, expand_ratio=expand, norm_layer=NORM, act_layer=acts)
    else:
        block = MBConv(
            width,
            out,
            stride=stride,
            expand_ratio=expand,
            use_bias=(True, True, False),
            norm_layer=(None, None, NORM),
            act_layer=(GELUTanh, GELUTanh, None),
        )
    return block


def _attention(width: int, expand: int, scale: int) -> nn.Module:
    block: nn.Module = EfficientVitBlock(
        width, head_dim=HEAD_DIM, expand_ratio=expand, norm_layer=NORM, act_layer=GELUTanh
    )
    linear = LiteMLA(width, width, dim=HEAD_DIM, norm_layer=(None, NORM), scales=(scale,), eps=ATTENTION_EPS)
    block.context_module = ResidualBlock(linear, nn.Identity())
    return block


def _make_stages(size: VitSize) -> nn.ModuleList:
    stem: list[nn.Module] = [ConvNormAct(3, size.widths[0], stride=2, norm_layer=NORM, act_layer=GELUTanh)]
    width = size.widths[0]
    stem += [ResidualBlock(_local("res", width, width, 1, 1), nn.Identity()) for _ in range(size.depths[0])]
    stages = [Steps(stem)]
    rest = zip(size.widths[1:], size.depths[1:], size.blocks[1:], size.expand[1:], strict=True)
    for out, depth, kind, expand in rest:
        # A stage begins by halving the image, with four times its usual expansion.
        first = "fmb" if kind == "fmb" else "mb"
        steps: list[nn.Module] = [ResidualBlock(_local(first, width, out, 2, 4 * expand), None)]
        for _ in range(depth):
            if kind.startswith("att"):
                steps.append(_attention(out, expand, int(kind[-1])))
            else:
                steps.append(ResidualBlock(_local(kind, out, out, 1, expand), nn.Identity()))
        stages.append(Steps(steps))
        width = out
    return nn.ModuleList(stages)


class Trunk(nn.Module):
    """Images to the features of every stage, the finest first."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.stages = _make_stages(size)

    def forward(self, images: Tensor) -> list[Tensor]:
        levels, x = [], images
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class Neck(nn.Module):
    """The three coarsest levels brought to the finest one's grid, added and mixed."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.input_ops = nn.ModuleList(
            Steps([ConvNormAct(width, EMBED_DIM, 1, norm_layer=NORM, act_layer=None)])
            for width in reversed(size.widths[-3:])
        )
        self.middle = Steps(
            [
                ResidualBlock(_local("fmb", EMBED_DIM, EMBED_DIM, 1, size.neck_expand), nn.Identity())
                for _ in range(size.neck_depth)
            ]
        )
        last = ConvNormAct(EMBED_DIM, EMBED_DIM, 1, bias=True, norm_layer=None, act_layer=None)
        self.output_ops = nn.ModuleList([Steps([last])])

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        coarse, middle, fine = (
            project(level).float() for project, level in zip(self.input_ops, reversed(levels), strict=True)
        )
        grid = fine.shape[-2:]
        total = _enlarge(coarse, grid) + _enlarge(middle, grid) + fine
        mixed: Tensor = self.output_ops[0](self.middle(total))
        return mixed


def _enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bicubic", align_corners=False)


class EfficientVitSamEncoder(nn.Module):
    """Normalised images ``(B, 3, h, w)`` to features: ``(B, 256, h/8, w/8)`` of L, ``h/16`` of XL."""

    def __init__(self, name: str) -> None:
        super().__init__()
        size = SIZES[name]
        self.backbone = Trunk(size)
        self.neck = Neck(size)
        self.norm = ChannelNorm(EMBED_DIM)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.norm(self.neck(self.backbone(images)[-3:]))
        return features


# L0 to L2 see images of 512 pixels; prompts and masks stay in the frame of 1024 (Zhang et al., section 3).
SPECS = tuple(
    EncoderSpec(
        name,
        partial(EfficientVitSamEncoder, name),
        shrink=1 if "_xl" in name else 2,
        multiple=64,
        channels_last=True,
    )
    for name in SIZES
)
