"""Dilated attention: ordinary attention where it should be, and a brute-force mask everywhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.encoders.lightening import attend_dilated


def vectors(length: int, heads: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = torch.randn(
        3, 2, heads, length, 8, generator=torch.Generator().manual_seed(0)
    ).unbind(0)
    return query, key, value


def sees(length: int, head: int, segment: int, dilation: int) -> Tensor:
    """Which row looks at which, ``(N, N)`` bool, written out pair by pair."""
    place = torch.arange(length)
    chosen = (place % segment) % dilation == head % dilation
    same = place[:, None] // segment == place[None, :] // segment
    return same & chosen[:, None] & chosen[None, :]


def test_dilation_one_over_the_whole_sequence_is_ordinary_attention() -> None:
    query, key, value = vectors(24)
    found = attend_dilated(query, key, value, segment=24, dilation=1)
    assert torch.allclose(found, F.scaled_dot_product_attention(query, key, value), atol=1e-6)


@pytest.mark.parametrize(("length", "segment", "dilation"), [(24, 8, 2), (24, 12, 3), (30, 8, 4), (5, 8, 2)])
def test_rows_look_where_the_mask_says(length: int, segment: int, dilation: int) -> None:
    query, key, value = vectors(length)
    found = attend_dilated(query, key, value, segment, dilation)
    assert found.shape == query.shape
    seen = torch.zeros(length, dtype=torch.bool)
    for head in range(4):
        mask = sees(length, head, segment, dilation)
        rows = mask.any(dim=1)
        logits = (query[:, head] @ key[:, head].transpose(-1, -2)) * 8**-0.5
        weights = logits.masked_fill(~mask, -torch.inf)[:, rows].softmax(-1)
        assert torch.allclose(found[:, head][:, rows], weights @ value[:, head], atol=1e-5)
        assert not found[:, head][:, ~rows].any()
        seen |= rows
    assert seen.all(), "together the heads look at every row"
