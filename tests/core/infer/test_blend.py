"""Blending in a sliding band."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.infer.blend import (
    LEVELS,
    NODATA,
    BandBlend,
    find_threshold_level,
    hann,
    hann_window,
    quantise,
    store_shares,
    taper,
)
from domainsam.infer.tiling import TileGrid, split_columns


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (32, 512)])
def test_weights_are_positive_and_symmetric(size: tuple[int, int]) -> None:
    weights = hann_window(*size)
    assert weights.shape == size
    assert (weights > 0).all()
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-5)


def test_quantisation_agrees_with_the_threshold() -> None:
    probability = np.linspace(0, 1, 100_001, dtype=np.float32)
    stored = quantise(probability)
    assert stored.max() == LEVELS
    assert np.abs(stored / LEVELS - probability).max() <= 0.5 / LEVELS + 1e-6
    for threshold in (0.001, 0.25, 0.5, 0.9, 1.0):
        level = find_threshold_level(threshold)
        assert level / LEVELS >= threshold - 1e-9 > (level - 1) / LEVELS - 1e-9 or level == 1


@pytest.mark.parametrize("strip", [4096, 128])
@pytest.mark.parametrize("overlap", [32, 64, 96])
@pytest.mark.parametrize("shape", [(300, 410), (90, 100), (515, 64)])
def test_band_equals_a_blend_in_whole_arrays(shape: tuple[int, int], overlap: int, strip: int) -> None:
    rng = np.random.default_rng(overlap)
    grid = TileGrid.cover(shape, 128, overlap)
    tiles = [
        (window, rng.random(grid.size, dtype=np.float32), rng.random(grid.size) < 0.7)
        for window in grid.windows()
    ]
    full = np.zeros((2, grid.rows[-1] + grid.size[0], grid.cols[-1] + grid.size[1]), dtype=np.float32)
    for window, values, valid in tiles:
        weight = hann_window(*grid.size) * valid
        full[0][window.slices] += weight * values
        full[1][window.slices] += weight
    total, weight = full[:, : shape[0], : shape[1]]
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    expected = np.where(weight > 0, quantise(mean), np.uint8(NODATA))

    found = np.zeros(shape, dtype=np.uint8)
    for first, end in split_columns(shape[1], strip):
        blend = BandBlend(grid.size[0], (first, end))
        done = 0
        for index, row in enumerate(grid.rows):
            for window, values, valid in tiles:
                if window.row == row:
                    blend.add(window, [values], valid)
            finished = grid.finished(index, shape[0])
            means, seen = blend.finish(finished)
            found[done:finished, first:end] = store_shares(means[0], seen)
            done = finished
    np.testing.assert_array_equal(found, expected)


def test_band_may_start_late() -> None:
    grid = TileGrid.cover((300, 128), 128, 64)
    tiles = [
        (window, np.random.default_rng(1).random(grid.size, dtype=np.float32)) for window in grid.windows()
    ]
    whole, late = BandBlend(128, (0, 128)), BandBlend(128, (0, 128), top=grid.rows[2])
    valid = np.ones(grid.size, dtype=bool)
    for index, (window, values) in enumerate(tiles):
        whole.add(window, [values], valid)
        if index < 2:
            whole.finish(grid.finished(index, 300))
        if index >= grid.first_touching(grid.rows[2]):
            late.add(window, [values], valid)
        if index == 2:
            break
    for one, other in zip(whole.finish(grid.rows[3]), late.finish(grid.rows[3]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("overlap", [16, 64, 96])
def test_margins_give_no_answer_where_a_neighbour_has_one(overlap: int) -> None:
    """Whatever a tile says within its margin is not heard, except where the scene ends."""
    shape, margin = (300, 390), overlap * 3 // 8
    grid = TileGrid.cover(shape, 128, overlap)
    blend = BandBlend(shape[0], (0, shape[1]), margin=margin, shape=shape)
    for window in grid.windows():
        wrong = np.zeros((window.height, window.width), np.float32)
        for axis, first in ((0, window.row), (1, window.col)):
            lines = np.moveaxis(wrong, axis, 0)
            if first > 0:
                lines[:margin] = 9
            if first + 128 < shape[axis]:
                lines[128 - margin :] = 9
        blend.add(window, [np.where(wrong > 0, wrong, np.float32(0.25))], np.ones(wrong.shape, bool))
    means, seen = blend.finish(shape[0])
    assert seen.all()
    np.testing.assert_allclose(means[0], 0.25, atol=1e-6)


def test_taper_is_hann_between_its_margins() -> None:
    np.testing.assert_allclose(taper(64, 0, True, True), hann(64))
    np.testing.assert_allclose(taper(64, 8, False, False), hann(64))
    one = taper(64, 8, True, False)
    assert (one[:8] == 0).all()
    np.testing.assert_allclose(one[32:], hann(64)[32:], atol=1e-6)
    assert (np.diff(one[8:32]) > 0).all()
