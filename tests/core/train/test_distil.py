"""Training of promptable networks: losses, schedule, and states to go on from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from domainsam.foundation.fake import FakeFoundation
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks
from domainsam.train import distil

SIDE = 64


class Pupil(nn.Module):
    """Two convolutions with the teacher's shapes, and four readings of an image that heed no prompt."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Conv2d(3, 256, 16, 16)
        self.answer = nn.Conv2d(3, 4, 4, 4)
        self.asked: list[PromptSet] = []

    def encode(self, images: Tensor) -> Features:
        return Features(self.image(images), (self.answer(images),), (SIDE, SIDE))

    def decode_all(self, features: Features, prompts: PromptSet) -> Masks:
        self.asked.append(prompts)
        logits = features.levels[0][prompts.image_index]
        return Masks(logits, logits.mean((2, 3)))


class Teacher(FakeFoundation):
    """Features without finer levels but one, which is drawn from the image."""

    def encode(self, images: Tensor) -> Features:
        pooled = nn.functional.avg_pool2d(images, 16).mean(1, keepdim=True).expand(-1, 256, -1, -1)
        fine = nn.functional.avg_pool2d(images, 4)
        return Features(pooled, (torch.cat([fine, fine[:, :1]], 1),), (SIDE, SIDE))


def batches(step: int) -> Iterator[distil.Batch]:
    while True:
        generator = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        masks = torch.zeros(2, 2, 16, 16, dtype=torch.bool)
        masks[:, 0, 2:7, 3:9] = masks[:, 1, 9:14, 4:12] = True
        yield images, masks
        step += 1


def learner() -> distil.Distillation:
    pupil = Pupil()
    levels = distil.LevelLoss((1.0, 0.4))
    return distil.Distillation(pupil, pupil, pupil, Teacher(), levels, dtype=torch.float32)


def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, half = learner(), learner()
    options = distil.DistilOptions(4, warm_up=2, every=2)
    seen: list[int] = []
    distil.train(whole, batches, options, tmp_path / "whole", saved=lambda step, average: seen.append(step))
    assert seen == [2, 4]

    class Stop(Exception):
        pass

    def stop(step: int, average: dict[str, Tensor]) -> None:
        raise Stop

    with pytest.raises(Stop):
        distil.train(half, batches, options, tmp_path / "half", saved=stop)
    again = learner()
    distil.train(again, batches, options, tmp_path / "half")
    states = [torch.load(tmp_path / name / "latest.pt", weights_only=True) for name in ("whole", "half")]
    assert states[0]["step"] == states[1]["step"] == 4
    assert torch.equal(states[0]["spread"][0], states[1]["spread"][0])
    # The prompts after a stop are drawn anew, so the weights are near and not the same.
    for name, value in states[0]["model"].items():
        assert torch.allclose(value, states[1]["model"][name], atol=2e-2), name


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    shown: list[float] = []
    distil.train(
        learner(),
        lambda step: batches(0),
        distil.DistilOptions(40, rate=1e-2, warm_up=1),
        tmp_path,
        progress=lambda step, losses, pace: shown.append(losses["levels"] + losses["masks"]),
    )
    assert len(shown) == 2
    assert shown[1] < shown[0]


def test_batches_begin_anew_where_they_are_asked_to(tmp_path: Path) -> None:
    asked: list[int] = []

    def counted(step: int) -> Iterator[distil.Batch]:
        asked.append(step)
        return batches(step)

    distil.train(learner(), counted, distil.DistilOptions(3), tmp_path, restarts=(2,))
    assert asked == [0, 2]


def test_rate_rises_and_falls_to_a_hundredth() -> None:
    rates = [distil.learning_rate(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[100] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("corrections", [0, 2])
def test_boxes_and_clicks_share_the_objects(corrections: int) -> None:
    pupil = Pupil()
    images, masks = next(batches(0))
    features = pupil.encode(images.float() / 255)
    rng = np.random.default_rng(0)
    distil.prompt_loss(pupil, features, masks, rng, corrections=corrections, rough_share=0.0)
    boxed, clicked = pupil.asked[: 1 + corrections], pupil.asked[1 + corrections :]
    assert [len(prompts) for prompts in pupil.asked] == [2] * 2 * (1 + corrections)
    assert all(prompts.boxes is not None for prompts in boxed)
    assert all(prompts.boxes is None for prompts in clicked)
    last = clicked[-1].points
    assert last is not None
    assert last.shape == (2, 1 + corrections, 3)
    assert (boxed[-1].mask_logits is None) == (corrections == 0)


def test_every_reading_may_learn_from_every_prompt() -> None:
    pupil = Pupil()
    images, masks = next(batches(0))
    features = pupil.encode(images.float() / 255)
    learnt = []
    for every in (False, True):
        pupil.zero_grad()
        distil.prompt_loss(
            pupil, features, masks, np.random.default_rng(0), rough_share=0.0, every_reading=every
        ).backward(retain_graph=True)
        assert pupil.answer.weight.grad is not None
        learnt.append(pupil.answer.weight.grad[1:].abs().sum())
    # With boxes the best of the three learns too, not from the clicks alone.
    assert float(learnt[1]) > float(learnt[0]) > 0


def test_the_right_answer_costs_little_and_the_wrong_one_much() -> None:
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:12, 4:12] = 1
    right = (truth[:, None] * 40 - 20).expand(1, 4, 16, 16)
    iou = torch.ones(1, 4)
    for published in (False, True):
        assert float(distil.mask_loss(Masks(right, iou), truth, True, published)) < 1e-3
        assert float(distil.mask_loss(Masks(-right, iou), truth, True, published)) > 1


def test_of_the_three_readings_only_the_best_learns() -> None:
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:12, 4:12] = 1
    logits = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    logits[:, 2] += 5 * (2 * truth - 1)
    logits.requires_grad_()
    distil.mask_loss(Masks(logits, torch.zeros(1, 4)), truth, True, False).backward()
    assert logits.grad is not None
    assert [bool(part.any()) for part in logits.grad[0]] == [True, False, True, False]


def test_norms_and_tokens_do_not_decay() -> None:
    model = nn.ModuleDict({"fully": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "token": nn.Embedding(2, 4)})
    heavy, light = distil.group_parameters(model, 0.05)
    assert (len(heavy["params"]), heavy["weight_decay"]) == (1, 0.05)
    assert (len(light["params"]), light["weight_decay"]) == (4, 0.0)
