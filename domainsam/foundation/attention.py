"""SAM's attention with relative positions through ``scaled_dot_product_attention``; same results.

SAM's image encoder adds to the attention logits a bias that depends on the
query and, separately, on the key's row and column (decomposed relative
positions, Li et al. 2022, MViTv2). The official code writes the whole logit
matrix, 800 MB a layer for an image of 1024 pixels. Here it never exists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK_QUERIES = 1024
"""Queries whose bias is written at a time on the CPU: 16 MB for 4096 keys, which stays in the cache."""
HEAD_MULTIPLE = 8
"""Widths of query and key vectors are rounded up to this, as fused kernels want it."""


def compute_relative_bias(query: Tensor, table: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What every query adds for a key's row, and for its column.

    Every query meets every relative position in one product; the few that
    count for it lie side by side and are taken as a sliding view, not copied.

    Parameters
    ----------
    query
        ``(B, heads, H * W, D)``, unscaled.
    table
        ``(2H - 1 + 2W - 1, D)`` from :func:`make_relative_table`.
    size
        ``(H, W)``.

    Returns
    -------
    rows, columns
        ``(B, heads, H, W, H)`` and ``(B, heads, H, W, W)``.
    """
    height, width = size
    batch, heads = query.shape[:2]
    length = table.shape[0]
    scores = torch.matmul(query, table.T).contiguous()
    line = width * length
    shared = (heads * height * line, height * line)
    rows = scores.as_strided(
        (batch, heads, height, width, height), (*shared, line - 1, length, 1), height - 1
    )
    columns = scores.as_strided(
        (batch, heads, height, width, width), (*shared, line, length - 1, 1), 2 * height - 1 + width - 1
    )
    return rows, columns


def make_relative_table(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """Relative position vectors ``(2H - 1 + 2W - 1, D)`` for a grid of ``size``, in sliding order.

    ``rows`` and ``columns`` are the official ``rel_pos_h`` and ``rel_pos_w``,
    ``(2n - 1, D)``; they are resized linearly, as the official code does. They
    are indexed by query minus key, so reversed they run along with the keys.
    """
    parts = []
    for vectors, side in zip((rows, columns), size, strict=True):
        if vectors.shape[0] != 2 * side - 1:
            vectors = F.interpolate(vectors.T[None], size=2 * side - 1, mode="linear")[0].T
        parts.append(vectors.flip(0))
    return torch.cat(parts)


def attend_joined(query: Tensor, key: Tensor, value: Tensor, table: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention with the bias inside the product of lengthened queries and keys.

    A query is lengthened by its row and column biases, a key by the one-hot
    codes of its row and column; their product then holds the bias, and any
    fused kernel can be used. Shapes as in :func:`attend`.
    """
    dim = query.shape[-1]
    height, width = size
    rows, columns = compute_relative_bias(query, table, size)
    one_hot = torch.cat(
        [
            torch.eye(height, dtype=key.dtype, device=key.device).repeat_interleave(width, 0),
            torch.eye(width, dtype=key.dtype, device=key.device).repeat(height, 1),
        ],
        dim=1,
    )
    pad = -(dim + height + width) % HEAD_MULTIPLE
    zeros = query.new_zeros(()).expand(*query.shape[:-1], pad)
    query = torch.cat([query * dim**-0.5, rows.flatten(2, 3), columns.flatten(2, 3), zeros], dim=-1)
    key = torch.cat([key, one_hot.expand(*key.shape[:-1], -1), zeros], dim=-1)
    # Fused kernels want values as wide as keys; the zeros come out as zeros and are dropped.
    value = F.pad(value, (0, query.shape[-1] - dim))
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :dim]


def attend_blocked(query: Tensor, key: Tensor, value: Tensor, table: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention head by head and some rows of queries at a time, their bias written out.

    Faster than :func:`attend_joined` for float32 on the CPU, where the longer
    products cost more than the bias. Shapes as in :func:`attend`.
    """
    height, width = size
    rows, columns = compute_relative_bias(query, table, size)
    step = max(1, BLOCK_QUERIES // width)
    heads = []
    for head in range(query.shape[1]):
        one = slice(head, head + 1)
        blocks = []
        for start in range(0, height, step):
            block = slice(start, start + step)
            bias = rows[:, one, block, :, :, None] + columns[:, one, block, :, None, :]
            part = query[:, one, start * width : (start + step) * width]
            mask = bias.flatten(2, 3).flatten(-2)
            blocks.append(F.scaled_dot_product_attention(part, key[:, one], value[:, one], attn_mask=mask))
        heads.append(torch.cat(blocks, dim=2))
    return torch.cat(heads, dim=1)


def attend(query: Tensor, key: Tensor, value: Tensor, table: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention over a grid of ``size`` (H, W) with decomposed relative positions.

    Parameters
    ----------
    query, key, value
        ``(B, heads, H * W, D)``, row by row.
    table
        ``(2H - 1 + 2W - 1, D)`` from :func:`make_relative_table`.

    Returns
    -------
    Tensor
        ``(B, heads, H * W, D)``.
    """
    blocked = query.device.type == "cpu" and query.dtype == torch.float32 and query.shape[2] >= BLOCK_QUERIES
    function = attend_blocked if blocked else attend_joined
    return function(query, key, value, table, size)


class FusedAttention(nn.Module):
    """The mask decoder's attention with a fused kernel; takes over the official module's layers and names."""

    def __init__(self, official: Any) -> None:
        super().__init__()
        self.num_heads: int = official.num_heads
        self.q_proj: nn.Linear = official.q_proj
        self.k_proj: nn.Linear = official.k_proj
        self.v_proj: nn.Linear = official.v_proj
        self.out_proj: nn.Linear = official.out_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        out: Tensor = self.out_proj(mixed)
        return out


def fuse_attention(module: nn.Module, official: type[nn.Module]) -> None:
    """Replace every ``official`` attention inside ``module`` by :class:`FusedAttention`, in place."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is official:
                setattr(parent, name, FusedAttention(child))
