"""Everything that a scene shows: a grid of points, what is stable, nothing twice.

As SAM's automatic mask generation (Kirillov et al. 2023, appendix B): three readings of every point are
kept where the foundation trusts them and where they hardly change with the threshold; of masks that
overlap the most trusted is kept. Windows take the place of its layers of crops, so scenes of any size
go through: each answers for the points of its middle, what its edge cuts is left out as in SAM's crops,
and what is shown twice is told by comparing the objects of the whole frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from domainsam.errors import ConfigError
from domainsam.prompter.descriptors import CELL, cut_to_frame
from domainsam.prompter.search import cut_out, own_areas, touches_inner_edge
from domainsam.prompts import POINT_POSITIVE, PromptSet
from domainsam.protocols import Box, Foundation, SceneObject, View, Window

OFFSET = 1.0
"""Logits that a stable mask is compared at, above and below 0 (``stability_score_offset``)."""
AT_ONCE = 32
"""Points decoded together."""
STEP = 32
"""Pixels between points, as SAM's 32 along 1024."""
USUAL_LIMITS = (0.7, 0.85)
LIMITS = {"embedded": (0.2, 0.75), "embedded_lite": (0.4, 0.5)}
"""Least estimated IoU and stability by foundation, for pictures of any kind. Of a click's mask on aerial
pictures these expect 0.2 to 0.6, and their logits are flat: by the usual numbers nothing is left there.
Of six tiles of Rio the second's give 8 of 91 roofs right among 58 objects, the first's limits 5 among 47."""
SHARED = 0.5
"""Of a window's side, with its neighbour: an object up to a quarter of a side is whole in some window."""

Look = Callable[[], list[SceneObject]]
Once = Callable[[Window, Look], list[SceneObject]]
"""The objects of a window: by looking, or as they were found before."""


def look_anew(_: Window, look: Look) -> list[SceneObject]:
    """The objects of a window by looking."""
    return look()


