"""Outlines of masks in one image plane, as closed polygons without holes."""

from __future__ import annotations

from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

Points = NDArray[np.float64]


def outlines(inside: NDArray[np.bool_]) -> list[Points]:
    """Polygons ``(n, 2)`` of ``(column, row)`` around the true pixels ``(row, column)``; centres are whole.

    Polygons run half way between pixels inside and outside, so that exactly
    the centres inside lie within one of them. Plans know no holes: a shape
    with one is cut between two rows of pixels into shapes without. The other
    custom, a channel of no width to the hole, passes through centres, and
    programs then disagree on which side those lie. No polygon repeats its
    first point.
    """
    parts, _ = label(inside)
    found: list[Points] = []
    for number, box in enumerate(find_objects(parts), start=1):
        shift = np.array([box[1].start, box[0].start], dtype=np.float64)
        found += [ring + shift for ring in _rings(parts[box] == number)]
    return found


def _rings(part: NDArray[np.bool_]) -> list[Points]:
    """Outlines of one connected part, cut where it has a hole."""
    padded = np.pad(part.astype(np.float32), 1)
    filled: Any = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, np.inf)
    polygons, offsets = filled
    for points, starts in zip(polygons, offsets, strict=True):
        if len(starts) > 2:
            hole = points[starts[1] : starts[2], 1] - 1
            cut = int(np.floor((hole.min() + hole.max()) / 2)) + 1
            below = [ring + np.array((0, cut)) for ring in outlines(part[cut:])]
            return outlines(part[:cut]) + below
    return [_corners(points[:-1] - 1) for points in polygons]


def _corners(ring: Points) -> Points:
    """A closed ring without the points that lie on a straight line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[turns != 0]
