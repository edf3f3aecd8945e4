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
from typing import Any, Literal

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.attention import attend, make_relative_table

PATCH = 16
Positions = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class PositionTables:
    """Positions for one input size: ``(1, h, w, C)`` to add, and a relative table for every block."""

    absolute: Tensor
    relative: tuple[Tensor, ...]


class SamImageEncoder(ImageEncoderViT):  # type: ignore[misc]
    """Official encoder with the same state dict, for any input size and type of computation.

    Call :meth:`prepare` once the weights are in place.
    """

    tables: dict[tuple[int, int, Positions], PositionTables]
    compute_dtype: torch.dtype

    def prepare(self, dtype: torch.dtype = torch.float32, compile: bool = False) -> None:
        """Cast the blocks' matrices to ``dtype`` and forget position tables of other weights."""
        self.compute_dtype = dtype
        self.tables = {}
        for block in self.blocks:
            for linear in (block.attn.qkv, block.attn.proj, block.mlp.lin1, block.mlp.lin2):
                linear.to(dtype)
        self.run = torch.compile(self._run_blocks) if compile else self._run_blocks

    def forward(self, x: Tensor, positions: Positions = "bicubic") -> Tensor:
        """Features ``(B, 256, H/16, W/16)`` of normalised images ``(B, 3, H, W)``.

        ``positions`` is how the absolute position code is resized where the image has another size than
        the encoder was made for: ViTDet's way, or that of SAMed and SAM-LST (``"bilinear"``).
        """
        features: Tensor = self.neck(self.tokens(x, positions).permute(0, 3, 1, 2))
        return features

    def tokens(self, x: Tensor, positions: Positions = "bicubic") -> Tensor:
        """What the last block gives, before the neck: ``(B, H/16, W/16, C)``."""
        size = (x.shape[2] // PATCH, x.shape[3] // PATCH)
        key = (size[0], size[1], positions)
        if key not in self.tables:
            self.tables[key] = self._position_tables(size, positions)
        tables = self.tables[key]
        mixed: Tensor = self.run((self.patch_embed(x) + tables.absolute).contiguous(), tables.relative)
        return mixed

    def _run_blocks(self, x: Tensor, relative: tuple[Tensor, ...]) -> Tensor:
        for block, table in zip(self.blocks, relative, strict=True):
            x = x + self.attend_block(block, block.norm1(x).to(self.compute_dtype), table).to(x.dtype)
            x = x + block.mlp(block.norm2(x).to(self.compute_dtype)).to(x.dtype)
        return x

    @staticmethod
    def attend_block(block: Any, x: Tensor, table: Tensor) -> Tensor:
        """One block's attention: ``(B, h, w, C)`` to the same shape."""
        attention, grid = block.attn, (x.shape[1], x.shape[2])
        size = (block.window_size, block.window_size) if block.window_size else grid
        query, key, value = split_windows(attention.qkv(x), size, attention.num_heads, attention.qkv.bias)
        mixed = attend(query, key, value, table, size)
        projected: Tensor = attention.proj(join_windows(mixed, size, grid))
        return projected

    def _position_tables(self, size: tuple[int, int], positions: Positions) -> PositionTables:
        """Resized positions: as asked for the absolute ones, linear for the relative ones (ViTDet's rule)."""
        absolute = self.pos_embed
        if tuple(absolute.shape[1:3]) != size:
            absolute = F.interpolate(
                absolute.permute(0, 3, 1, 2), size=size, mode=positions, align_corners=False
            ).permute(0, 2, 3, 1)
        relative = []
        for block in self.blocks:
            window = (block.window_size, block.window_size) if block.window_size else size
            table = make_relative_table(block.attn.rel_pos_h, block.attn.rel_pos_w, window)
            relative.append(table.to(self.compute_dtype))
        return PositionTables(absolute, tuple(relative))


def split_windows(qkv: Tensor, window: tuple[int, int], heads: int, padding: Tensor) -> Tensor:
    """Queries, keys and values by window and head, in one copy.

    Parameters
    ----------
    qkv
        ``(B, H, W, 3 * heads * D)`` as projected.
    window
        Height and width of a window.
    padding
        ``(3 * heads * D,)`` what fills windows that overhang the grid: the
        projection's bias, which is what the official code gets by projecting zeros.

    Returns
    -------
    Tensor
        ``(3, B * windows, heads, window height * width, D)``.
    """
    batch, height, width, channels = qkv.shape
    rows, columns = -(-height // window[0]), -(-width // window[1])
    if (rows * window[0], columns * window[1]) != (height, width):
        padded = padding.expand(batch, rows * window[0], columns * window[1], channels).clone()
        padded[:, :height, :width] = qkv
        qkv = padded
    cut = qkv.view(batch, rows, window[0], columns, window[1], 3, heads, -1)
    cut = cut.permute(5, 0, 1, 3, 6, 2, 4, 7).contiguous()
    return cut.view(3, batch * rows * columns, heads, window[0] * window[1], -1)


def join_windows(x: Tensor, window: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """``(B * windows, heads, window height * width, D)`` back to a grid ``(B, H, W, heads * D)``."""
    height, width = size
    rows, columns = -(-height // window[0]), -(-width // window[1])
    heads, dim = x.shape[1], x.shape[3]
    x = x.view(-1, rows, columns, heads, *window, dim).permute(0, 1, 4, 2, 5, 3, 6)
    x = x.reshape(-1, rows * window[0], columns * window[1], heads * dim)
    return x[:, :height, :width].contiguous()
