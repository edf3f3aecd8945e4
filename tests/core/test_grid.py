"""Grid: positions of centres, round trips, and refusal of the impossible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainsam.grid import Grid


def north_up(shape: tuple[int, int] = (40, 60), step: float = 0.9) -> Grid:
    """Rows run south, columns run east; first centre half a pixel inside (500000, 4400000)."""
    affine = [[0, step, 500000 + step / 2], [-step, 0, 4400000 - step / 2], [0, 0, 1]]
    return Grid(shape, np.array(affine), "EPSG:32650")


def test_first_centre_and_steps() -> None:
    grid = north_up()
    np.testing.assert_allclose(grid.to_world([0, 0]), [500000.45, 4399999.55])
    np.testing.assert_allclose(grid.to_world([1, 0]), [500000.45, 4399998.65])
    np.testing.assert_allclose(grid.spacing, (0.9, 0.9))


@given(
    angle=st.floats(-3, 3),
    step=st.floats(0.01, 1000),
    index=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)
def test_world_and_index_are_inverse(angle: float, step: float, index: tuple[float, float]) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * step
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = turn, (7.0, -3.0)
    grid = Grid((10, 10), affine, "pixel")
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-6)


def test_many_points_of_a_volume_at_once() -> None:
    grid = Grid((4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0]), "RAS")
    points = np.arange(24.0).reshape(2, 4, 3)
    assert grid.to_world(points).shape == (2, 4, 3)
    np.testing.assert_allclose(grid.to_index(grid.to_world(points)), points)


def test_equal_grids_share_a_hash() -> None:
    assert north_up() == north_up()
    assert hash(north_up()) == hash(north_up())
    assert north_up() != north_up(step=1.0)
    assert north_up() != "a grid"


def test_affine_cannot_be_changed_from_outside() -> None:
    affine = np.eye(3)
    grid = Grid((2, 2), affine, "pixel")
    affine[0, 0] = 9
    assert grid.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 9


@pytest.mark.parametrize(
    ("shape", "affine", "words"),
    [
        ((0, 5), np.eye(3), "positive"),
        ((), np.eye(1), "positive"),
        ((5, 5), np.eye(4), "needs"),
        ((5, 5), np.diag([1.0, 0.0, 1.0]), "singular"),
        ((5, 5), np.full((3, 3), np.nan), "finite"),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, ...], affine: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Grid(shape, affine, "pixel")
