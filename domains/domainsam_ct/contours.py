"""Outlines of masks in one image plane, as closed polygons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

Points = NDArray[np.float64]


def outlines(inside: NDArray[np.bool_]) -> list[Points]:
    """Polygons ``(n, 2)`` of ``(column, row)`` around the true pixels ``(row, column)``; centres are whole.

    Polygons run half way between pixels inside and outside, so that exactly
    the centres inside lie within them. A polygon with holes is cut open by
    channels of no width from hole to hole and to the rim, for plans know no
    holes. Each polygon is closed without repeating its first point.
    """
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(cols[0])
    part = np.pad(inside[top : rows[-1] + 1, left : cols[-1] + 1].astype(np.float32), 1)
    generator = contour_generator(z=part, fill_type=FillType.OuterOffset)
    polygons, offsets = generator.filled(0.5, np.inf)
    shift = np.array([left - 1, top - 1], dtype=np.float64)
    made = []
    for points, starts in zip(polygons, offsets, strict=True):
        rings = [_corners(points[start : stop - 1] + shift) for start, stop in pairwise(starts)]
        made.append(_joined(rings[0], rings[1:]))
    return made


def _corners(ring: Points) -> Points:
    """A closed ring without the points that lie on a straight line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[turns != 0]


def _joined(outer: Points, holes: list[Points]) -> Points:
    """One ring out of a rim and holes, each hole joined where it comes closest to what there is."""
    ring = outer
    for hole in sorted(holes, key=lambda points: float(points[:, 0].min())):
        distance = np.square(ring[:, None] - hole[None]).sum(axis=2)
        here, there = np.unravel_index(int(distance.argmin()), distance.shape)
        tour = np.concatenate([hole[there:], hole[: there + 1]])
        ring = np.concatenate([ring[: here + 1], tour, ring[here:]])
    return ring
