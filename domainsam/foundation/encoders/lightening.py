"""SAM-Lightening (Song et al. 2024, arXiv 2403.09195): a plain ViT of six blocks with dilated attention.

Attention runs within segments of the sequence of patches and, within a segment, among every r-th
patch; each head starts at another one, so that together they see all. No code was published, and no
weights that stayed. The paper leaves segment and dilation open: both are settings here, written into
a file's header. What a head does not look at gets zeros from it and is carried by the residual path.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import CheckpointError
from domainsam.foundation.encoders.efficientsam import PatchEmbed, resize_positions
from domainsam.foundation.encoders.spec import EncoderSpec, make_neck

WIDTH, HEADS, DEPTH = 384, 6, 6
"""As printed in the paper's section on implementation."""
GRID = 64
SEGMENT, DILATION = 1024, 2
"""A quarter of the 4096 patches of an image of 1024 pixels, and every second one; our choice, see above."""


def attend_dilated(query: Tensor, key: Tensor, value: Tensor, segment: int, dilation: int) -> Tensor:
    """Attention within segments, among every ``dilation``-th row from an offset that differs by head.

    Head ``h`` looks at rows ``h % dilation``, ``h % dilation + dilation``, ... of each segment (Song et
    al. 2024, section 3.2, after LongNet, Ding et al. 2023). With ``dilation`` 1 and a segment as long as
    the sequence it is ordinary attention.

    Parameters
    ----------
    query, key, value
        ``(B, heads, N, D)``.
    segment
        Rows of a segment, a multiple of ``dilation``; the last one may be shorter.
    dilation
        At most the number of heads, so that every row is seen by one.

    Returns
    -------
    Tensor
        ``(B, heads, N, D)``; zeros where a head does not look.
    """
    batch, heads, length, dim = query.shape
    padding = -length % segment
    offsets = [head % dilation for head in range(heads)]

    def taken(x: Tensor) -> Tensor:
        split = F.pad(x, (0, 0, 0, padding)).reshape(batch, heads, -1, segment // dilation, dilation, dim)
        return torch.stack([split[:, head, ..., offset, :] for head, offset in enumerate(offsets)], dim=1)

    mask = None
    if padding:
        there = torch.arange(length + padding, device=query.device) < length
        split = there.reshape(-1, segment // dilation, dilation)
        mask = torch.stack([split[..., offset] for offset in offsets])[None, ..., None, :]
        # A row of padding looks at itself, so that its softmax has something to sum; nobody sees it.
        mask = mask | torch.eye(segment // dilation, dtype=torch.bool, device=query.device)
    mixed = F.scaled_dot_product_attention(taken(query), taken(key), taken(value), attn_mask=mask)
    blank = torch.zeros_like(mixed[:, 0])
    rows = [
        torch.stack([mixed[:, head] if place == offset else blank for place in range(dilation)], dim=3)
        for head, offset in enumerate(offsets)
    ]
    return torch.stack(rows, dim=1).reshape(batch, heads, -1, dim)[:, :, :length]


class DilatedAttention(nn.Module):
    """Multi-head attention over ``(B, N, C)`` by :func:`attend_dilated`, under timm's names."""

    def __init__(self, width: int, heads: int, segment: int, dilation: int) -> None:
        super().__init__()
        self.heads, self.segment, self.dilation = heads, segment, dilation
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        parts = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend_dilated(query, key, value, self.segment, self.dilation)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class LighteningEncoder(nn.Module):
    """Normalised images ``(B, 3, H, W)`` to features ``(B, 256, H/16, W/16)``.

    Raises
    ------
    CheckpointError
        If segment and dilation do not fit each other or the heads.
    """

    def __init__(
        self,
        width: int = WIDTH,
        heads: int = HEADS,
        depth: int = DEPTH,
        segment: int = SEGMENT,
        dilation: int = DILATION,
    ) -> None:
        super().__init__()
        if not 1 <= dilation <= heads or segment < dilation or segment % dilation:
            raise CheckpointError(
                f"dilated attention with segments of {segment} rows, dilation {dilation} and {heads} heads; "
                "expected a dilation from 1 to the number of heads, and segments that are multiples of it"
            )
        self.patch_embed = PatchEmbed(width)
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID, GRID, width))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        for block in self.blocks:
            block.attn = DilatedAttention(width, heads, segment, dilation)
        self.neck = make_neck(width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed(images)
        size = patches.shape[-2:]
        x = patches + resize_positions(self.pos_embed.permute(0, 3, 1, 2), size)
        x = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.neck(x.transpose(1, 2).unflatten(2, size))
        return features


SPECS = (EncoderSpec("lightening", LighteningEncoder),)
