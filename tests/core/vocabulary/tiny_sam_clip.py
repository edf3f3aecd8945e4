"""A tiny SAM, and a teacher of random projections, for tests of SAM-CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.vocabulary.sam_clip import SamClipNetwork, merge
from domainsam.vocabulary.teachers import CLIP_PIXELS, ImageTextTeacher

SIZE = SamSize(width=32, depth=3, heads=2, global_blocks=(2,), image_size=64, window=2)
VECTOR = 8


def make_sam(seed: int = 0) -> SamNetwork:
    """A SAM of three narrow blocks with random weights, positions and relative positions included."""
    torch.manual_seed(seed)
    network = SamNetwork(SIZE)
    with torch.no_grad():
        for name, value in network.image_encoder.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                value.normal_(std=0.2)
    return network.eval()


def make_foundation(seed: int = 0) -> SamFoundation:
    """The same as a foundation."""
    return SamFoundation(make_sam(seed), "sam_vit_b", 64)


def make_merged(begin: str = "sam") -> SamClipNetwork:
    """A merged network of the tiny SAM."""
    torch.manual_seed(1)
    return merge(make_sam(), SIZE, VECTOR, begin).eval()  # type: ignore[arg-type]


def make_teacher() -> ImageTextTeacher:
    """A frozen teacher of pictures of 32 pixels: a random projection of their cells, and of letters."""
    generator = torch.Generator().manual_seed(5)
    project = torch.randn(3 * 16, VECTOR, generator=generator)
    letters = torch.randn(64, VECTOR, generator=generator)

    def see(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, 4).flatten(1) @ project

    def read(texts: Sequence[str]) -> Tensor:
        return torch.stack([letters[[ord(sign) % 64 for sign in text]].mean(dim=0) for text in texts])

    return ImageTextTeacher("tiny", 32, CLIP_PIXELS, see, read, torch.device("cpu"))
