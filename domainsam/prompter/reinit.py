"""New points on an object's own mask, after a horizon of pictures (SAM-PT, section 3.2 and appendix)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domainsam.prompter.anchor import anchor_points
from domainsam.prompter.followed import (
    Followed,
    Seen,
    TrackOptions,
    move_likeness,
    set_points,
)
from domainsam.prompter.patches import take_patches
from domainsam.prompter.trackers import Tracker
from domainsam.protocols import View, Window

SMALLEST = 25
"""Masks of no more pixels are not taken, as in SAM-PT's code."""
EARLY = 0.25
"""Nor are those of this first part of the horizon."""


def renew(
    objects: Sequence[Followed], view: View, frame: int, tracker: Tracker, options: TrackOptions
) -> None:
    """Set points anew on objects whose horizon is full; one without a mask to set them on is given up.

    The pictures after the chosen one are followed again from the new points, so that these arrive at
    ``frame``; masks that were given out already stay.
    """
    due = [one for one in objects if _age(one, frame) >= options.horizon]
    if not due:
        return
    together = _choose_together(due, options) if options.reinit == "synced" else None
    for one in due:
        chosen = together if together is not None else choose_picture(one, options)
        own = next((seen for seen in one.memory if seen.frame == chosen), None)
        if own is None:
            one.ended, one.reason = True, "no mask was left to set new points on"
        else:
            _set_anew(one, own, view, frame, tracker, options)
        one.memory, one.begun = [], frame


def choose_picture(one: Followed, options: TrackOptions) -> int | None:
    """Number of the picture whose mask is taken, or None where none may be."""
    usable = _usable(one.memory, options)
    if not usable:
        return None
    if options.reinit == "fixed":
        return usable[-1].frame
    wanted = one.first_area if options.reinit in ("similar", "synced") else _median(usable)
    return min(usable, key=lambda seen: (abs(seen.area - wanted), seen.frame)).frame


def _choose_together(objects: Sequence[Followed], options: TrackOptions) -> int | None:
    """The picture where the areas of all objects together are nearest to the first ones."""
    usable = [{seen.frame: seen.area for seen in _usable(one.memory, options)} for one in objects]
    shared = sorted(set.intersection(*(set(areas) for areas in usable)))
    if not shared:
        return None

    def change(frame: int) -> float:
        pairs = zip(objects, usable, strict=True)
        return sum(abs(areas[frame] - one.first_area) / max(1, one.first_area) for one, areas in pairs)

    return min(shared, key=lambda frame: (change(frame), frame))


def _usable(memory: Sequence[Seen], options: TrackOptions) -> list[Seen]:
    if not memory:
        return []
    first = memory[0].frame
    return [
        seen
        for seen in memory
        if seen.area > SMALLEST and abs(seen.frame - first) >= int(EARLY * options.horizon)
    ]


def _median(seen: Sequence[Seen]) -> float:
    return float(np.median([one.area for one in seen]))


def _age(one: Followed, frame: int) -> int:
    return abs(frame - one.begun)


def _set_anew(
    one: Followed, seen: Seen, view: View, frame: int, tracker: Tracker, options: TrackOptions
) -> None:
    mask = unpack(seen, view.shape)
    points, count = set_points(view, seen.frame, mask, options)
    one.state, one.count, one.points = tracker.begin(view, seen.frame, points), count, points
    one.visible = np.ones(len(points), bool)
    one.anchor = anchor_points(points, count, mask) if options.extent else None
    one.likeness = move_likeness(one, view, mask, seen.frame)
    if options.patches:
        one.patches = take_patches(view.image(Window(0, 0, *view.shape, seen.frame)), points)
        one.kept = one.visible.copy()
    way = 1 if frame >= seen.frame else -1
    for number in range(seen.frame + way, frame + way, way):
        one.move(tracker, view, number, options)


def unpack(seen: Seen, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask ``(H, W)`` that was packed."""
    bits = np.unpackbits(seen.packed, count=shape[0] * shape[1])
    return np.asarray(bits.reshape(shape).astype(bool))
