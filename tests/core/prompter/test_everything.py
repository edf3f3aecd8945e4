"""Everything-mode keeps what is trusted and stable, once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.prompter.everything import (
    EverythingOptions,
    EverythingSource,
    grid_points,
    keep_best,
    measure_stability,
)
from domainsam.protocols import PromptSource, SceneObject, Window
from domainsam.testing.contracts import PromptSourceContract


class TestEverythingSource(PromptSourceContract):
    @pytest.fixture
    def source(self) -> PromptSource:
        options = EverythingOptions(per_side=4, least_iou=0, least_stability=0, least_area=4)
        return EverythingSource(load_foundation("fake"), options)


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
