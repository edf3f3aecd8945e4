"""SAM's image encoder: the official modules, a faster way through them.

The parameters, their names and the arithmetic are those of
``segment_anything.modeling.ImageEncoderViT``. Different are: no logit matrix
is written (:mod:`domainsam.foundation.attention`); padding joins a window only
after the projection to queries, keys and values; position tables are made
once for every input size; the matrix products of the blocks may run in
bfloat16 or float16, while the sum that runs through the blocks stays float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.attention import attend

PATCH = 16


@dataclass(frozen=True)
class PositionTables:
    """Positions for one input size: ``(1, h, w, C)`` to add, and two ``(n, n, D)`` tables a block."""

    absolute: Tensor
    relative: tuple[tuple[Tensor, Tensor], ...]


class SamImageEncoder(ImageEncoderViT):  # type: ignore[misc]
    """Official encoder with the same state dict, for any input size and type of computation.

    Call :meth:`prepare` once the weights are in place.
    """

    tables: dict[tuple[int, int], PositionTables]
    compute_dtype: torch.dtype

    def prepare(self, dtype: torch.dtype = torch.float32, compile: bool = False) -> None:
        """Cast the blocks' matrices to ``dtype`` and forget position tables of other weights."""
        self.compute_dtype = dtype
        self.tables = {}
        for block in self.blocks:
            for linear in (block.attn.qkv, block.attn.proj, block.mlp.lin1, block.mlp.lin2):
                linear.to(dtype)
        self.run = torch.compile(self._run_blocks) if compile else self._run_blocks

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, 256, H/16, W/16)`` of normalised images ``(B, 3, H, W)``."""
        size = (x.shape[2] // PATCH, x.shape[3] // PATCH)
        if size not in self.tables:
            self.tables[size] = self._position_tables(size)
        tables = self.tables[size]
        tokens = self.run(self.patch_embed(x) + tables.absolute, tables.relative)
        features: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return features

    def _run_blocks(self, x: Tensor, relative: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
        for block, tables in zip(self.blocks, relative, strict=True):
            x = x + self._attention(block, block.norm1(x).to(self.compute_dtype), tables)
            x = x + block.mlp(block.norm2(x).to(self.compute_dtype))
        return x

    @staticmethod
    def _attention(block: Any, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """One block's attention: ``(B, h, w, C)`` to the same shape."""
        attention = block.attn
        batch, height, width, channels = x.shape
        qkv = attention.qkv(x)
        window = block.window_size
        if window:
            qkv = into_windows(qkv, window, attention.qkv.bias)
        size = (qkv.shape[1], qkv.shape[2])
        query, key, value = qkv.flatten(1, 2).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value, *tables).transpose(1, 2).reshape(-1, *size, channels)
        if window:
            mixed = from_windows(mixed, (height, width))
        projected: Tensor = attention.proj(mixed)
        return projected

    def _position_tables(self, size: tuple[int, int]) -> PositionTables:
        """Resized positions: bicubic for the absolute ones, linear for the relative ones (ViTDet's rule)."""
        absolute = self.pos_embed
        if tuple(absolute.shape[1:3]) != size:
            absolute = F.interpolate(
                absolute.permute(0, 3, 1, 2), size=size, mode="bicubic", align_corners=False
            ).permute(0, 2, 3, 1)
        relative = []
        for block in self.blocks:
            height, width = (block.window_size, block.window_size) if block.window_size else size
            pair = (
                get_rel_pos(height, height, block.attn.rel_pos_h),
                get_rel_pos(width, width, block.attn.rel_pos_w),
            )
            relative.append((pair[0].to(self.compute_dtype), pair[1].to(self.compute_dtype)))
        return PositionTables(absolute, tuple(relative))


def into_windows(x: Tensor, window: int, padding: Tensor) -> Tensor:
    """Cut ``(B, H, W, C)`` into windows ``(B * n, window, window, C)``, overhang filled with ``padding`` (C,).

    What the official code gets by projecting zeros is the projection's bias.
    """
    batch, height, width, channels = x.shape
    rows, columns = -(-height // window), -(-width // window)
    if (rows * window, columns * window) != (height, width):
        padded = padding.expand(batch, rows * window, columns * window, channels).clone()
        padded[:, :height, :width] = x
        x = padded
    x = x.view(batch, rows, window, columns, window, channels)
    return x.transpose(2, 3).reshape(-1, window, window, channels)


def from_windows(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo :func:`into_windows` for a grid of ``size`` (H, W)."""
    height, width = size
    window, channels = x.shape[1], x.shape[3]
    rows, columns = -(-height // window), -(-width // window)
    x = x.view(-1, rows, columns, window, window, channels).transpose(2, 3)
    return x.reshape(-1, rows * window, columns * window, channels)[:, :height, :width]
