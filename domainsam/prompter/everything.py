"""Everything that a scene shows: a grid of points, what is stable, nothing twice.

As SAM's automatic mask generation (Kirillov et al. 2023, appendix B): three readings of every point are
kept where the foundation trusts them and where they hardly change with the threshold; of masks that
overlap the most trusted is kept. Windows take the place of its layers of crops, so scenes of any size
go through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from domainsam.errors import ConfigError
from domainsam.prompter.descriptors import CELL, cut_to_frame
from domainsam.prompter.search import cut_out, own_areas, touches_inner_edge
from domainsam.prompts import POINT_POSITIVE, PromptSet
from domainsam.protocols import Foundation, SceneObject, View, Window

OFFSET = 1.0
"""Logits that a stable mask is compared at, above and below 0 (``stability_score_offset``)."""
AT_ONCE = 32
"""Points decoded together."""


@dataclass(frozen=True)
class EverythingOptions:
    """What is kept; SAM's own numbers are 32, 0.88, 0.95 and 0.7, for SAM's own scores.

    Parameters
    ----------
    per_side
        Points along each side of a window.
    least_iou
        Least estimated IoU.
    least_stability
        Least IoU of the masks cut one logit above and one below 0.
    overlap
        Of two objects whose boxes' IoU is greater, the less trusted goes.
    least_area
        In pixels.

    Raises
    ------
    ConfigError
        If a number is impossible.
    """

    per_side: int = 24
    least_iou: float = 0.7
    least_stability: float = 0.85
    overlap: float = 0.7
    least_area: int = 64

    def __post_init__(self) -> None:
        if self.per_side < 1:
            raise ConfigError(f"points per side are {self.per_side}; expected 1 or more")
        for name in ("least_iou", "least_stability", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")


class EverythingSource:
    """Every object that a foundation sees: a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    foundation
        Decodes.
    options
        What is kept.
    """

    def __init__(self, foundation: Foundation, options: EverythingOptions | None = None) -> None:
        self.foundation = foundation
        self.options = options or EverythingOptions()

    def find(self, view: View) -> Iterator[SceneObject]:
        """Objects with mask and box, frame by frame, the most trusted first; possibly none."""
        for frame in range(view.frames):
            found: list[SceneObject] = []
            for window, area in own_areas(view.shape, self.foundation.image_size, frame):
                found += self._look_at(view, window, area)
            yield from keep_best(found, self.options.overlap)

    def _look_at(self, view: View, window: Window, area: tuple[slice, slice]) -> Iterator[SceneObject]:
        """What a window shows at the points of its own part that lie on valid ground."""
        block = view.block(window)
        valid = cut_to_frame(block.valid, window, view.shape)
        points = [
            (x, y)
            for x, y in grid_points(window, self.options.per_side)
            if area[1].start * CELL <= x + window.col < area[1].stop * CELL
            and area[0].start * CELL <= y + window.row < area[0].stop * CELL
            and valid[int(y), int(x)]
        ]
        if not points:
            return
        features = view.features(window)
        for start in range(0, len(points), AT_ONCE):
            prompts = _ask(points[start : start + AT_ONCE])
            with torch.inference_mode():
                masks = self.foundation.decode(features, prompts, True)
            iou, logits = masks.iou.flatten(), masks.logits.flatten(0, 1)
            good = (iou >= self.options.least_iou) & (
                measure_stability(logits) >= self.options.least_stability
            )
            for number in torch.nonzero(good).flatten().tolist():
                one = self._as_object(logits[number], float(iou[number]), window, view)
                if one is not None:
                    yield one

    def _as_object(self, logits: Tensor, iou: float, window: Window, view: View) -> SceneObject | None:
        """The object of a mask, or None where it is small or cut by an edge that another window shows."""
        fine = torch.nn.functional.interpolate(
            logits[None, None], (window.height, window.width), mode="bilinear", align_corners=False
        )
        mask = cut_to_frame(np.asarray((fine[0, 0] > 0).cpu().numpy()), window, view.shape)
        if int(mask.sum()) < max(1, self.options.least_area) or touches_inner_edge(mask, window, view.shape):
            return None
        bounds, part = cut_out(mask, window)
        return SceneObject(bounds, score=min(max(iou, 0.0), 1.0), box=bounds.box, mask=part)


def grid_points(window: Window, per_side: int) -> Iterator[tuple[float, float]]:
    """Points x, y of a window in even steps, half a step from its edges."""
    for row in range(per_side):
        for col in range(per_side):
            yield (col + 0.5) * window.width / per_side, (row + 0.5) * window.height / per_side


def measure_stability(logits: Tensor) -> Tensor:
    """IoU ``(N,)`` of masks ``(N, h, w)`` cut one logit above and one below 0; 0 where nothing is left."""
    inner = (logits > OFFSET).sum(dim=(1, 2)).float()
    outer = (logits > -OFFSET).sum(dim=(1, 2)).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), torch.zeros_like(inner))


def keep_best(found: list[SceneObject], overlap: float) -> list[SceneObject]:
    """Objects by falling score without those whose box overlaps a better one's by more (IoU)."""
    ranked = sorted(found, key=lambda one: (-one.score, one.bounds.row, one.bounds.col, one.bounds.width))
    boxes = np.array([one.box for one in ranked], float).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.ones(len(ranked), bool)
    for number in range(len(ranked)):
        if not left[number]:
            continue
        low = np.maximum(boxes[number, :2], boxes[:, :2])
        high = np.minimum(boxes[number, 2:], boxes[:, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        same = shared / (areas[number] + areas - shared) > overlap
        same[: number + 1] = False
        left &= ~same
    return [one for one, kept in zip(ranked, left, strict=True) if kept]


def _ask(points: list[tuple[float, float]]) -> PromptSet:
    count = len(points)
    rows = torch.tensor([[[x, y, float(POINT_POSITIVE)]] for x, y in points], dtype=torch.float32)
    return PromptSet(
        image_index=torch.zeros(count, dtype=torch.int64),
        labels=torch.ones(count, dtype=torch.int64),
        scores=torch.ones(count),
        points=rows,
    )