@dataclass(frozen=True)
class EverythingOptions:
    """What is kept; SAM's own numbers are 32, 0.88, 0.95 and 0.7, for SAM's own scores.

    Parameters
    ----------
    per_side
        Points along each side of a window; by default one every :data:`STEP` pixels.
    least_iou
        Least estimated IoU; by default :func:`get_limits`.
    least_stability
        Least IoU of the masks cut one logit above and one below 0; by default :func:`get_limits`.
    overlap
        Of two objects whose boxes' IoU is greater, the less trusted goes.
    least_area
        In pixels.

    Raises
    ------
    ConfigError
        If a number is impossible.
    """

    per_side: int | None = None
    least_iou: float | None = None
    least_stability: float | None = None
    overlap: float = 0.7
    least_area: int = 64

    def __post_init__(self) -> None:
        if self.per_side is not None and self.per_side < 1:
            raise ConfigError(f"points per side are {self.per_side}; expected 1 or more")
        for name in ("least_iou", "least_stability", "overlap"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; expected 0 to 1")


def get_limits(foundation: Foundation) -> tuple[float, float]:
    """Least estimated IoU and stability that suit a foundation's own scores."""
    return LIMITS.get(foundation.name, USUAL_LIMITS)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask ``(h, w)`` of logits as decoded, its estimated IoU, and its box in pixels of the window."""

    logits: Tensor
    iou: float
    box: Box


class EverythingSource:
    """Every object that a foundation sees: a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    foundation
        Decodes.
    options
        What is kept.
    once
        Asked for the objects of every window, and may know them from a run that was cut short.
    """

    def __init__(
        self, foundation: Foundation, options: EverythingOptions | None = None, once: Once = look_anew
    ) -> None:
        self.foundation, self.once = foundation, once
        self.options = options or EverythingOptions()
        least_iou, least_stability = get_limits(foundation)
        given = self.options
        self.least_iou = least_iou if given.least_iou is None else given.least_iou
        self.least_stability = least_stability if given.least_stability is None else given.least_stability
        self.per_side = given.per_side or max(1, foundation.image_size // STEP)

    def find(self, view: View) -> Iterator[SceneObject]:
        """Objects with mask and box, frame by frame, the most trusted first; possibly none."""
        for frame in range(view.frames):
            found: list[SceneObject] = []
            for window, area in own_areas(view.shape, self.foundation.image_size, frame, SHARED):
                found += self.once(window, partial(self._look_at, view, window, area))
            yield from keep_best(found, self.options.overlap)

    def _look_at(self, view: View, window: Window, area: tuple[slice, slice]) -> list[SceneObject]:
        """What a window shows at the points of its own part, nothing twice: that bounds what is held."""
        found = [self._as_object(one, window, view) for one in self._decode(view, window, area)]
        return keep_best([one for one in found if one is not None], self.options.overlap)

    def _decode(self, view: View, window: Window, area: tuple[slice, slice]) -> list[Proposal]:
        """Trusted and stable masks at the points of a window's own part that lie on valid ground."""
        valid = cut_to_frame(view.block(window).valid, window, view.shape)
        points = [
            (x, y)
            for x, y in grid_points(window, self.per_side)
            if area[1].start * CELL <= x + window.col < area[1].stop * CELL
            and area[0].start * CELL <= y + window.row < area[0].stop * CELL
            and valid[int(y), int(x)]
        ]
        best: list[Proposal] = []
        if not points:
            return best
        features = view.features(window)
        for start in range(0, len(points), AT_ONCE):
            prompts = _ask(points[start : start + AT_ONCE])
            with torch.inference_mode():
                masks = self.foundation.decode(features, prompts, True)
            iou, logits = masks.iou.flatten(), masks.logits.flatten(0, 1)
            good = (iou >= self.least_iou) & (measure_stability(logits) >= self.least_stability)
            # What shows the same is dropped while it is small: bringing masks to size takes longest.
            found = [*best, *propose(logits[good], iou[good], (window.height, window.width))]
            kept = choose_best([one.box for one in found], [one.iou for one in found], self.options.overlap)
            best = [found[number] for number in kept]
        return best

    def _as_object(self, proposal: Proposal, window: Window, view: View) -> SceneObject | None:
        """The object of a mask, or None where it is small or cut by an edge that another window shows."""
        fine = torch.nn.functional.interpolate(
            proposal.logits[None, None], (window.height, window.width), mode="bilinear", align_corners=False
        )
        mask = cut_to_frame(np.asarray((fine[0, 0] > 0).cpu().numpy()), window, view.shape)
        if int(mask.sum()) < max(1, self.options.least_area) or touches_inner_edge(mask, window, view.shape):
            return None
        bounds, part = cut_out(mask, window)
        return SceneObject(bounds, score=min(max(proposal.iou, 0.0), 1.0), box=bounds.box, mask=part)


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


def propose(logits: Tensor, iou: Tensor, size: tuple[int, int]) -> list[Proposal]:
    """Masks ``(N, h, w)`` that are not empty, with their boxes in pixels of a window of ``size``."""
    masks = (logits > 0).cpu().numpy()
    down, across = size[0] / masks.shape[1], size[1] / masks.shape[2]
    found = []
    for number, mask in enumerate(masks):
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box = cols[0] * across, rows[0] * down, (cols[-1] + 1) * across, (rows[-1] + 1) * down
            # A copy, since a view would keep all of its batch.
            found.append(Proposal(logits[number].clone(), float(iou[number]), box))
    return found


def keep_best(found: Sequence[SceneObject], overlap: float) -> list[SceneObject]:
    """Objects by falling score without those whose box overlaps a better one's by more (IoU)."""
    chosen = choose_best([one.bounds.box for one in found], [one.score for one in found], overlap)
    return [found[number] for number in chosen]


def choose_best(boxes: Sequence[Box], scores: Sequence[float], overlap: float) -> list[int]:
    """Places of boxes by falling score, without those that overlap a better one by more (IoU)."""
    order = sorted(range(len(boxes)), key=lambda n: (-scores[n], boxes[n][1], boxes[n][0], boxes[n][2]))
    edges = np.array([boxes[number] for number in order], float).reshape(-1, 4)
    areas = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    left = np.ones(len(order), bool)
    by_top = np.argsort(edges[:, 1], kind="stable")
    tops = edges[by_top, 1]
    for number, (_, top, _, bottom) in enumerate(edges):
        if not left[number]:
            continue
        # Boxes of a greater IoU share more than that part of the taller one's height: only they are compared.
        above = (bottom - top) * (1 - overlap) / overlap if overlap else np.inf
        first, last = np.searchsorted(tops, (top - above, bottom))
        near = by_top[first:last]
        low = np.maximum(edges[number, :2], edges[near, :2])
        high = np.minimum(edges[number, 2:], edges[near, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        same = shared / (areas[number] + areas[near] - shared) > overlap
        left[near[same & (near > number)]] = False
    return [number for number, kept in zip(order, left, strict=True) if kept]


def _ask(points: list[tuple[float, float]]) -> PromptSet:
    count = len(points)
    rows = torch.tensor([[[x, y, float(POINT_POSITIVE)]] for x, y in points], dtype=torch.float32)
    return PromptSet(
        image_index=torch.zeros(count, dtype=torch.int64),
        labels=torch.ones(count, dtype=torch.int64),
        scores=torch.ones(count),
        points=rows,
    )
