"""One object on its way through pictures: its points, its last mask, and what new points are set on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError
from domainsam.prompter.anchor import Anchor, anchor_points
from domainsam.prompter.descriptors import centre_window
from domainsam.prompter.likeness import (
    DEFAULT_WEIGHTS,
    FITTED,
    Likeness,
    learn_likeness,
    measure_depth,
    share_cells,
)
from domainsam.prompter.patches import LEAST, compare_patches, take_patches
from domainsam.prompter.pointmask import PointMask, decode_points
from domainsam.prompter.query import Pick, Points, pick_points
from domainsam.prompter.trackers import Tracker, Visible
from domainsam.prompts import PromptSet
from domainsam.protocols import Box, Foundation, SceneObject, View, Window

Reinit = Literal["fixed", "median", "similar", "synced"]
SURE = 1e8
"""Logit of a mask that was given."""


@dataclass(frozen=True)
class TrackOptions:
    """How objects are followed; the defaults are SAM-PT's where nothing else is said.

    Parameters
    ----------
    points, negatives
        Points on an object, and beside it.
    pick, pick_beside
        How they are picked.
    others
        Points that are seen on the other objects count as beside.
    extent
        Also prompt with the box of the mask that points were set on, moved and scaled as the points that
        are seen moved. SAM-PT does not; a small foundation often needs it, and False leaves it out.
    likeness
        Also judge by how the object looked and lay where it was marked; None for whether the foundation is
        one that this was fitted for (:data:`domainsam.prompter.likeness.FITTED`). SAM-PT does not.
    bends
        The object changes its shape as people and animals do: what similar places of earlier
        pictures were then counts more than its first outline. It brings likeness with it, and is worse for
        stiff things.
    refinements
        Decodings with the mask's own box after the first two. SAM-PT takes 12 with a large SAM and 3 with
        small ones; the default is for small ones.
    least_iou
        A mask with a lower estimated IoU is none. SAM-PT takes 0.7, which is SAM's scale; the embedded
        foundation estimates lower.
    reinit
        When points are set anew on the object's own mask: after every ``horizon`` pictures, on the last of
        them (``fixed``), on that whose area is nearest to their median (``median``), or to the first mask's
        (``similar``); ``synced`` is the latter with one picture for all objects. None for never.
    horizon
        In pictures.
    patches
        Drop a point for good once its surroundings no longer look as where it was set.
    patience
        Give an object up after so many pictures in a row without it; None for never.
    seed
        Of whatever is drawn.

    Raises
    ------
    ConfigError
        If a number is impossible.
    """

    points: int = 16
    negatives: int = 1
    pick: Pick = "kmedoids"
    pick_beside: Pick = "mixed"
    others: bool = True
    extent: bool = True
    likeness: bool | None = None
    bends: bool = False
    refinements: int = 3
    least_iou: float = 0.5
    reinit: Reinit | None = None
    horizon: int = 24
    patches: bool = False
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"points": 1, "negatives": 0, "refinements": 0, "horizon": 2}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {smallest} or more")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience is {self.patience}; expected 1 or more pictures, or none")
        if self.bends and self.likeness is False:
            raise ConfigError("what bends is told by likeness; leave one of the two out: bends, no likeness")
        if not 0 <= self.least_iou <= 1:
            raise ConfigError(f"the least IoU is {self.least_iou}; expected 0 to 1")


@dataclass
class Seen:
    """The object in one picture of the horizon: area of its mask in pixels, and the mask, packed."""

    frame: int
    area: int
    packed: NDArray[np.uint8]


@dataclass
class Followed:
    """State of one object; ``answer`` is None where it is not seen, ``begun`` where its points were set."""

    number: int
    side: int
    count: int
    state: Any
    points: Points
    visible: Visible
    answer: PointMask | None
    score: float
    first_area: int
    anchor: Anchor | None = None
    likeness: Likeness | None = None
    patches: NDArray[np.float64] | None = None
    kept: NDArray[np.bool_] | None = None
    memory: list[Seen] = field(default_factory=list)
    begun: int = -1
    missing: int = 0
    ended: bool = False
    reason: str = ""

    @property
    def seen(self) -> Points:
        """Points on the object that are seen now."""
        return self.points[: self.count][self.visible[: self.count]]

    @property
    def beside(self) -> Points:
        """Points beside it that are seen now."""
        return self.points[self.count :][self.visible[self.count :]]

    def move(self, tracker: Tracker, view: View, frame: int, options: TrackOptions) -> None:
        """Follow the points to the next picture."""
        self.points, self.visible = tracker.step(view, self.state, frame)
        if options.patches and self.patches is not None and self.kept is not None:
            image = view.image(Window(0, 0, *view.shape, frame))
            self.kept &= compare_patches(self.patches, take_patches(image, self.points)) > LEAST
            self.visible = self.visible & self.kept


def start_object(
    view: View,
    one: SceneObject,
    number: int,
    foundation: Foundation,
    tracker: Tracker,
    options: TrackOptions,
) -> Followed:
    """An object where it was marked: its mask, given or decoded, and points on it and beside.

    Raises
    ------
    InputError
        If nothing is found where it was marked.
    """
    answer = mark_mask(view, one, foundation)
    if answer is None:
        raise InputError(f"object {number + 1}: nothing is found where it is marked; mark it in another way")
    mask = answer.paint(view.shape) > 0
    clicks = np.array([(p.x, p.y) for p in one.points if p.inside], float).reshape(-1, 2)
    against = np.array([(p.x, p.y) for p in one.points if not p.inside], float).reshape(-1, 2)
    points, count = set_points(view, one.bounds.frame, mask, options, clicks, against)
    followed = Followed(
        number,
        foundation.image_size,
        count,
        tracker.begin(view, one.bounds.frame, points),
        points,
        np.ones(len(points), bool),
        answer,
        1.0 if one.mask is not None else answer.iou,
        int(mask.sum()),
        begun=one.bounds.frame,
        anchor=anchor_points(points, count, mask) if options.extent else None,
    )
    if options.likeness or options.bends or (options.likeness is None and foundation.name in FITTED):
        window = surround(view, mask, one.bounds.frame, followed.side)
        looks = view.features(window), view.image(window)
        weights = FITTED.get(foundation.name, DEFAULT_WEIGHTS)
        followed.likeness = learn_likeness(mask, *looks, window, points[:count], options.bends, weights)
    if options.patches:
        image = view.image(Window(0, 0, *view.shape, one.bounds.frame))
        followed.patches = take_patches(image, points)
        followed.kept = np.ones(len(points), bool)
    return followed


def surround(view: View, mask: NDArray[np.bool_], frame: int, side: int) -> Window:
    """The window of ``side`` pixels with a mask ``(H, W)`` in its middle."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    bounds = int(rows[0]), int(cols[0]), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1
    return centre_window(view.shape, Window(*bounds, frame), side)


