"""Generated scenes: the same for a seed, different between seeds, with the truth they claim."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.testing.synthetic import SettlementScene, make_settlement_scene


@pytest.fixture(scope="module")
def scene() -> SettlementScene:
    return make_settlement_scene(256, 320, seed=3)


def test_shapes_and_types(scene: SettlementScene) -> None:
    assert scene.image.shape == (256, 320, 3)
    assert scene.image.dtype == np.uint8
    assert scene.truth.shape == (256, 320)
    assert set(np.unique(scene.truth)) == {0, 1}


def test_one_seed_one_scene(scene: SettlementScene) -> None:
    again, other = make_settlement_scene(256, 320, seed=3), make_settlement_scene(256, 320, seed=4)
    np.testing.assert_array_equal(scene.image, again.image)
    np.testing.assert_array_equal(scene.truth, again.truth)
    assert (scene.truth != other.truth).any()


def test_settlements_are_busier_than_the_rest() -> None:
    """Small roofs and shadows: the mean step between neighbouring pixels is what tells them apart."""
    scene = make_settlement_scene(512, 512, seed=1)
    grey = scene.image.mean(axis=2)
    step = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    inside = scene.truth[:-1, :-1] == 1
    assert step[inside].mean() > 1.5 * step[~inside].mean()


def test_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 64"):
        make_settlement_scene(32, 100)
