"""Scores of organs against a second implementation that knows neither MONAI nor distance transforms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domainsam.metrics.surfaces import compute_areas, encode_cubes
from domainsam_ct.evaluate.scores import LEAVE_OUT, VOXELS, WORST, ScoreOptions, score_organ

SPACING = (0.8, 1.1, 2.5)


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour outside the mask, or outside the array, one by one."""
    padded = np.pad(mask, 1)
    found = []
    for i, j, k in np.argwhere(padded):
        around = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
        if not all(padded[i + a, j + b, k + c] for a, b, c in around):
            found.append((i, j, k))
    return np.array(found, float)


def distances(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """From every surface voxel of one mask the distance to the nearest of the other, by trying all."""
    ends, starts = surface(one) * spacing, surface(other) * spacing
    return np.sqrt(((ends[:, None] - starts[None]) ** 2).sum(axis=2)).min(axis=1)


def percentile(values: np.ndarray, share: float) -> float:
    """Linear between the two ranks next to it."""
    ordered = np.sort(values)
    rank = share * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (rank - low) * (ordered[high] - ordered[low]))


def blobs(seed: int, edge: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two lumps that overlap, with stray voxels; at the array's edge or away from it."""
    random = np.random.default_rng(seed)
    grid = np.indices((14, 13, 9)) - np.array([2.0 if edge else 6.5, 6, 4])[:, None, None, None]
    masks = []
    for _ in range(2):
        shift = random.normal(0, 1.0, 3)[:, None, None, None]
        radii = random.uniform(2.5, 4.5, 3)[:, None, None, None]
        masks.append((((grid - shift) / radii) ** 2).sum(axis=0) < 1)
    masks[0] |= random.random(masks[0].shape) < 0.01
    return masks[0], masks[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("tolerance", [1.0, 2.5])
def test_scores_are_those_of_the_second_implementation(seed: int, edge: bool, tolerance: float) -> None:
    predicted, truth = blobs(seed, edge)
    found = score_organ(predicted, truth, SPACING, ScoreOptions(tolerance, surfaces=VOXELS))
    there, back = distances(predicted, truth, SPACING), distances(truth, predicted, SPACING)
    near = (there <= tolerance + 1e-4).sum() + (back <= tolerance + 1e-4).sum()
    assert found.dice == pytest.approx(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))
    assert found.hd95 == pytest.approx(max(percentile(there, 0.95), percentile(back, 0.95)), rel=1e-5)
    assert found.surface_dice == pytest.approx(near / (len(there) + len(back)))
    assert 0 < found.surface_dice < 1, "a score of 0 or 1 would prove little"
    assert (found.truth_voxels, found.predicted_voxels) == (truth.sum(), predicted.sum())


@pytest.mark.parametrize("seed", range(3))
def test_paper_scores_are_in_voxels_over_both_directions(seed: int) -> None:
    predicted, truth = blobs(seed, edge=True)
    found = score_organ(predicted, truth, SPACING, ScoreOptions(paper=True))
    unit = (1.0, 1.0, 1.0)
    both = np.concatenate([distances(predicted, truth, unit), distances(truth, predicted, unit)])
    assert found.hd95 == pytest.approx(percentile(both, 0.95))
    assert found.dice == pytest.approx(score_organ(predicted, truth, SPACING, ScoreOptions()).dice)
    assert math.isnan(found.surface_dice)


@pytest.mark.parametrize("seed", range(3))
def test_area_scores_are_those_of_pieces_one_by_one(seed: int) -> None:
    """Every cube with a piece of surface by itself: its area from the table, its distance by trying all."""
    predicted, truth = blobs(seed, edge=True)
    areas = compute_areas(SPACING)
    pieces = []
    for mask in (predicted, truth):
        codes = encode_cubes(mask)
        cubes = np.argwhere((codes > 0) & (codes < 255))
        pieces.append((cubes * SPACING, areas[codes[tuple(cubes.T)]]))
    met, total, furthest = 0.0, 0.0, 0.0
    for (here, area), (there, _) in (pieces, pieces[::-1]):
        away = np.sqrt(((here[:, None] - there[None]) ** 2).sum(axis=2)).min(axis=1)
        met, total = met + area[away <= 2.5001].sum(), total + area.sum()
        order = np.argsort(away)
        share = np.cumsum(area[order]) / area.sum()
        furthest = max(furthest, away[order][np.flatnonzero(share >= 0.95)[0]])
    found = score_organ(predicted, truth, SPACING, ScoreOptions(2.5))
    assert found.surface_dice == pytest.approx(met / total)
    assert found.hd95 == pytest.approx(furthest)
    assert 0 < found.surface_dice < 1


def test_equal_masks_are_perfect() -> None:
    truth = blobs(0, edge=False)[1]
    found = score_organ(truth, truth, SPACING, ScoreOptions())
    assert (found.dice, found.hd95, found.surface_dice) == (1, 0, 1)


def test_a_shift_is_measured_in_millimetres_along_its_axis() -> None:
    truth = np.zeros((12, 12, 12), bool)
    truth[3:9, 3:9, 3:9] = True
    for axis, step in enumerate(SPACING):
        found = score_organ(np.roll(truth, 2, axis), truth, SPACING, ScoreOptions(2 * step))
        assert found.hd95 == pytest.approx(2 * step, rel=1e-5)
        assert found.surface_dice == 1


EMPTY = np.zeros((10, 10, 10), bool)
SOME = np.pad(np.ones((2, 2, 2), bool), 4)
DIAGONAL = math.hypot(8, 11, 25)


@pytest.mark.parametrize(
    ("options", "predicted", "truth", "expected"),
    [
        (ScoreOptions(empty=LEAVE_OUT), EMPTY, EMPTY, (math.nan, math.nan, math.nan)),
        (ScoreOptions(empty=LEAVE_OUT), SOME, EMPTY, (0, math.nan, 0)),
        (ScoreOptions(empty=LEAVE_OUT), EMPTY, SOME, (0, math.nan, 0)),
        (ScoreOptions(empty=WORST), EMPTY, EMPTY, (1, 0, 1)),
        (ScoreOptions(empty=WORST), SOME, EMPTY, (0, DIAGONAL, 0)),
        (ScoreOptions(empty=WORST), EMPTY, SOME, (0, DIAGONAL, 0)),
        (ScoreOptions(paper=True), EMPTY, EMPTY, (0, 0, math.nan)),
        (ScoreOptions(paper=True), SOME, EMPTY, (1, 0, math.nan)),
        (ScoreOptions(paper=True), EMPTY, SOME, (0, 0, math.nan)),
    ],
)
def test_empty_masks(
    options: ScoreOptions, predicted: np.ndarray, truth: np.ndarray, expected: tuple[float, float, float]
) -> None:
    found = score_organ(predicted, truth, SPACING, options)
    np.testing.assert_allclose((found.dice, found.hd95, found.surface_dice), expected)
