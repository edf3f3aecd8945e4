"""What parts an example from its surroundings."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam.prompter.contrast import Contrast, Spread, find_best_cut, learn_contrast, learn_discriminant


def make_cells(seed: int = 0, inside: int = 20, outside: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Cells of eight channels that share a large common part; the third alone tells the example."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.3, (inside + outside, 8)).astype(np.float32) + 5
    share = np.zeros(inside + outside, np.float32)
    share[:inside] = 1
    features[:inside, 2] += 2
    return features, share


def test_what_tells_the_example_is_learnt_and_what_all_share_is_not() -> None:
    features, share = make_cells()
    contrast = learn_contrast(features, share)
    other, truth = make_cells(seed=1)
    assert (contrast.score(other.T) > 0).tolist() == (truth > 0.5).tolist()
    assert int(np.abs(contrast.weights).argmax()) == 2


def test_few_cells_weigh_as_much_as_many() -> None:
    features, share = make_cells()
    odds = learn_contrast(features, share).score(features.T)
    own, other = odds[share > 0.5].mean(), odds[share < 0.5].mean()
    assert own > 0 > other
    assert abs(own + other) < 0.5 * (own - other)


def test_scores_keep_the_shape_of_a_map() -> None:
    contrast = Contrast(np.array([1.0, 0.0], np.float32), np.array([2.0, -1.0], np.float32), 0.5)
    maps = np.zeros((2, 3, 4), np.float32)
    maps[0, 1, 2], maps[1, 1, 2] = 3, 1
    odds = contrast.score(maps)
    assert odds.shape == (3, 4)
    # 2 (3 - 1) - 1 + 0.5, and 2 (0 - 1) + 0.5 elsewhere.
    assert odds[1, 2] == pytest.approx(3.5)
    assert odds[0, 0] == pytest.approx(-1.5)
    assert contrast.shifted(3.5).score(maps)[1, 2] == pytest.approx(0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_example_of_nothing_or_of_everything_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="something inside and something outside"):
        learn_contrast(np.ones((5, 2), np.float32), np.full(5, share, np.float32))


def test_the_cut_is_where_dice_is_best() -> None:
    odds = np.array([-3.0, -2.0, 0.5, 1.0, 2.0, 3.0], np.float32)
    share = np.array([0, 0, 0, 1, 1, 1], np.float32)
    cut, dice = find_best_cut([odds], [share])
    assert 0.5 < cut <= 1.0
    assert dice == pytest.approx(1.0)


def test_a_channel_that_wavers_all_over_the_scene_is_trusted_less() -> None:
    """Two channels part few cells equally well; the scene says which of them says little."""
    features, share = make_cells(inside=6, outside=30)
    features[:6, 4] += 2
    covariance = np.diag(np.full(8, 0.09))
    covariance[4, 4] = 9.0
    spread = Spread(features.mean(axis=0).astype(np.float64), covariance)
    found = learn_discriminant(features, share, spread)
    assert abs(found.weights[4]) < 0.2 * abs(found.weights[2])
    odds = found.score(features.T)
    assert (odds > 0).tolist() == (share > 0.5).tolist()


def test_the_discriminant_is_fishers_where_the_scene_is_what_lies_around() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, share = make_cells(inside=200, outside=200)
    parts = [features[share > 0.5], features[share < 0.5]]
    within = (np.cov(parts[0].T, bias=True) + np.cov(parts[1].T, bias=True)) / 2
    found = learn_discriminant(features, share, Spread(parts[1].mean(axis=0).astype(np.float64), within))
    fisher = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=None).fit(features, share > 0.5).coef_[0]
    cosine = found.weights @ fisher / np.linalg.norm(found.weights) / np.linalg.norm(fisher)
    assert cosine > 0.995


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_discriminant_of_nothing_or_of_everything_is_refused(share: float) -> None:
    spread = Spread(np.zeros(2), np.eye(2))
    with pytest.raises(InputError, match="something inside and something outside"):
        learn_discriminant(np.ones((5, 2), np.float32), np.full(5, share, np.float32), spread)
