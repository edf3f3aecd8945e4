"""RepViT (Wang et al. 2024), or another pyramid of ``timm``, with SAM's neck: the embedded kind."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.foundation.layers import EMBED_DIM, ChannelNorm
from domainsam.protocols import Features

STRIDES = (4, 8, 16, 32)


class RepVitEncoder(nn.Module):
    """RepViT image encoder with SAM's neck; any other pyramid may stand in RepViT's place.

    ``(B, 3, H, W)`` normalised images to features ``(B, 256, H/16, W/16)`` and
    finer levels ``(B, 32, H/4, W/4)`` and ``(B, 64, H/8, W/8)``.

    Parameters
    ----------
    model
        A network of ``timm`` with levels at strides 4, 8, 16 and 32. Levels of others than RepViT are
        normalised: those of linear bottlenecks spread several times as far and would drown the decoder.

    Raises
    ------
    ConfigError
        If ``timm`` has no such network, or it has no such levels.
    """

    def __init__(self, model: str = "repvit_m1") -> None:
        super().__init__()
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

    def forward(self, images: Tensor) -> Features:
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
