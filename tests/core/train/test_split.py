"""Splitting by ground: nothing trained on is judged, however scenes overlap."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam.train.split import (
    METRES_PER_DEGREE,
    BlockOptions,
    BlockSplit,
    add_counts,
    choose_blocks,
    count_blocks,
    find_blocks,
    to_ground_metres,
)

LAT = 39.9
STEP = np.array([1 / np.cos(np.deg2rad(LAT)), 1.0]) / METRES_PER_DEGREE
"""A metre east and north, in degrees."""


def tile(east_m: float, size: int = 200, pixel: float = 5.0) -> np.ndarray:
    """Degrees ``(size, size, 2)`` of pixel centres; the tile is a kilometre wide."""
    row, col = np.mgrid[:size, :size] + 0.5
    metres = np.stack([east_m + col * pixel, -row * pixel], axis=-1)
    return np.array([116.3, LAT]) + metres * STEP


def labels_of(lon_lat: np.ndarray) -> np.ndarray:
    """Settlement in stripes that belong to the ground, not to the tile."""
    return (np.sin(lon_lat[..., 0] * 3000) > 0.3).astype(np.uint8)


@pytest.fixture
def scenes() -> list[np.ndarray]:
    return [tile(0), tile(500)]


def split_of(scenes: list[np.ndarray], options: BlockOptions) -> BlockSplit:
    parts = [count_blocks(s.reshape(-1, 2), labels_of(s).ravel(), options.size_m) for s in scenes]
    return choose_blocks(add_counts(parts), options)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_half_overlapping_scenes_share_no_ground_between_sides(scenes: list[np.ndarray], seed: int) -> None:
    options = BlockOptions(size_m=150, buffer_m=30, seed=seed)
    split = split_of(scenes, options)
    trained = np.concatenate([s[split.is_training(s)] for s in scenes])
    judged = np.concatenate([s[split.is_validation(s)] for s in scenes])
    assert len(trained) > 0.4 * 2 * 200**2
    assert len(judged) > 0.1 * 2 * 200**2
    rounded = {tuple(point) for point in np.round(trained / STEP, 1).tolist()}
    assert rounded.isdisjoint(tuple(point) for point in np.round(judged / STEP, 1).tolist())
    ground = {tuple(key) for key in find_blocks(to_ground_metres(trained, 150), 150).tolist()}
    assert ground.isdisjoint(split.validation)


def test_training_ground_keeps_its_distance(scenes: list[np.ndarray]) -> None:
    split = split_of(scenes, BlockOptions(size_m=200, buffer_m=40))
    scene = scenes[0]
    trained, judged = scene[split.is_training(scene)] / STEP, scene[split.is_validation(scene)] / STEP
    for point in trained[:: len(trained) // 200]:
        assert np.abs(judged - point).max(axis=1).min() > 39


def test_a_blocks_side_depends_on_place_and_seed_alone(scenes: list[np.ndarray]) -> None:
    options = BlockOptions(size_m=150)
    assert split_of(scenes, options) == split_of(scenes[::-1], options)
    assert split_of(scenes, options) != split_of(scenes, BlockOptions(size_m=150, seed=1))


def test_both_sides_have_settlement_and_about_the_wanted_share(scenes: list[np.ndarray]) -> None:
    options = BlockOptions(size_m=100, share=0.3)
    split = split_of(scenes, options)
    settled = [(labels_of(s) == 1) for s in scenes]
    inside = sum(int((split.is_validation(s) & m).sum()) for s, m in zip(scenes, settled, strict=True))
    assert 0.15 < inside / sum(int(m.sum()) for m in settled) <= 0.31


def test_blocks_are_squares_of_the_stated_size_at_any_latitude() -> None:
    for lat in (0.01, 39.9, -65.0):
        step = np.array([1 / np.cos(np.deg2rad(lat)), 1.0]) / METRES_PER_DEGREE
        line = np.arange(2000)[:, None] * step * [1, 0] + [20.0, lat]
        columns = find_blocks(to_ground_metres(line, 250), 250)[:, 1]
        assert np.abs(np.bincount(columns - columns.min())[1:-1] - 250).max() <= 1


def test_unknown_pixels_do_not_count() -> None:
    lon_lat = np.array([[116.3, LAT]] * 3)
    (count,) = count_blocks(lon_lat, np.array([0, 1, 255], np.uint8), 100).values()
    assert count.tolist() == [2, 1]


def test_too_little_ground_is_refused_with_a_hint() -> None:
    with pytest.raises(InputError, match=r"--block.*--val"):
        choose_blocks({(0, 0): np.array([10, 3])}, BlockOptions())
    with pytest.raises(InputError, match="1 with settlement"):
        choose_blocks({(0, 0): np.array([10, 3]), (0, 1): np.array([10, 0])}, BlockOptions())
