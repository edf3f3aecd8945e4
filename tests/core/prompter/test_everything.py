"""Everything-mode keeps what is trusted and stable, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.everything import (
    EverythingOptions,
    EverythingSource,
    Look,
    choose_best,
    grid_points,
    keep_best,
    measure_stability,
)
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks, PromptSource, SceneObject, Window
from domainsam.testing.contracts import ArrayView, PromptSourceContract


class TestEverythingSource(PromptSourceContract):
    @pytest.fixture
    def source(self) -> PromptSource:
        options = EverythingOptions(per_side=4, least_iou=0, least_stability=0, least_area=4)
        return EverythingSource(load_foundation("fake"), options)


class Squares(FakeFoundation):
    """Says of every click that it lies on a square of 12 pixels of a lattice of 16."""

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        masks = super().decode(features, prompts, multimask)
        logits = torch.full((*masks.logits.shape[:2], *features.size), -9.0)
        assert prompts.points is not None
        for number, (x, y) in enumerate(prompts.points[:, 0, :2].tolist()):
            left, top = (int(part // 16 * 16) + 2 for part in (x, y))
            logits[number, :, top : top + 12, left : left + 12] = 9.0
        return Masks(logits, torch.full_like(masks.iou, 0.9))


def test_what_several_windows_show_is_reported_once() -> None:
    """Windows of 64 pixels begin every 32, and every square is seen in one to six of them."""
    foundation = Squares()
    asked: list[Window] = []

    def once(window: Window, look: Look) -> list[SceneObject]:
        asked.append(window)
        return look()

    source = EverythingSource(foundation, EverythingOptions(per_side=8), once)
    found = list(source.find(ArrayView((96, 128), foundation=foundation)))
    assert len(asked) == 2 * 3
    boxes = {one.box for one in found}
    lattice = {(x + 2.0, y + 2.0, x + 14.0, y + 14.0) for x in range(0, 128, 16) for y in range(0, 96, 16)}
    assert len(found) == len(boxes)
    assert boxes == lattice
    assert all(one.mask.all() and one.mask.shape == (12, 12) for one in found)


def test_only_near_boxes_are_compared_and_the_answer_is_the_same() -> None:
    rng = np.random.default_rng(0)
    corners, sides = rng.integers(0, 40, (80, 2)), rng.integers(4, 30, (80, 2))
    boxes: Any = [tuple(map(float, (*at, *(at + side)))) for at, side in zip(corners, sides, strict=True)]
    scores = rng.random(80).tolist()

    def overlap(one: Any, other: Any) -> float:
        shared = np.prod(np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
        return float(shared / (sum(areas) - shared))

    for least in (0.0, 0.3, 0.7):
        kept: list[int] = []
        for number in sorted(range(80), key=lambda n: -scores[n]):
            if all(overlap(np.array(boxes[number]), np.array(boxes[other])) <= least for other in kept):
                kept.append(number)
        assert choose_best(boxes, scores, least) == kept


def boxed(left: int, side: int, score: float) -> SceneObject:
    box = (float(left), 0.0, float(left + side), float(side))
    return SceneObject(Window(0, left, side, side), score=score, box=box, mask=np.ones((side, side), bool))


def test_of_objects_that_overlap_the_most_trusted_is_kept() -> None:
    best, same, other = boxed(0, 20, 0.9), boxed(1, 20, 0.8), boxed(15, 20, 0.7)
    assert keep_best([same, other, best], 0.7) == [best, other]
    assert keep_best([], 0.7) == []


def test_stability_is_the_share_that_a_logit_more_or_less_keeps() -> None:
    logits = torch.full((2, 4, 4), -5.0)
    logits[0, :2] = 3.0
    logits[1, :2], logits[1, 2] = 3.0, 0.5
    assert measure_stability(logits).tolist() == pytest.approx([1.0, 8 / 12])
    assert measure_stability(torch.full((1, 4, 4), -5.0)).tolist() == [0.0]


def test_points_lie_half_a_step_from_the_edges() -> None:
    assert list(grid_points(Window(8, 8, 20, 40), 2)) == [(10, 5), (30, 5), (10, 15), (30, 15)]
    for wrong in ({"per_side": 0}, {"least_iou": 2.0}):
        with pytest.raises(ConfigError):
            EverythingOptions(**wrong)


def test_limits_are_those_that_suit_a_foundation_unless_told() -> None:
    foundation = load_foundation("fake")
    usual = EverythingSource(foundation)
    assert (usual.least_iou, usual.least_stability, usual.per_side) == (0.7, 0.85, 2)
    foundation.name = "embedded"
    assert EverythingSource(foundation).least_iou == 0.2
    told = EverythingSource(foundation, EverythingOptions(5, 0.0, 0.1))
    assert (told.least_iou, told.least_stability, told.per_side) == (0.0, 0.1, 5)
