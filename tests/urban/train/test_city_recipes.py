"""Recipes of the shipped model: tiles become patches again, and folds choose nothing on their own ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from recipes.urban.cities import CELLS, INFORMAL, PATCH, STEP, TILE, join_tiles, put_together
from recipes.urban.folds import (
    LEVELS,
    THRESHOLDS,
    choose_threshold,
    compare_methods,
    cross_validate,
    fit_temperature,
    reduce,
    score_ece,
    score_iou,
    soften,
)


def cut(folder: Path, image: np.ndarray, settled: np.ndarray) -> dict[int, Path]:
    """Tiles as the source cuts them, numbered row by row from 1."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    colours = np.where(settled[..., None], np.array(INFORMAL), np.array((200, 200, 200))).astype(np.uint8)
    tiles = {}
    for row in range(9):
        for col in range(9):
            number = 9 * row + col + 1
            part = np.s_[row * STEP : row * STEP + TILE, col * STEP : col * STEP + TILE]
            tiles[number] = folder / "images" / f"p_{number}.tif"
            Image.fromarray(image[part]).save(tiles[number])
            Image.fromarray(colours[part]).save(folder / "masks" / f"p_{number}.png")
    return tiles


def test_tiles_are_put_together_into_the_patch_they_were_cut_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (PATCH, PATCH, 3), dtype=np.uint8)
    settled = rng.random((PATCH, PATCH)) < 0.3
    tiles = cut(tmp_path, image, settled)
    found, labels = put_together(tiles)
    assert np.array_equal(found, image)
    assert np.array_equal(labels, settled.astype(np.uint8))
    # One tile that says otherwise than its neighbours makes the ground that they share unknown.
    Image.fromarray(np.full((TILE, TILE, 3), INFORMAL, np.uint8)).save(tmp_path / "masks" / "p_1.png")
    _, labels = put_together(tiles)
    assert (labels[:STEP, :STEP] == 1).all(), "the corner is the tile's alone"
    shared = labels[STEP:TILE, STEP:TILE]
    assert np.array_equal(shared == 255, ~settled[STEP:TILE, STEP:TILE])


def test_overlapping_tiles_make_a_mosaic_without_what_they_disagree_on() -> None:
    side, half, pixel = 1024, 512, 2.0
    picture = np.zeros((side, side, 3), np.uint8)
    first, second = np.zeros((side, side), np.uint8), np.ones((side, side), np.uint8)
    tiles = {
        "a": (picture + 10, first, Affine(pixel, 0, 100, 0, -pixel, 500)),
        "b": (picture + 20, second, Affine(pixel, 0, 100 + half * pixel, 0, -pixel, 500)),
    }
    mosaic, truth, place = join_tiles(tiles)
    assert mosaic.shape == (side, side + half, 3)
    assert (truth[:, :half] == 0).all()
    assert (truth[:, half:side] == 255).all()
    assert (truth[:, side:] == 1).all()
    assert (place.c, place.f) == (100, 500)


def test_cells_of_beijing_are_in_one_fold_each() -> None:
    cells = [cell for fold in CELLS for cell in fold]
    assert len(cells) == len(set(cells)) == 17


def scenes(share: float, sharpness: float, seed: int = 0) -> np.ndarray:
    """Scenes whose probability is too sure by a factor in log-odds: ``(4, 255, 2)``."""
    chance = soften(1.0)
    truth = 1 / (1 + (1 / chance - 1) ** (1 / sharpness))
    weight = np.random.default_rng(seed).random((4, LEVELS)) * np.where(chance > 0.5, share, 1 - share)
    return np.stack([weight * (1 - truth), weight * truth], axis=2) * 1e4


def test_the_temperature_undoes_what_a_model_is_too_sure_by() -> None:
    groups = [scenes(0.5, 1.5), scenes(0.2, 1.5, 1)]
    found = fit_temperature(groups)
    assert found == pytest.approx(1.5, rel=0.03)
    plain, cooled = (score_ece(reduce(groups[0], 0.5, t).sum(0)) for t in (1.0, found))
    assert cooled < 0.01 < plain


def test_scores_are_those_of_a_count_by_hand() -> None:
    counts = np.zeros((1, LEVELS, 2))
    counts[0, 254, 1], counts[0, 254, 0], counts[0, 0, 1], counts[0, 0, 0] = 6, 2, 2, 90
    sums = reduce(counts, 0.5)
    assert score_iou(sums).tolist() == [pytest.approx(6 / 10)]
    # Of 8 sure pixels 2 are false, of 92 that are ruled out 2 are true: 4 of 100, but for clipping.
    assert score_ece(sums)[0] == pytest.approx(0.04, abs=0.005)
    assert sums[0, :4].tolist() == [6, 8, 8, 100]


def test_the_threshold_is_the_best_for_both_cities_together() -> None:
    counts = np.zeros((1, LEVELS, 2))
    counts[0, 80, 1] = counts[0, 200, 1] = 10
    counts[0, 60, 0], counts[0, 10, 0] = 10, 100
    chosen = choose_threshold([counts, counts], 1.0)
    assert 60 / 254 < chosen <= 80 / 254
    assert chosen in THRESHOLDS


def test_thresholds_that_scenes_cannot_tell_apart_are_a_half() -> None:
    """0.7 is best by a few pixels in scenes that differ by hundreds."""
    rng = np.random.default_rng(0)
    counts = np.zeros((12, LEVELS, 2))
    counts[:, 250, 1] = rng.integers(100, 900, 12)
    counts[:, 250, 0] = rng.integers(0, 800, 12)
    counts[:, 160, 0] = 5
    assert choose_threshold([counts, counts], 1.0) == 0.5
    # Where every scene says so it is another.
    counts[:, 250, 0], counts[:, 160, 0] = 0, 500
    assert choose_threshold([counts, counts], 1.0) > 160 / 254


def test_a_fold_is_judged_with_what_the_others_choose() -> None:
    calm = {"beijing": scenes(0.5, 1.0), "mumbai": scenes(0.2, 1.0, 1)}
    sure = {"beijing": scenes(0.5, 2.0), "mumbai": scenes(0.2, 2.0, 1)}
    report = cross_validate({1: sure, 2: calm, 3: calm})
    first = report["folds"][0]
    assert first["temperature"] == pytest.approx(1.0, abs=0.03)
    assert 1.1 < report["folds"][1]["temperature"] < 1.9
    assert report["beijing"]["scenes"] == 12
    low, high = report["mumbai"]["iou"][1:]
    assert low <= report["mumbai"]["iou"][0] <= high


def test_the_lead_of_a_method_has_an_interval() -> None:
    coarse = {1: {"beijing": scenes(0.5, 1.0), "mumbai": scenes(0.2, 1.0)}}
    report = compare_methods(coarse, coarse, 0.4, 1.0)
    assert report["beijing, 0.5"]["lead of full"] == [0, 0, 0]
    assert report["mumbai, chosen"]["coarse"] == report["mumbai, chosen"]["full"]
