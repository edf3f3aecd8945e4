"""Losses: what they reward, what they leave out, and the defects of the published code."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from domainsam.prompter.proposals import ProposalConfig, find_proposals
from domainsam.prompts import PromptSet
from domainsam.protocols import Masks
from domainsam.train.losses import (
    IGNORE,
    LossOptions,
    coarse_loss,
    cross_entropy,
    focal,
    iou_error,
    joint_loss,
    prompt_loss,
    prompt_targets,
    soft_dice,
)


@pytest.fixture
def labels() -> torch.Tensor:
    truth = torch.zeros(2, 32, 32, dtype=torch.int64)
    truth[0, 8:20, 4:16] = 1
    truth[0, 24:30, 24:30] = 1
    truth[1, :4] = IGNORE
    return truth


def known(labels: torch.Tensor) -> torch.Tensor:
    return labels != IGNORE


def test_cross_entropy_is_torchs_where_all_is_known() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 8, 8, generator=generator)
    truth = torch.randint(0, 2, (2, 8, 8), generator=generator)
    expected = F.cross_entropy(logits, truth, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(cross_entropy(logits, truth, 3.0), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_ignored_pixels_change_nothing(labels: torch.Tensor, smoothing: float) -> None:
    options = LossOptions(coarse_dice=0.5, label_smoothing=smoothing)
    logits = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    full = F.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)
    changed = torch.where(known(labels)[:, None], full, full + 5)
    assert torch.equal(coarse_loss(full, labels, options), coarse_loss(changed, labels, options))
    wrong = torch.where(known(labels)[:, None], full + torch.tensor([5.0, 0.0])[:, None, None], full)
    assert not torch.equal(coarse_loss(full, labels, options), coarse_loss(wrong, labels, options))


def test_nothing_known_is_no_fault() -> None:
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    loss = coarse_loss(logits, torch.full((1, 32, 32), IGNORE), LossOptions(coarse_dice=1.0))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad) == 0


def test_perfect_masks_have_no_fault_and_reversed_ones_the_worst(labels: torch.Tensor) -> None:
    target = (labels == 1).float()
    right, wrong = 40 * target - 20, 20 - 40 * target
    assert soft_dice(right, target, known(labels)).max() < 1e-4
    assert focal(right, target, known(labels)).max() < 1e-6
    assert soft_dice(wrong, target, known(labels)).min() > 0.99
    assert iou_error(right, target, known(labels), torch.ones(2)).max() == 0
    assert iou_error(wrong, target, known(labels), torch.ones(2)).min() == 1


def test_focal_weighs_settlement_by_alpha() -> None:
    zeros, everywhere = torch.zeros(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)
    settled = focal(zeros, torch.ones(1, 4, 4), everywhere)
    empty = focal(zeros, zeros, everywhere)
    torch.testing.assert_close(settled / empty, torch.tensor([4.0]))
    torch.testing.assert_close(settled, torch.tensor([0.8 * 0.25 * 0.6931472]))


def boxes_of(prompts: PromptSet) -> torch.Tensor:
    assert prompts.boxes is not None
    return prompts.boxes


def prompts_at(boxes: list[list[float]], owners: list[int]) -> PromptSet:
    return PromptSet.from_boxes(torch.tensor(boxes), torch.tensor(owners))


def test_truth_is_limited_to_the_box_with_exclusive_edges(labels: torch.Tensor) -> None:
    prompts = prompts_at([[4, 8, 10, 20], [0, 0, 32, 32]], [0, 0])
    target, seen = prompt_targets(prompts, boxes_of(prompts), labels)
    assert int(target[0].sum()) == 6 * 12
    assert int(target[1].sum()) == 12 * 12 + 36
    assert bool(seen.all())
    _, seen = prompt_targets(prompts, boxes_of(prompts), labels, "ignore")
    assert int((~seen[0]).sum()) == 6 * 12 + 36
    assert bool(seen[1].all())


def test_a_box_without_truth_is_learned_from_as_background(labels: torch.Tensor) -> None:
    prompts = prompts_at([[4, 8, 28, 30]], [1])
    logits = torch.full((1, 1, 8, 8), 2.0, requires_grad=True)
    target, seen = prompt_targets(prompts, boxes_of(prompts), labels)
    loss = prompt_loss(logits, torch.zeros(1, 1), target, seen, LossOptions())
    loss.backward()
    assert float(loss.detach()) > 0.5
    assert bool((logits.grad[:, :, 2:] > 0).all()), "every pixel is pushed down"


def test_rejected_contours_contribute_nothing(labels: torch.Tensor) -> None:
    config = ProposalConfig(min_side=8, min_area=64)
    odds = torch.full((1, 1, 8, 8), -6.0)
    odds[0, 0, 2:5, 1:4] = 6
    specks = odds.clone()
    specks[0, 0, 0, 7] = 6
    specks[0, 0, 7, 0] = 6
    losses = []
    for given in (odds, specks):
        found = find_proposals(given, config)
        answer = Masks(odds[found.image_index], torch.full((len(found), 1), 0.5))
        _, part = joint_loss(
            torch.zeros(1, 2, 8, 8), answer, found, boxes_of(found), labels[:1], LossOptions()
        )
        losses.append(part)
    assert torch.equal(*losses)
    nothing = find_proposals(torch.full((1, 1, 8, 8), -6.0), config)
    answer = Masks(torch.zeros(0, 1, 8, 8), torch.zeros(0, 1))
    coarse, part = joint_loss(
        torch.zeros(1, 2, 8, 8), answer, nothing, boxes_of(nothing), labels[:1], LossOptions()
    )
    assert float(part) == 0.0
    assert float(coarse) > 0


def test_mean_over_prompts_does_not_grow_with_their_number(labels: torch.Tensor) -> None:
    one = prompts_at([[4, 8, 16, 20]], [0])
    many = prompts_at([[4, 8, 16, 20]] * 3, [0] * 3)
    values = []
    for prompts in (one, many):
        logits = torch.full((len(prompts), 1, 8, 8), 0.3)
        target, seen = prompt_targets(prompts, boxes_of(prompts), labels)
        values.append(prompt_loss(logits, torch.zeros(len(prompts), 1), target, seen, LossOptions()))
    torch.testing.assert_close(*values)
