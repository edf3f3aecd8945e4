"""From a place that looks like the target to its mask: PerSAM's cascade, and PerSAM-F's two weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.decoders.guided import Guidance
from domainsam.foundation.decoders.sam import SamStyleFoundation
from domainsam.prompter.descriptors import CELL
from domainsam.prompter.target import Target
from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Foundation, Masks

STEPS = 1000
RATE, EPSILON = 1e-3, 1e-4
"""Of PerSAM-F's learning (section 3.3 and its code): AdamW, cosine schedule."""
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
MAP_STRIDE = 4
ROUGH = 0.05
"""A likeness is at most so sure as a mask prompt."""

Point = tuple[float, float]
"""x and y in pixels of the encoded image, corner frame."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The mask of one place: logits ``(H/4, W/4)`` float32, above 0 inside.

    ``iou`` is the foundation's estimate, ``agreement`` the Dice of the mask and of what looks alike there.
    """

    logits: NDArray[np.float32]
    iou: float
    agreement: float = 1.0

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(H, W)`` bool at the size of the encoded image."""
        fine = torch.from_numpy(self.logits)[None, None]
        size = [side * MAP_STRIDE for side in self.logits.shape]
        return np.asarray((F.interpolate(fine, size, mode="bilinear", align_corners=False) > 0)[0, 0].numpy())


@dataclass(frozen=True, eq=False)
class Prior:
    """What similarity says of a place in one window.

    Parameters
    ----------
    similarity
        ``(H/8, W/8)`` float32, standardised over the scene.
    likeness
        ``(H/8, W/8)`` float32, 0 to 1, calibrated on the example: 0.5 parts it from its surroundings.
    peak
        Row and column of the cell where the target is expected.
    """

    similarity: NDArray[np.float32]
    likeness: NDArray[np.float32]
    peak: tuple[int, int]

    @property
    def positive(self) -> Point:
        """The peak's place."""
        return _centre(self.peak)

    @property
    def negative(self) -> Point:
        """Where the window looks least like the target."""
        row, col = np.unravel_index(int(self.similarity.argmin()), self.similarity.shape)
        return _centre((int(row), int(col)))

    @cached_property
    def region(self) -> NDArray[np.bool_]:
        """Cells around the peak that are as much alike as the cut, or half as much as the peak."""
        level = min(0.5, float(self.likeness[self.peak]) / 2)
        numbers, _ = ndimage.label(self.likeness >= level, structure=np.ones((3, 3), bool))
        return np.asarray(numbers == numbers[self.peak])

    def agreement(self, logits: Tensor) -> float:
        """Dice of a mask ``(H/4, W/4)`` and the region, in cells."""
        share = F.avg_pool2d((logits > 0).float()[None, None], 2)[0, 0].cpu().numpy()
        return float(2 * share[self.region].sum() / (share.sum() + self.region.sum()))


def personalise(features: Features, foundation: Foundation, target: Target, prior: Prior) -> Answer | None:
    """The mask of the target at a place, or None where it comes out empty.

    Two proposals are decoded: PerSAM's, from the two points (guided by similarity where the decoder is
    SAM's; weighted where PerSAM-F's weights were learned), and one from the box and the rough mask of
    what looks alike around the peak. The reading whose estimated IoU times agreement with that region is
    greatest is refined with its own box, as PerSAM's last step.

    Parameters
    ----------
    features
        Of one image, ``B = 1``.
    foundation
        Decodes.
    target
        What is looked for.
    prior
        What similarity says of the place.
    """
    with torch.inference_mode():
        points, first = _propose_points(features, foundation, target, prior)
        proposals = [
            foundation.decode(features, PromptSet.from_one(points, frame_logits(first[0, 0]), first), True)
        ]
        if (prior.region.sum()) > 1:
            asked = PromptSet.from_one(_points([(prior.positive, True)]), *_region_prompt(prior))
            proposals.append(foundation.decode(features, asked, True))
        logits = torch.cat([masks.logits[0] for masks in proposals])
        best = _choose(logits, torch.cat([masks.iou[0] for masks in proposals]), prior)
        box = frame_logits(logits[best])
        if box is None:
            return None
        refined = foundation.decode(features, PromptSet.from_one(points, box, logits[best][None, None]), True)
        best = _choose(refined.logits[0], refined.iou[0], prior)
    if frame_logits(refined.logits[0, best]) is None:
        return None
    final = refined.logits[0, best].float()
    quality = float(refined.iou[0, best].clamp(0, 1))
    return Answer(final.cpu().numpy(), quality, prior.agreement(final))


def _propose_points(
    features: Features, foundation: Foundation, target: Target, prior: Prior
) -> tuple[Tensor, Tensor]:
    """The points, and the first mask ``(1, 1, H/4, W/4)`` that they give."""
    if target.weights is not None:
        points = _points([(prior.positive, True)])
        return points, weigh_readings(features, foundation, prior.positive, target.weights)[None, None]
    points = _points([(prior.positive, True), (prior.negative, False)])
    return points, _decode_guided(features, foundation, target, prior.similarity, points).logits


