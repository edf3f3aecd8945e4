"""SAM 2's memory attention, with what is the same for all later frames computed once.

The weights are those of the official ``MemoryAttention``, the numbers the
same up to rounding. Three things make it faster where frames are many:

* a remembered frame's keys are projected and turned once, when it is written,
  and not again for every frame that reads it;
* values are read in the memory's own 64 channels and projected to 256
  afterwards: a weighted mean and a linear map may change places;
* the rotary code is applied with real numbers, from a table kept by grid, which
  may have any proportions (the official one wants squares).

Source: Ravi et al. 2024 (SAM 2, section 4 and appendix D).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

QUERY_CHUNK = 512
"""Queries whose weights are held at a time; at 512 the weights of 28,000 keys take 57 MB."""
Grid = tuple[int, int]


@lru_cache(maxsize=16)
def _table(channels: int, grid: Grid, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(h * w, channels / 2)`` of the rotary code, axes x then y (Heo et al. 2024)."""
    quarter = torch.arange(0, channels, 4, device=device)[: channels // 4].float()
    frequency = 1.0 / theta ** (quarter / channels)
    place = torch.arange(grid[0] * grid[1], device=device, dtype=torch.float32)
    x, y = place % grid[1], torch.div(place, grid[1], rounding_mode="floor")
    angle = torch.cat([torch.outer(x, frequency), torch.outer(y, frequency)], dim=1)
    return angle.cos(), angle.sin()


def rotate_rows(x: Tensor, grid: Grid, theta: float = 10000.0) -> Tensor:
    """Rotate rows ``(B, h * w, C)`` by the rotary code of their positions."""
    with torch.inference_mode(False):
        cosine, sine = _table(x.shape[-1], grid, theta, x.device)
    even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    pairs = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1)
    return pairs.flatten(-2).type_as(x)


@dataclass(frozen=True)
class Written:
    """One remembered frame as the layers read it.

    ``values`` is ``(B, n, 64)``; ``keys`` holds for every layer ``(B, n, 256)``,
    without the code of time, which depends on who reads.
    """

    values: Tensor
    keys: tuple[Tensor, ...]


def write(attention: Any, values: Tensor, position: Tensor, grid: Grid | None) -> Written:
    """Project a frame's memory ``(B, n, 64)`` with its position code; no ``grid`` for placeless tokens."""
    keys = []
    for layer in attention.layers:
        projected = layer.cross_attn_image.k_proj(values + position)
        keys.append(projected if grid is None else rotate_rows(projected, grid))
    return Written(values, tuple(keys))


def _time_keys(layer: Any, time: Tensor, grid: Grid) -> Tensor:
    """What a code of time ``(64,)`` adds to a frame's keys: ``(1, n, 256)``."""
    projected = F.linear(time, layer.cross_attn_image.k_proj.weight)
    return rotate_rows(projected.expand(1, grid[0] * grid[1], -1), grid)


def attend(
    attention: Any,
    frame: Tensor,
    position: Tensor,
    grid: Grid,
    memories: Sequence[tuple[Written, Tensor]],
    pointers: Written | None,
) -> Tensor:
    """A frame's features after reading what is remembered.

    Parameters
    ----------
    attention
        The official ``MemoryAttention``, without position codes on queries.
    frame, position
        ``(B, h * w, 256)`` features and their position code.
    grid
        ``(h, w)``, of the frame and of every memory.
    memories
        Remembered frames, each with its code of time ``(64,)``.
    pointers
        All object pointers as tokens, or None.

    Returns
    -------
    Tensor
        ``(B, h * w, 256)``.
    """
    output = frame + 0.1 * position if attention.pos_enc_at_input else frame
    for number, layer in enumerate(attention.layers):
        output = output + layer.dropout1(_look_around(layer.self_attn, layer.norm1(output), grid))
        keys = [written.keys[number] + _time_keys(layer, time, grid) for written, time in memories]
        values = [written.values for written, _ in memories]
        if pointers is not None:
            keys.append(pointers.keys[number])
            values.append(pointers.values)
        read = _look_back(
            layer.cross_attn_image, layer.norm2(output), grid, torch.cat(keys, 1), torch.cat(values, 1)
        )
        output = output + layer.dropout2(read)
        inner = layer.linear1(layer.norm3(output))
        output = output + layer.dropout3(layer.linear2(layer.dropout(layer.activation(inner))))
    result: Tensor = attention.norm(output)
    return result


def _look_around(attention: Any, x: Tensor, grid: Grid) -> Tensor:
    """Attention of a frame to itself."""
    queries, keys = rotate_rows(attention.q_proj(x), grid), rotate_rows(attention.k_proj(x), grid)
    dropout = attention.dropout_p if attention.training else 0.0
    seen = F.scaled_dot_product_attention(
        queries[:, None], keys[:, None], attention.v_proj(x)[:, None], dropout_p=dropout
    )
    answer: Tensor = attention.out_proj(seen[:, 0])
    return answer


def _look_back(attention: Any, x: Tensor, grid: Grid, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of a frame to the memories."""
    queries = rotate_rows(attention.q_proj(x), grid)
    if attention.training and attention.dropout_p:
        # With weights dropped, their sum is not 1 and the projection's bias may not be taken out.
        seen = F.scaled_dot_product_attention(
            queries[:, None],
            keys[:, None],
            attention.v_proj(values)[:, None],
            dropout_p=attention.dropout_p,
        )[:, 0]
    else:
        seen = attention.v_proj(_narrow(queries, keys, values))
    answer: Tensor = attention.out_proj(seen)
    return answer


def _narrow(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """``softmax(Q K' / sqrt(c)) V`` with fewer channels in ``V`` than in ``Q``, some queries at a time."""
    scale = queries.shape[-1] ** -0.5
    parts = []
    for some in (queries * scale).split(QUERY_CHUNK, dim=1):
        weights = torch.bmm(some, keys.transpose(1, 2)).softmax(-1, dtype=torch.float32)
        parts.append(torch.bmm(weights.to(values.dtype), values))
    return torch.cat(parts, dim=1)
