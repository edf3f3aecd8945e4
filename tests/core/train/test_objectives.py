"""The joint stage: where gradients go, where prompts come from, and what is judged."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.proposals import ProposalConfig
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter
from domainsam.train.crops import Batch
from domainsam.train.devices import OneDevice
from domainsam.train.losses import IGNORE, LossOptions
from domainsam.train.objectives import CoarseObjective, JointObjective, PromptingOptions, jitter_boxes, judge

SMALL = ProposalConfig(min_side=4, min_area=16)


def prompter() -> SegFormerPrompter:
    torch.manual_seed(0)
    return SegFormerPrompter(PrompterConfig(fusion="gate", proposals=SMALL))


@pytest.fixture
def batch() -> Batch:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, 8:32, 16:48] = 1
    labels[1, :, :8] = IGNORE
    return Batch(images, labels, labels != IGNORE)


def joint(model: SegFormerPrompter, **prompting: Any) -> JointObjective:
    return JointObjective(model, FakeFoundation(), LossOptions(), PromptingOptions(**prompting))


def test_gradients_pass_the_frozen_decoder_into_every_trained_part(batch: Batch) -> None:
    objective = joint(prompter(), truth_share=1.0)
    objective.loss = LossOptions(prompt_weight=1.0)
    parts = objective(batch)
    assert float(parts["prompts"]) == 0.5, "one component in two images"
    # The prompts' part alone: what it moves, it moves through the decoder.
    found = objective.proposals(torch.full((2, 1, 16, 16), -1.0), batch.labels)
    coarse = objective.prompter.coarse(batch.images)
    features = objective.foundation.encode(batch.images)
    prompts = objective.prompter.prompts(coarse, features, objective.foundation, found)
    objective.foundation.decode(features, prompts).logits.sum().backward()
    mixed = objective.prompter.get_parameter("mixer.out.weight").grad
    assert mixed is not None
    assert mixed.abs().sum() > 0
    assert next(objective.prompter.encoder.parameters()).grad.abs().sum() > 0
    parts["loss"].backward()
    assert objective.prompter.gate.grad.abs() > 0
    assert isinstance(objective.foundation, FakeFoundation)
    assert all(part.grad is None for part in objective.foundation.model.parameters())


def test_a_batch_without_prompts_teaches_the_coarse_mask_alone(batch: Batch) -> None:
    model = prompter()
    with torch.no_grad():
        model.head.classify.bias[:] = torch.tensor([50.0, -50.0])
    objective = joint(model)
    model.eval()
    parts = objective(batch)
    assert float(parts["prompt"]) == 0.0
    assert torch.equal(parts["loss"], CoarseObjective(model, LossOptions())(batch)["loss"])
    parts["loss"].backward()


def test_without_prompts_a_step_of_the_steering_parts_changes_nothing(batch: Batch) -> None:
    model = prompter()
    model.freeze_segformer()
    with torch.no_grad():
        model.head.classify.bias[:] = torch.tensor([50.0, -50.0])
    parts = joint(model)(batch)
    assert float(parts["prompts"]) == 0
    parts["loss"].backward()
    # Every part has a gradient, so that processes that found prompts do not wait for this one.
    steering = [part for part in model.parameters() if part.requires_grad]
    assert steering
    assert all(part.grad is not None and not part.grad.any() for part in steering)


def test_truth_boxes_are_jittered_about_the_truth(batch: Batch) -> None:
    torch.manual_seed(1)
    odds = torch.full((2, 1, 16, 16), -1.0)
    exact = joint(prompter(), truth_share=1.0, jitter=0.0).proposals(odds, batch.labels)
    assert exact.boxes.tolist() == [[16, 8, 48, 32]]
    assert exact.mask_logits is not None
    assert torch.equal(exact.mask_logits, odds[:1]), "the mask prompt is the model's own"
    boxes = torch.tensor([[0.0, 4, 40, 60]]).repeat(200, 1)
    moved = jitter_boxes(boxes, 0.1, (64, 64))
    assert moved.min() >= 0
    assert moved.max() <= 64
    assert bool((moved[:, 2:] > moved[:, :2]).all())
    assert 1 < float((moved - boxes)[:, 2].std()) < 6


def test_too_many_prompts_are_thinned() -> None:
    odds = torch.full((1, 1, 32, 32), -5.0)
    odds[:, :, ::4, ::4] = 5
    objective = JointObjective(prompter(), FakeFoundation(), LossOptions(), PromptingOptions(max_prompts=10))
    objective.prompter.config = PrompterConfig(proposals=ProposalConfig(min_side=1, min_area=1))
    assert len(objective.proposals(odds, torch.zeros(1, 128, 128, dtype=torch.int64))) == 10


def test_judging_counts_known_pixels_of_both_answers(batch: Batch) -> None:
    model = prompter()
    with torch.no_grad():
        model.head.classify.weight.zero_()
        model.head.classify.bias[:] = torch.tensor([-5.0, 5.0])
    devices = OneDevice(torch.device("cpu"), "float32")
    scores = judge(model, [batch], devices, FakeFoundation())
    share = (24 * 32) / (64 * 64 + 64 * 56)
    assert scores["coarse_iou"] == pytest.approx(share)
    assert scores["full_iou"] == pytest.approx(share, abs=0.05)
    assert set(judge(model, [batch], devices)) == {"coarse_iou"}
