"""One ranking of what was found in many windows: what they cut is joined, and nothing stays twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from domainsam.prompter.descriptors import paste_mask
from domainsam.prompter.search import suppress_same, touches_inner_edge
from domainsam.protocols import SceneObject, Window

AGREE = 0.5
"""Two parts are one object if their masks agree by this IoU in what both windows see."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """An object, and the window that it was seen in."""

    one: SceneObject
    window: Window


def rank(sightings: Sequence[Sighting], shape: tuple[int, int]) -> list[SceneObject]:
    """Objects by falling score; halves of what a window cut are joined, what is seen twice is kept once."""
    left = list(sightings)
    joined: list[SceneObject] = []
    while left:
        one = left.pop(0)
        group, seen = one.one, [one.window]
        cut = _is_cut(one, shape)
        at = 0
        while cut and at < len(left):
            other = left[at]
            if _is_cut(other, shape) and any(_agree(group, other, window) for window in seen):
                group = _join(group, other.one)
                seen.append(other.window)
                left.pop(at)
                at = 0
            else:
                at += 1
        joined.append(group)
    return suppress_same(joined)


def _is_cut(sighting: Sighting, shape: tuple[int, int]) -> bool:
    return touches_inner_edge(paste_mask(sighting.one, sighting.window), sighting.window, shape)


def _agree(one: SceneObject, other: Sighting, window: Window) -> bool:
    """Whether two objects are the same where both of their windows look."""
    shared = _intersect(window, other.window)
    if shared is None:
        return False
    first, second = paste_mask(one, shared), paste_mask(other.one, shared)
    both, either = int((first & second).sum()), int((first | second).sum())
    return both > 0 and both / either >= AGREE


def _join(one: SceneObject, other: SceneObject) -> SceneObject:
    """One object of two: all of both masks, and the better score."""
    a, b = one.bounds, other.bounds
    top, left = min(a.row, b.row), min(a.col, b.col)
    bottom, right = max(a.row + a.height, b.row + b.height), max(a.col + a.width, b.col + b.width)
    bounds = Window(top, left, bottom - top, right - left, a.frame)
    mask: NDArray[np.bool_] = paste_mask(one, bounds) | paste_mask(other, bounds)
    points = (*one.points, *other.points)
    score = max(one.score, other.score)
    return replace(one, bounds=bounds, mask=mask, box=bounds.box, points=points, score=score)


def _intersect(one: Window, other: Window) -> Window | None:
    if one.frame != other.frame:
        return None
    top, left = max(one.row, other.row), max(one.col, other.col)
    bottom = min(one.row + one.height, other.row + other.height)
    right = min(one.col + one.width, other.col + other.width)
    return Window(top, left, bottom - top, right - left, one.frame) if top < bottom and left < right else None
