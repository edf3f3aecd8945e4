"""Films with known truth and the choice of limits do what their figures rest on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.films import SIZE, belongs, cut_objects, fit_weights, make_film
from domainsam.train.samples import Record
from recipes.embedded.limits import PAIRS, Judged, choose_limits, cross_validate, score_all


def draw_record(name: str, colour: int, held_back: bool = True) -> Record:
    image = np.full((120, 160, 3), 90, np.uint8)
    ids = np.zeros((120, 160), np.int16)
    ids[40:80, 50:110] = 1
    ids[0:30, 0:30] = 2
    image[ids == 1] = colour
    return Record("coco_open", name, held_back, image, ids)


def test_films_show_their_object_where_the_mask_says() -> None:
    names = [f"r{number}" for number in range(12)]
    records = [draw_record(name, 250) for name in names]
    objects = {part: cut_objects(records, part) for part in ("chosen", "reported")}
    assert [one.name for one in objects["chosen"]] == [name for name in names if belongs(name, "chosen")]
    assert len(objects["chosen"]) + len(objects["reported"]) == 12, "no photograph is in both halves"
    assert objects["chosen"][0].share.shape == (40, 60), "what the picture's edge cuts is no object"
    assert not cut_objects([draw_record("r1", 250, held_back=False)], "chosen")
    ground = draw_record("ground", 90)
    film, again = (make_film(4, objects["chosen"], [ground], 3) for _ in range(2))
    for picture, mask, other in zip(film.pictures, film.masks, again.pictures, strict=True):
        assert picture.shape == (*SIZE, 3)
        assert np.array_equal(picture, other)
        assert mask.mean() > 0.01
        assert picture[mask].mean() > 180 > 110 > picture[~mask].mean()
    places = [np.argwhere(mask).mean(axis=0) for mask in film.masks]
    assert np.hypot(*(places[2] - places[0])) > 3, "it moves"


def test_weights_are_those_that_the_truth_was_made_with() -> None:
    rng = np.random.default_rng(0)
    terms = rng.normal(size=(40_000, 3))
    odds = terms @ (0.5, 1.5, -1) - 0.3
    share = (rng.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(float)
    assert fit_weights([(terms, share)]) == pytest.approx([0.5, 1.5, -1, -0.3], abs=0.07)


def judge_like(number: int) -> Judged:
    """Two good masks of sure scores, one bad mask below each limit, and a twin that goes."""
    overlaps = np.array([[0.9, 0], [0, 0.8], [0.1, 0], [0.2, 0], [0.85, 0]])
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9], [0, 0, 9, 9]], float)
    iou = np.array([0.72, 0.71, 0.63, 0.95, 0.705])
    return Judged(f"{number}", "coco_open", iou, np.array([0.8, 0.75, 0.95, 0.45, 0.9]), boxes, overlaps)


def test_limits_keep_what_is_right_and_no_more() -> None:
    judged = [judge_like(number) for number in range(4)]
    assert judged[0].score((0.0, 0.0)) == pytest.approx((1.0, 0.5, 2 / 3)), "the twin is dropped"
    assert judged[0].score((0.99, 0.0)) == (0.0, 0.0, 0.0)
    scores = score_all(judged)
    assert PAIRS[choose_limits(scores)] == (0.7, 0.75)
    crossed, chosen = cross_validate(scores)
    assert chosen == [(0.7, 0.75)] * 4
    assert crossed == pytest.approx(np.ones((4, 3)))
