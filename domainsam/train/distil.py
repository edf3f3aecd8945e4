"""Training of promptable networks: from a teacher's features, from known masks, or from both.

A :class:`Student` encodes images and answers prompts; a :class:`Learner` says
what a batch costs it; :func:`train` takes the steps, averages the weights and
keeps a state to go on from. :class:`Distillation` is the learner that copies
the levels of a frozen teacher and answers boxes and clicks on them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Foundation, Masks
from domainsam.train.clicks import find_boxes, jitter_boxes, place_clicks, roughen_masks

BETAS = (0.9, 0.98)
"""AdamW's: transformers learn more steadily with a shorter memory of squares."""
WEIGHT_DECAY = 0.05
EMA_DECAY = 0.998
FOCAL_WEIGHT = 20.0
"""Of focal loss beside Dice and IoU error, as published for SAM."""
ROUGH_SHARE = 0.35
"""Share of the boxes that come with a rough mask."""
SHOWN_EVERY = 20
"""Steps between two reports of progress."""
SMOOTHING = 0.97
"""Of the losses that are reported."""

Batch = tuple[Tensor, Tensor]
"""Images ``(B, 3, S, S)`` uint8 and masks ``(B, M, S/4, S/4)`` bool of their objects."""
Terms = Mapping[str, tuple[float, Tensor]]
"""Parts of a loss by name: weight and value; the loss is the sum of their products."""
Progress = Callable[[int, Mapping[str, float], float], None]
"""Told now and then: the step, the smoothed parts of the loss, and seconds a step."""


class Student(Protocol):
    """A promptable network that learns."""

    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, S, S)`` in 0 to 1."""
        ...

    def decode_all(self, features: Features, prompts: PromptSet) -> Masks:
        """Logits ``(N, 4, S/4, S/4)`` and IoU ``(N, 4)``: the single reading first, then three others."""
        ...


class Learner(Protocol):
    """What a training asks of that which learns."""

    model: nn.Module
    """All weights, which are averaged and saved."""
    learning: nn.Module
    """The part of them that learns."""

    def terms(self, images: Tensor, masks: Tensor, step: int, rng: Generator) -> Terms:
        """Parts of the loss of a batch, as :data:`Batch` has it."""
        ...

    def state(self) -> dict[str, Any]:
        """What a state keeps beside the weights; tensors and plain values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave."""
        ...


@dataclass(frozen=True)
class DistilOptions:
    """How long and how fast a network learns.

    Parameters
    ----------
    steps
        Batches in all, those before an interruption included.
    rate
        Highest learning rate.
    warm_up
        Steps in which the rate rises linearly; it then falls to a hundredth by a cosine.
    every
        Steps between saved states.
    seed
        Of the prompts; batches have their own.
    trunk_share
        Share of the rate at which an encoder's trunk learns: less than 1 where its weights are pretrained.
    """

    steps: int
    rate: float = 1e-3
    warm_up: int = 200
    every: int = 300
    seed: int = 0
    trunk_share: float = 1.0


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute ``1 - Dice`` of each mask, ``(N, K)``: logits ``(N, K, h, w)``, truth ``(N, 1, h, w)``."""
    inside = logits.sigmoid()
    overlap = (inside * truth).sum((2, 3))
    return 1 - (2 * overlap + 1) / (inside.sum((2, 3)) + truth.sum((2, 3)) + 1)


def pixel_loss(logits: Tensor, truth: Tensor, focal: bool) -> Tensor:
    """Compute cross entropy, or focal loss (alpha 0.25, gamma 2), averaged over each mask: ``(N, K)``.

    Arguments are as for :func:`dice_loss`.
    """
    truth = truth.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if not focal:
        return entropy.mean((2, 3))
    right = torch.exp(-entropy)
    alpha = 0.25 * truth + 0.75 * (1 - truth)
    return (alpha * (1 - right) ** 2 * entropy).mean((2, 3))


def mask_loss(masks: Masks, truth: Tensor, ambiguous: bool, published: bool) -> Tensor:
    """Compute the loss of answers to prompts: cross entropy, Dice and squared error of the predicted IoU.

    The single reading always learns; of the three readings of an ambiguous
    prompt only the best one does.

    Parameters
    ----------
    masks
        Logits ``(N, 4, h, w)``, the single reading first, and IoU ``(N, 4)``.
    truth
        ``(N, h, w)``, bool or 0 and 1.
    ambiguous
        Whether the three other readings learn too.
    published
        SAM's loss: focal loss times :data:`FOCAL_WEIGHT` in place of cross entropy.
    """
    logits, wanted = masks.logits.float(), truth[:, None].float()
    weight = FOCAL_WEIGHT if published else 1.0
    losses = pixel_loss(logits, wanted, published) * weight + dice_loss(logits, wanted)
    with torch.no_grad():
        hard = logits > 0
        overlap = (hard & (wanted > 0.5)).sum((2, 3))
        union = (hard | (wanted > 0.5)).sum((2, 3)).clamp(min=1)
        iou = overlap / union
    total = losses[:, 0].mean() + (masks.iou.float()[:, :1] - iou[:, :1]).square().mean()
    if ambiguous:
        total = (
            total
            + losses[:, 1:].min(dim=1).values.mean()
            + (masks.iou.float()[:, 1:] - iou[:, 1:]).square().mean()
        )
    return total


