"""RepViT (Wang et al. 2024), or another pyramid of ``timm``, with SAM's neck: the embedded kind."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.foundation.layers import EMBED_DIM, ChannelNorm
from domainsam.protocols import Features

STRIDES = (4, 8, 16, 32)
MULTIPLE = 32
"""The trunk's coarsest stride: sides of what it sees are multiples of it."""


class RepVitEncoder(nn.Module):
    """RepViT image encoder with SAM's neck; any other pyramid may stand in RepViT's place.

    ``(B, 3, H, W)`` normalised images to features ``(B, 256, H/16, W/16)`` and
    finer levels ``(B, 32, H/4, W/4)`` and ``(B, 64, H/8, W/8)``.

    Parameters
    ----------
    model
        A network of ``timm`` with levels at strides 4, 8, 16 and 32. Levels of others than RepViT are
        normalised: those of linear bottlenecks spread several times as far and would drown the decoder.
    scale
        The trunk sees images whose sides are this part of the given ones, rounded up to multiples of 32.
        Its levels are brought back to the strides above, as EfficientViT-SAM does for its small sizes
        (Zhang et al. 2024, section 3); what is lost in the finest is added by :class:`Detail`.

    Raises
    ------
    ConfigError
        If ``timm`` has no such network, or it has no such levels.
    """

    def __init__(self, model: str = "repvit_m1", scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.trunk = make_pyramid(model)
        widths = self.trunk.feature_info.channels()
        plain = model.startswith("repvit")
        self.norms = nn.ModuleList(nn.Identity() if plain else ChannelNorm(width) for width in widths)
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
        self.detail = Detail() if scale < 1 else None

    def forward(self, images: Tensor) -> Features:
        size = (images.shape[-2], images.shape[-1])
        if self.detail is None:
            return self._encode(images)
        seen = [math.ceil(side * self.scale / MULTIPLE) * MULTIPLE for side in size]
        small = self._encode(F.interpolate(images, seen, mode="bilinear", antialias=True))
        at16, at4, at8 = (
            _resize(level, size, stride)
            for level, stride in zip((small.image, *small.levels), (16, 4, 8), strict=True)
        )
        return Features(at16, (at4 + self.detail(images), at8), size)

    def _encode(self, images: Tensor) -> Features:
        levels = (norm(level) for norm, level in zip(self.norms, self.trunk(images), strict=True))
        stride4, stride8, stride16, stride32 = levels
        deep = F.interpolate(
            self.fuse_stage3(stride32), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        image = self.neck(self.fuse_stage2(stride16) + deep)
        height, width = images.shape[-2:]
        return Features(image, (self.level4(stride4), self.level8(stride8)), (height, width))


def make_pyramid(name: str) -> Any:
    """A network of ``timm`` that gives its levels at strides 4, 8, 16 and 32, with random weights.

    Raises
    ------
    ConfigError
        If there is no such network, or it has no such levels.
    """
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), 3)
        hint = f" (near: {', '.join(near)})" if near else ""
        raise ConfigError(f"no network of timm is called {name!r}{hint}: give one such as repvit_m1")
    try:
        model = timm.create_model(name, features_only=True, pretrained=False)
        have = list(model.feature_info.reduction())
        if have != list(STRIDES):
            # The last level of a stride is the deepest one there.
            chosen = [max(i for i, stride in enumerate(have) if stride == wanted) for wanted in STRIDES]
            model = timm.create_model(name, features_only=True, pretrained=False, out_indices=chosen)
    except (RuntimeError, TypeError, AssertionError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{name} offers no levels at strides {', '.join(map(str, STRIDES))} "
            f"({str(error).splitlines()[0]}): give a pyramid such as repvit_m1 or efficientnet_lite0"
        ) from error
    return model


class Detail(nn.Module):
    """What an image shows at stride 4, ``(B, 3, H, W)`` to ``(B, 32, H/4, W/4)``; 0 before it has learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, EMBED_DIM // 8, 7, stride=4, padding=3)
        self.mix = nn.Conv2d(EMBED_DIM // 8, EMBED_DIM // 8, 1)
        nn.init.zeros_(self.mix.weight)
        assert self.mix.bias is not None
        nn.init.zeros_(self.mix.bias)

    def forward(self, images: Tensor) -> Tensor:
        seen: Tensor = self.mix(F.gelu(self.look(images)))
        return seen


def _resize(level: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """A level ``(B, C, h, w)`` at that stride of an image of ``size`` (H, W)."""
    wanted = (size[0] // stride, size[1] // stride)
    return F.interpolate(level, wanted, mode="bilinear", align_corners=False)
