"""Slices onto the network's grid and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from domainsam_ct.model.predict import make_slice_grid

SIZES = st.integers(20, 90)
MILLIMETRES = st.floats(0.5, 4.0)


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, MILLIMETRES, MILLIMETRES, st.floats(0.8, 3.0))
def test_the_grid_covers_the_slice(rows: int, cols: int, high: float, wide: float, pixel: float) -> None:
    grid = make_slice_grid((rows, cols), (high, wide), pixel, 64)
    for extent, count in zip((rows * high, cols * wide), grid.network, strict=True):
        assert count % 32 == 0
        assert extent <= count * pixel + 1e-3 < extent + 32 * pixel + 1e-2


@settings(max_examples=20, deadline=None)
@given(SIZES, MILLIMETRES, MILLIMETRES, st.floats(0.8, 3.0))
def test_even_slices_stay_even_both_ways(side: int, high: float, wide: float, pixel: float) -> None:
    grid = make_slice_grid((side, side), (high, wide), pixel, 64)
    inward = grid.resample_inward(torch.ones(side, side))
    assert ((inward - 1).abs().lt(1e-5) | inward.eq(0)).all()
    height, width = grid.network
    outward = grid.resample_outward(torch.ones(height // 4, width // 4))
    torch.testing.assert_close(outward, torch.ones(side, side))


def test_a_straight_slope_comes_back_at_its_own_place() -> None:
    side, spacing, pixel = 60, 1.3, 0.9
    grid = make_slice_grid((side, side), (spacing, spacing), pixel, 64)
    slope = torch.arange(side, dtype=torch.float32).expand(side, side)
    inside = grid.resample_inward(slope)
    quarter = F.avg_pool2d(inside[None, None], 4)[0, 0]
    back = grid.resample_outward(quarter)
    # Cells of four pixels that overhang the slice mix in what lies outside.
    middle = slice(10, -10)
    assert (back[middle, middle] - slope[middle, middle]).abs().max() < 0.05


def test_stretching_is_bilinear_interpolation() -> None:
    picture = torch.from_numpy(np.random.default_rng(0).random((24, 40)).astype(np.float32))
    grid = make_slice_grid((24, 40), (1.0, 1.0), 0.0, 64)
    expected = F.interpolate(picture[None, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(grid.resample_inward(picture), expected, atol=1e-4, rtol=0)
    maps = torch.rand(3, 16, 16)
    outward = F.interpolate(maps[None], (24, 40), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(grid.resample_outward(maps), outward, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pixel", [0.0, 2.0])
def test_mirrored_slices_are_mirrored_on_the_grid(pixel: float) -> None:
    picture = torch.rand(31, 50, generator=torch.Generator().manual_seed(1))
    grid = make_slice_grid((31, 50), (1.7, 0.9), pixel, 64)
    torch.testing.assert_close(grid.resample_inward(picture.flip(-1)), grid.resample_inward(picture).flip(-1))