def prompt_loss(
    student: Student,
    features: Features,
    masks: Tensor,
    rng: Generator,
    published: bool = False,
    corrections: int = 0,
    rough_share: float = ROUGH_SHARE,
    every_reading: bool = False,
) -> Tensor:
    """Compute the loss of answers to boxes for half of the objects and to clicks for the others.

    Parameters
    ----------
    student, features
        The network, and its features of ``B`` images.
    masks
        ``(B, M, S/4, S/4)`` bool, on the CPU: the objects that are asked for.
    rng
        Decides how boxes are moved and where clicks lie.
    published
        See :func:`mask_loss`.
    corrections
        Clicks that follow on each object, each into the largest wrong region of the best answer so far.
    rough_share
        Share of the boxes that come with a rough mask.
    every_reading
        Whether the three other readings learn from every prompt, not from first clicks alone: a network
        needs it that falls back on them, as SAM 2 does where its single reading is unstable.
    """
    batch, count = masks.shape[:2]
    device = features.image.device
    owner = torch.arange(batch).repeat_interleave(count)
    flat = masks.flatten(0, 1)
    with_box = torch.arange(len(flat)) % 2 == 0
    total = torch.zeros((), device=device)
    for chosen, boxed in ((with_box, True), (~with_box, False)):
        truth, index = flat[chosen], owner[chosen]
        ones = torch.ones(len(index))
        prompts = PromptSet(index, ones.long(), ones)
        if boxed:
            prompts = _add_boxes(prompts, truth, features.size[0], rng, rough_share)
        else:
            prompts = prompts.replace(points=place_clicks(truth, None, rng))
        target = truth.to(device)
        for turn in range(1 + corrections):
            ambiguous = not boxed and turn == 0
            answer = student.decode_all(features, prompts.to(device))
            total = total + mask_loss(answer, target, ambiguous or every_reading, published)
            if turn < corrections:
                prompts = _add_correction(prompts, answer, truth, ambiguous, rng)
    return total / (2 * (1 + corrections))


def _add_boxes(prompts: PromptSet, truth: Tensor, size: int, rng: Generator, rough_share: float) -> PromptSet:
    """Prompts with moved boxes of the masks ``(N, h, w)``, some with a rough mask beside the box."""
    prompts = prompts.replace(boxes=torch.from_numpy(jitter_boxes(find_boxes(truth.numpy()), size, rng)))
    if not rough_share:
        return prompts
    rough = roughen_masks(truth.numpy(), rng)
    kept = torch.from_numpy(rng.random(len(truth)) < rough_share)[:, None, None, None]
    return prompts.replace(mask_logits=(rough * kept).float())


def _add_correction(
    prompts: PromptSet, answer: Masks, truth: Tensor, ambiguous: bool, rng: Generator
) -> PromptSet:
    """Prompts with one more click each, and the best answer so far as a rough mask."""
    readings = slice(1, None) if ambiguous else slice(0, 1)
    pick = answer.iou[:, readings].argmax(1)
    best = answer.logits[:, readings][torch.arange(len(truth)), pick][:, None].detach().float().cpu()
    point = place_clicks(truth, best[:, 0] > 0, rng)
    points = point if prompts.points is None else torch.cat([prompts.points, point], dim=1)
    return prompts.replace(points=points, mask_logits=best)


