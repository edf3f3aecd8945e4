"""PromptSet: parts that fit together, and choosing among prompts."""

from __future__ import annotations

import pytest
import torch

from domainsam.prompts import PromptSet


def three() -> PromptSet:
    return PromptSet(
        image_index=torch.tensor([0, 0, 1]),
        labels=torch.tensor([1, 2, 1]),
        scores=torch.tensor([0.9, 0.5, 0.1]),
        points=torch.rand(3, 2, 3),
        boxes=torch.rand(3, 4),
        mask_logits=torch.rand(3, 1, 8, 8),
    )


@pytest.mark.parametrize(
    "keep", [torch.tensor([True, False, True]), torch.tensor([0, 2]), slice(0, None, 2)], ids=str
)
def test_choosing_takes_every_part_along(keep: torch.Tensor | slice) -> None:
    prompts = three()
    chosen = prompts[keep]
    assert len(chosen) == 2
    for name in ("image_index", "labels", "scores", "points", "boxes", "mask_logits"):
        assert torch.equal(getattr(chosen, name), getattr(prompts, name)[[0, 2]])
    assert chosen.tokens is None


def test_choosing_nothing_keeps_the_shapes() -> None:
    empty = three()[torch.zeros(3, dtype=torch.bool)]
    assert len(empty) == 0
    assert empty.boxes is not None
    assert empty.boxes.shape == (0, 4)


def test_replace_changes_only_what_is_named() -> None:
    prompts = three()
    changed = prompts.replace(boxes=None)
    assert changed.boxes is None
    assert changed.points is prompts.points
    assert prompts.boxes is not None


def test_from_boxes_fills_in_the_rest() -> None:
    prompts = PromptSet.from_boxes(torch.rand(2, 4))
    assert prompts.image_index.tolist() == [0, 0]
    assert prompts.labels.tolist() == [1, 1]
    assert prompts.scores.tolist() == [1.0, 1.0]


def test_to_moves_every_part() -> None:
    moved = three().to("meta")
    assert moved.boxes is not None
    assert moved.boxes.device.type == moved.labels.device.type == "meta"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("labels", torch.ones(4)),
        ("scores", torch.ones(3, 1)),
        ("points", torch.ones(3, 2, 2)),
        ("boxes", torch.ones(2, 4)),
        ("mask_logits", torch.ones(3, 8, 8)),
        ("tokens", torch.ones(2, 3, 256)),
    ],
)
def test_parts_that_disagree_are_named(part: str, value: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=rf"PromptSet\.{part} has shape"):
        three().replace(**{part: value})
