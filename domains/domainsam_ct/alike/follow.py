"""Follow an object from slice to slice both ways, until it ends, and say where and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.infer.components import EIGHT

Mask = NDArray[np.bool_]
STEEPEST = 3.0
"""An outline moves in the plane by at most so many times the way from slice to slice: 72 degrees."""
LEAST_REACH_MM = 3.0
OPENED_MM = 3.0
"""Bridges thinner than this to what lies beside are cut."""
LEAST_MM2 = 30.0
LEAST_SHARE = 0.01
"""An object ends where its area falls below either, the second of its largest area so far."""
SPREAD = 2.5
"""An area that grows by more from one slice to the next has run into something else."""
SPREAD_MM = 5.0
"""Slices further apart than this may show larger steps, and are not judged by :data:`SPREAD`."""

FAINT = 0.8
"""An object ends where its mean likeness falls below this share of that on the marked slices. A liver's
last slices lie at 0.79 to 0.9 of it, bowel that follows at 0.78 and less (a generated and a real scan)."""

Why = Literal["ends", "faint", "edge", "spreads", "next"]
WORDS: Mapping[Why, str] = {
    "ends": "nothing like it within reach on the next slice",
    "faint": "what goes on on the next slice looks too little like it",
    "edge": "the scan ends there",
    "spreads": "on the next slice it would run into something else",
    "next": "it meets what was marked there",
}


@dataclass(frozen=True)
class End:
    """The last slice that an object is on in a direction, and why it goes no further."""

    frame: int
    why: Why

    def document(self, z_mm: float) -> dict[str, Any]:
        """The end as values that JSON can hold."""
        return {"slice": self.frame, "z_mm": round(z_mm, 2), "why": self.why, "words": WORDS[self.why]}


def follow(
    likeness: Callable[[int], NDArray[np.floating[Any]]],
    starts: Mapping[int, Mask],
    frames: int,
    spacing_mm: tuple[float, float, float],
    keep: Callable[[int, Mask], None],
) -> tuple[End, End]:
    """Follow an object from every slice that it was marked on.

    Parameters
    ----------
    likeness
        Probability ``(H, W)`` of a slice, 0 to 1; above a half it looks like the object.
    starts
        The object's mask ``(H, W)`` on slices that it was marked on.
    frames
        Number of slices.
    spacing_mm
        From slice to slice, from row to row, from column to column.
    keep
        Takes a slice's number and mask; called once or, between two marked slices, twice with a slice.

    Returns
    -------
    End, End
        Towards the first slice and towards the last, beyond the outermost marked ones.
    """
    marked = sorted(starts)
    sure = float(np.mean([likeness(frame)[starts[frame]].mean() for frame in marked]))
    for frame in marked:
        keep(frame, starts[frame])
    ends = {}
    for step in (-1, 1):
        for frame in marked:
            end = _follow_one_way(likeness, FAINT * sure, starts, frame, step, frames, spacing_mm, keep)
            if frame == (marked[0] if step < 0 else marked[-1]):
                ends[step] = end
    return ends[-1], ends[1]


def _follow_one_way(
    likeness: Callable[[int], NDArray[np.floating[Any]]],
    faint: float,
    starts: Mapping[int, Mask],
    begin: int,
    step: int,
    frames: int,
    spacing_mm: tuple[float, float, float],
    keep: Callable[[int, Mask], None],
) -> End:
    apart, plane = spacing_mm[0], spacing_mm[1:]
    pixel = plane[0] * plane[1]
    mask = starts[begin]
    largest = area = float(mask.sum()) * pixel
    frame = begin
    while True:
        ahead = frame + step
        if not 0 <= ahead < frames:
            return End(frame, "edge")
        if ahead in starts:
            return End(frame, "next")
        seen = likeness(ahead)
        found = find_next(seen, mask, apart, plane)
        size = float(found.sum()) * pixel
        if size < max(LEAST_MM2, LEAST_SHARE * largest):
            return End(frame, "ends")
        if seen[found].mean() < faint:
            return End(frame, "faint")
        if apart <= SPREAD_MM and size > SPREAD * area and size > SPREAD * LEAST_MM2:
            return End(frame, "spreads")
        keep(ahead, found)
        frame, mask, area = ahead, found, size
        largest = max(largest, size)


def find_next(
    likeness: NDArray[np.floating[Any]], mask: Mask, apart_mm: float, plane_mm: tuple[float, float]
) -> Mask:
    """What of a slice ``(H, W)`` goes on with the mask of the slice before it.

    It looks like the object, lies within reach of the mask, and is of one piece with what overlaps it.
    """
    reach = max(LEAST_REACH_MM, STEEPEST * apart_mm, max(plane_mm))
    window = find_surroundings(mask, reach, plane_mm)
    found = np.zeros_like(mask)
    found[window] = _go_on(likeness[window], mask[window], reach, plane_mm)
    return found


def find_surroundings(mask: Mask, reach: float, plane_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns that hold a mask and what lies within reach of it."""
    rows, cols = (
        slice(max(0, int(held[0]) - margin), int(held[-1]) + 1 + margin)
        for held, margin in zip(
            (np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))),
            (int(np.ceil(reach / step)) + 1 for step in plane_mm),
            strict=True,
        )
    )
    return rows, cols


def _go_on(
    likeness: NDArray[np.floating[Any]], mask: Mask, reach: float, plane_mm: tuple[float, float]
) -> Mask:
    near = ndimage.distance_transform_edt(~mask, sampling=plane_mm) <= reach
    alike = open_plane((likeness > 0.5) & near, mask, plane_mm)
    going_on = ndimage.binary_propagation(mask & alike, EIGHT, mask=alike)
    filled: Mask = ndimage.binary_fill_holes(going_on)
    return filled


def open_plane(alike: Mask, mask: Mask, plane_mm: tuple[float, float]) -> Mask:
    """A slice's mask without what is thinner than :data:`OPENED_MM`, except in the middle of ``mask``."""
    half = OPENED_MM / 2 + 1e-6
    inner = ndimage.distance_transform_edt(np.pad(alike, 1), sampling=plane_mm)[1:-1, 1:-1] > half
    opened = alike & (ndimage.distance_transform_edt(~inner, sampling=plane_mm) <= half + max(plane_mm) / 2)
    if not inner.any():
        opened = np.zeros_like(alike)
    middle = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=plane_mm)[1:-1, 1:-1] > half
    kept: Mask = opened | (alike & middle)
    return kept