def move_likeness(one: Followed, view: View, mask: NDArray[np.bool_], frame: int) -> Likeness | None:
    """What an object looked like, with the outline ``mask`` ``(H, W)`` that new points were set on."""
    if one.likeness is None:
        return None
    window = surround(view, mask, frame, one.side)
    return one.likeness.moved(
        measure_depth(share_cells(mask, window)), window, one.points[: one.count].copy()
    )


def set_points(
    view: View,
    frame: int,
    mask: NDArray[np.bool_],
    options: TrackOptions,
    clicks: Points | None = None,
    against: Points | None = None,
) -> tuple[Points, int]:
    """Points on a mask, clicks first, then those beside it; and how many of them are on it."""
    image = view.image(Window(0, 0, *view.shape, frame))
    none = np.zeros((0, 2))
    clicks, against = (none if part is None else part for part in (clicks, against))
    wanted = max(0, options.points - len(clicks))
    own = np.concatenate([clicks, pick_points(mask, wanted, options.pick, options.seed, image)])
    beside = pick_points(~mask, options.negatives, options.pick_beside, options.seed, image)
    return np.concatenate([own, against, beside]), len(own)


def mark_mask(view: View, one: SceneObject, foundation: Foundation) -> PointMask | None:
    """The object's mask in the picture where it is marked: the given one, or what its box or clicks mark."""
    window = centre_window(view.shape, one.bounds, foundation.image_size)
    if one.mask is not None:
        return _given_mask(one)
    points = [[p.x - window.col, p.y - window.row, float(p.inside)] for p in one.points]
    box: Box | None = None
    if one.box is not None:
        left, top, right, bottom = one.box
        box = (left - window.col, top - window.row, right - window.col, bottom - window.row)
    prompts = PromptSet.from_one(torch.tensor([points]) if points else None, box)
    # One click alone is ambiguous, and read in three ways (Kirillov et al. 2023, section 3).
    alone = len(points) == 1 and box is None
    with torch.inference_mode():
        masks = foundation.decode(view.features(window), prompts, alone).best()
    logits = masks.logits[0, 0].float().cpu().numpy()
    return PointMask(logits, float(masks.iou[0, 0].clamp(0, 1)), window) if (logits > 0).any() else None


def _given_mask(one: SceneObject) -> PointMask:
    """A given mask as logits of every pixel, in the object's own bounds."""
    assert one.mask is not None
    return PointMask(np.where(one.mask, SURE, -SURE).astype(np.float32), 1.0, one.bounds)


def look_at(
    one: Followed,
    view: View,
    frame: int,
    foundation: Foundation,
    others: Sequence[Points],
    options: TrackOptions,
) -> None:
    """Decode an object in a picture from its points that are seen there; ``others`` lie beside it."""
    one.answer, one.score = None, 0.0
    seen = one.seen
    if not len(seen):
        return _miss(one, "no point on it is seen")
    left, top = (int(edge) for edge in np.floor(seen.min(axis=0)))
    right, bottom = (int(edge) + 1 for edge in np.floor(seen.max(axis=0)))
    window = centre_window(view.shape, Window(top, left, bottom - top, right - left, frame), one.side)
    beside = np.concatenate([one.beside, *others])
    extent = None
    if one.anchor is not None:
        extent = one.anchor.carry(one.points[: one.count], one.visible[: one.count])
    features = view.features(window)
    answer = decode_points(features, window, foundation, seen, beside, options.refinements, extent)
    if answer is None:
        return _miss(one, "its points mark nothing")
    if answer.iou < options.least_iou:
        return _miss(one, f"its mask's estimated IoU is {answer.iou:.2f}, below {options.least_iou:g}")
    if one.likeness is not None:
        points, visible = one.points[: one.count], one.visible[: one.count]
        image = view.image(window)
        logits = one.likeness.judge(answer.logits, features, image, window, points, visible)
        if not (logits > 0).any():
            return _miss(one, "nothing there looks like it")
        answer = replace(answer, logits=logits)
    one.answer, one.score, one.missing = answer, answer.iou, 0
    if options.reinit is not None:
        mask = answer.paint(view.shape) > 0
        one.memory.append(Seen(frame, int(mask.sum()), np.packbits(mask)))
    return None


def _miss(one: Followed, reason: str) -> None:
    one.missing += 1
    one.reason = reason