def _region_prompt(prior: Prior) -> tuple[tuple[float, float, float, float], Tensor]:
    """Box and mask logits ``(1, 1, H/4, W/4)`` of what looks alike around the peak."""
    rows, cols = (np.flatnonzero(prior.region.any(axis=axis)) for axis in (1, 0))
    left, top, right, bottom = (float(edge * CELL) for edge in (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1))
    rough = torch.from_numpy(np.where(prior.region, prior.likeness, 0).astype(np.float32))
    size = [side * CELL // MAP_STRIDE for side in prior.region.shape]
    fine = F.interpolate(rough[None, None], size, mode="bilinear", align_corners=False)
    return (left, top, right, bottom), torch.logit(fine.clamp(ROUGH, 1 - ROUGH))


def _choose(logits: Tensor, iou: Tensor, prior: Prior) -> int:
    """Which of some readings ``(K, H/4, W/4)`` is most trusted and agrees most with what looks alike."""
    worth = [float(sure.clamp(0.01, 1)) * prior.agreement(one) for one, sure in zip(logits, iou, strict=True)]
    return int(np.argmax(worth))


def _centre(cell: tuple[int, int]) -> Point:
    return (cell[1] + 0.5) * CELL, (cell[0] + 0.5) * CELL


def weigh_readings(
    features: Features, foundation: Foundation, positive: Point, weights: Sequence[float]
) -> Tensor:
    """PerSAM-F's mask: the weighted sum ``(H/4, W/4)`` of the logits of a click's three readings."""
    masks = foundation.decode(features, PromptSet.from_one(_points([(positive, True)])), True)
    return torch.einsum("k,khw->hw", masks.logits.new_tensor(weights), masks.logits[0])


def learn_weights(
    shown: Sequence[tuple[Features, Point, NDArray[np.bool_]]], foundation: Foundation, steps: int = STEPS
) -> tuple[float, float, float]:
    """PerSAM-F's weights of the three readings, from examples.

    Parameters
    ----------
    shown
        For every example the features of its window, the place in it that looks most like the target,
        and its mask ``(H, W)`` bool.
    steps
        Of AdamW on Dice and focal loss, over both learnt scalars: the first weight is what they leave of 1.
    """
    cases = []
    for features, place, mask in shown:
        with torch.inference_mode():
            logits = foundation.decode(features, PromptSet.from_one(_points([(place, True)])), True).logits[0]
        # Inference tensors cannot be learned from; a copy can.
        logits = logits.flatten(1).clone()
        share = F.avg_pool2d(torch.from_numpy(mask.astype(np.float32))[None], MAP_STRIDE)
        cases.append((logits, (share >= 0.5).flatten().to(logits)))
    return fit_weights(cases, steps)


def fit_weights(cases: Sequence[tuple[Tensor, Tensor]], steps: int = STEPS) -> tuple[float, float, float]:
    """Weights of three readings ``(3, n)`` against truths ``(n,)``, exactly two scalars of them learnt."""
    learnt = torch.full((2,), 1 / 3, device=cases[0][0].device, requires_grad=True)
    optimiser = torch.optim.AdamW([learnt], lr=RATE, eps=EPSILON)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        weights = torch.cat([1 - learnt.sum()[None], learnt])
        loss = torch.stack([_loss(weights @ logits, truth) for logits, truth in cases]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    first, second = learnt.detach().tolist()
    return 1 - first - second, first, second


def frame_logits(logits: Tensor) -> tuple[float, float, float, float] | None:
    """Box, in pixels of the encoded image, around what lies above 0 in ``(H/4, W/4)``; None where nothing."""
    rows, cols = torch.nonzero(logits > 0, as_tuple=True)
    if not len(rows):
        return None
    edges = (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
    left, top, right, bottom = (float(edge) * MAP_STRIDE for edge in edges)
    return left, top, right, bottom


def _decode_guided(
    features: Features,
    foundation: Foundation,
    target: Target,
    similarity: NDArray[np.float32],
    points: Tensor,
) -> Masks:
    prompts = PromptSet.from_one(points)
    if not (isinstance(foundation, SamStyleFoundation) and foundation.guidable):
        return foundation.decode(features, prompts)
    grid = torch.from_numpy(similarity)[None, None].to(features.image)
    grid = F.interpolate(grid, features.image.shape[-2:], mode="bilinear", align_corners=False)
    semantic = torch.from_numpy(target.semantic)[None].to(features.image)
    return foundation.decode_guided(features, prompts, Guidance(grid.sigmoid().flatten(1), semantic))


def _points(points: Sequence[tuple[Point, bool]]) -> Tensor:
    rows = [[x, y, POINT_POSITIVE if inside else POINT_NEGATIVE] for (x, y), inside in points]
    return torch.tensor([rows], dtype=torch.float32)


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice and focal loss of one mask, as PerSAM-F's code weighs them."""
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * truth).sum() + 1) / (chance.sum() + truth.sum() + 1)
    right = chance * truth + (1 - chance) * (1 - truth)
    share = FOCAL_ALPHA * truth + (1 - FOCAL_ALPHA) * (1 - truth)
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return dice + (share * cross * (1 - right) ** FOCAL_GAMMA).mean()