class LevelLoss:
    """Weighted error of a student's levels, each channel in units of the teacher's spread.

    The spread is that of the first batch; it belongs to the state of a run.

    Parameters
    ----------
    weights
        Of the coarsest level (stride 16), then of the finer ones, finest first.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = tuple(weights)
        self.spread: list[Tensor] = []

    def __call__(self, student: Features, teacher: Features) -> Tensor:
        """Compute the error of features of the same images."""
        own, wanted = [student.image, *student.levels], [teacher.image, *teacher.levels]
        if not self.spread:
            self.spread = [level.float().std((0, 2, 3), keepdim=True) + 1e-3 for level in wanted]
        total = torch.zeros((), device=student.image.device)
        for weight, have, want, spread in zip(self.weights, own, wanted, self.spread, strict=True):
            total = total + weight * ((have.float() - want.float()) / spread).square().mean()
        return total


@dataclass
class Distillation:
    """A learner that copies a frozen teacher's levels and answers prompts on known masks.

    Parameters
    ----------
    model, learning
        See :class:`Learner`.
    student
        The same network as :class:`Student`.
    teacher
        A foundation whose levels have the student's shapes.
    levels
        Loss of the levels.
    mask_weight
        Of the answers' loss beside that of the levels.
    dtype
        In which the student computes, under autocast if it is not float32.
    """

    model: nn.Module
    learning: nn.Module
    student: Student
    teacher: Foundation
    levels: LevelLoss
    mask_weight: float = 0.5
    dtype: torch.dtype = torch.bfloat16

    def terms(self, images: Tensor, masks: Tensor, step: int, rng: Generator) -> Terms:
        """``levels`` and ``masks``: the errors of the features and of the answers."""
        pixels = images.float() / 255
        wanted = self.teacher.encode(pixels)
        with torch.autocast(pixels.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = self.student.encode(pixels)
            likeness = self.levels(features, wanted)
            answer = prompt_loss(self.student, features, masks, rng, rough_share=0.0)
        return {"levels": (1.0, likeness), "masks": (self.mask_weight, answer)}

    def state(self) -> dict[str, Any]:
        """The spread of the teacher's levels."""
        return {"spread": self.levels.spread}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the spread."""
        self.levels.spread = state["spread"]


class Average:
    """Exponential moving average of a network's weights, warmed up."""

    def __init__(self, model: nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after ``step`` steps; counters are copied as they are."""
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value.detach(), 1 - decay)
            else:
                self.state[name].copy_(value)


def learning_rate(step: int, steps: int, warm_up: int) -> float:
    """Compute the share of the highest rate at a step: linear rise, then a cosine to a hundredth."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def group_parameters(model: nn.Module, decay: float, trunk_share: float = 1.0) -> list[dict[str, Any]]:
    """Group parameters for an optimiser: no weight decay on norms, biases and embeddings.

    ``share`` of each group is its part of the rate, 1 but for what is below a module called ``trunk``.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        own_decay = decay if value.ndim > 1 and "token" not in name else 0.0
        share = trunk_share if "trunk" in name.split(".") else 1.0
        groups.setdefault((share, own_decay), []).append(value)
    return [
        {"params": values, "weight_decay": own_decay, "share": share}
        for (share, own_decay), values in groups.items()
    ]


def train(
    learner: Learner,
    batches: Callable[[int], Iterator[Batch]],
    options: DistilOptions,
    folder: Path,
    progress: Progress = lambda step, losses, pace: None,
    saved: Callable[[int, dict[str, Tensor]], None] = lambda step, average: None,
    restarts: Sequence[int] = (),
) -> None:
    """Train, or go on from the last state, until the last step.

    Parameters
    ----------
    learner
        What learns; its weights are on the device that it learns on.
    batches
        Gives the batches from a step on.
    options
        Length and rate.
    folder
        Keeps ``latest.pt``: weights, optimiser, average, step and the learner's own state.
    progress
        Told every :data:`SHOWN_EVERY` steps.
    saved
        Told whenever a state was saved, with the step and the averaged weights.
    restarts
        Steps at which the batches are asked for anew, because their size changes.
    """
    model = learner.model
    device = next(iter(model.parameters())).device
    groups = group_parameters(learner.learning, WEIGHT_DECAY, options.trunk_share)
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=BETAS)
    average, step, latest = Average(model), 0, folder / "latest.pt"
    folder.mkdir(parents=True, exist_ok=True)
    if latest.is_file():
        state = torch.load(latest, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.state, step = state["average"], state["step"]
        learner.restore(state)
    rng = np.random.default_rng((options.seed, step))
    stream, shown, marked = batches(step), dict[str, float](), time.time()
    while step < options.steps:
        if step in restarts:
            stream = batches(step)
        for group in optimizer.param_groups:
            rate = options.rate * learning_rate(step, options.steps, options.warm_up)
            group["lr"] = rate * group.get("share", 1.0)
        terms = learner.terms(*next(stream), step, rng)
        _descend(learner.learning, optimizer, terms)
        step += 1
        average.update(model, step)
        shown = _smooth(shown, terms)
        if step % SHOWN_EVERY == 0:
            progress(step, shown, (time.time() - marked) / SHOWN_EVERY)
            marked = time.time()
        if step % options.every == 0 or step == options.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"average": average.state, "step": step, **learner.state()}
            _save(latest, state)
            saved(step, average.state)
            marked = time.time()


def _descend(learning: nn.Module, optimizer: torch.optim.Optimizer, terms: Terms) -> None:
    """Take one step down the gradient of the terms' weighted sum, its norm clipped to 1."""
    loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
    optimizer.step()


def _smooth(shown: Mapping[str, float], terms: Terms) -> dict[str, float]:
    """Running means of the terms' values; a term that is new starts with its value."""
    now = {name: float(value.detach()) for name, (_, value) in terms.items()}
    return {
        name: SMOOTHING * shown[name] + (1 - SMOOTHING) * value if name in shown else value
        for name, value in now.items()
    }


def _save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state so that a crash leaves the old one whole."""
    temporary = path.with_suffix(".part")
    torch.save(dict(state), temporary)
    temporary.replace(path)
