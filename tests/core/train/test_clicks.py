"""Boxes and clicks as a user would give them: inside the object, then where the answer is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE
from domainsam.train.clicks import (
    find_boxes,
    find_centre,
    jitter_boxes,
    place_click,
    place_clicks,
    roughen_masks,
)


def disc(row: float, col: float, radius: float, side: int = 64) -> np.ndarray:
    rows, cols = np.mgrid[:side, :side]
    inside: np.ndarray = (rows - row) ** 2 + (cols - col) ** 2 < radius**2
    return inside


def test_boxes_are_tight_with_exclusive_edges() -> None:
    masks = np.zeros((2, 16, 16), bool)
    masks[0, 2:5, 3:9] = True
    np.testing.assert_array_equal(find_boxes(masks), [[12, 8, 36, 20], [0, 0, 0, 0]])
    np.testing.assert_array_equal(find_boxes(masks, 1)[0], [3, 2, 9, 5])


def test_jittered_boxes_stay_boxes_within_the_image() -> None:
    boxes = np.tile(np.array([[0, 0, 6, 200], [100, 100, 256, 256]], np.float32), (200, 1))
    moved = jitter_boxes(boxes, 256, np.random.default_rng(0))
    assert moved.min() >= 0
    assert moved.max() <= 256
    assert ((moved[:, 2:] - moved[:, :2]) >= 4).all()
    assert 0.3 < (moved == boxes).all(axis=1).mean() < 0.7
    assert np.abs(moved - boxes).max() <= 20


def test_the_first_click_lies_in_the_middle_of_the_object() -> None:
    assert find_centre(disc(20, 30, 9)) == (30.5, 20.5)
    assert place_click(disc(20, 30, 9), None, None) == (30.5, 20.5, POINT_POSITIVE)


def test_random_clicks_lie_inside() -> None:
    truth, rng = disc(20, 30, 9), np.random.default_rng(1)
    clicks = [place_click(truth, None, rng) for _ in range(50)]
    assert all(truth[int(y), int(x)] and label == POINT_POSITIVE for x, y, label in clicks)
    assert len(set(clicks)) > 10


@pytest.mark.parametrize(
    ("guess", "place", "label"),
    [
        (disc(20, 30, 9) | disc(50, 50, 6), (50, 50), POINT_NEGATIVE),
        (disc(20, 30, 9) & ~disc(20, 26, 4), (20, 26), POINT_POSITIVE),
        (disc(20, 30, 9), (20, 30), POINT_POSITIVE),
    ],
    ids=["too much", "too little", "right already"],
)
def test_later_clicks_correct_the_largest_fault(
    guess: np.ndarray, place: tuple[int, int], label: int
) -> None:
    x, y, found = place_click(disc(20, 30, 9), guess, None)
    assert (y, x) == pytest.approx(place, abs=1.5)
    assert found == label


def test_clicks_of_a_batch_are_in_image_pixels() -> None:
    truth = torch.from_numpy(np.stack([disc(20, 30, 9), disc(40, 12, 5)]))
    points = place_clicks(truth, None, None)
    assert points.dtype == torch.float32
    assert points.tolist() == [[[122, 82, 1]], [[50, 162, 1]]]


def test_rough_masks_resemble_their_objects() -> None:
    masks = np.stack([disc(20, 30, 12), disc(40, 20, 12)])
    rough = roughen_masks(masks, np.random.default_rng(0))
    assert rough.shape == (2, 1, 64, 64)
    for mask, logits in zip(masks, rough[:, 0].numpy(), strict=True):
        assert logits[mask].mean() > logits[~mask].mean() + 2
