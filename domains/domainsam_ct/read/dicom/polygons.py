"""Fill planar contours on a lattice of pixels, by the rule that a pixel is where its centre is.

Tools that outline pixels do it in two ways: half way between those inside and
outside, or from centre to centre of the outermost ones inside. Of contours whose
corners are centres, a centre on the line counts as inside, and of a hole as
outside it, so that both ways give the pixels that were outlined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ON_LINE = 0.01
"""Pixels between a centre and a line that is meant to go through it: headers round coordinates."""
MOSTLY = 0.9
"""Share of a contour's corners that are centres, where it was drawn from centre to centre."""

Points = NDArray[np.float64]
Pixels = NDArray[np.bool_]


def measure_area(points: Points) -> float:
    """Area of a polygon ``(n, 2)`` in pixels, by the shoelace formula."""
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def fill_even_odd(points: Points, shape: tuple[int, int]) -> Pixels:
    """Pixels ``(rows, columns)`` whose centres lie inside a polygon, even-odd; those on its line either way.

    Parameters
    ----------
    points
        ``(n, 2)`` of (column, row); whole numbers are centres. The last joins the first.
    shape
        Rows and columns.
    """
    rows, columns = shape
    ends = np.roll(points, -1, axis=0)
    low, high = np.minimum(points[:, 1], ends[:, 1]), np.maximum(points[:, 1], ends[:, 1])
    # Half-open, so that a corner on a row is crossed once.
    first = np.clip(np.ceil(low), 0, rows).astype(int)
    stop = np.clip(np.ceil(high), 0, rows).astype(int)
    counts = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(points)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    (x0, y0), (x1, y1) = points[edge].T, ends[edge].T
    crossing = x0 + (row - y0) / (y1 - y0) * (x1 - x0)
    column = np.clip(np.floor(crossing) + 1, 0, columns).astype(int)
    toggles = np.zeros((rows, columns + 1), np.int32)
    np.add.at(toggles, (row, column), 1)
    return np.asarray(np.cumsum(toggles, axis=1)[:, :columns] % 2 == 1)


def joins_centres(points: Points) -> bool:
    """Whether a polygon ``(n, 2)`` was drawn from centre to centre of pixels."""
    on_centres = (np.abs(points - np.round(points)) <= ON_LINE).all(axis=1)
    return bool(on_centres.mean() >= MOSTLY)


def find_line_pixels(points: Points, shape: tuple[int, int]) -> Pixels:
    """Pixels ``(rows, columns)`` through whose centres the line of a polygon ``(n, 2)`` goes."""
    found = np.zeros(shape, bool)
    ends = np.roll(points, -1, axis=0)
    for axis in (0, 1):
        # Of every edge the places where it has a whole number along this axis.
        low, high = np.minimum(points[:, axis], ends[:, axis]), np.maximum(points[:, axis], ends[:, axis])
        first = np.clip(np.ceil(low - ON_LINE), 0, shape[1 - axis]).astype(int)
        last = np.clip(np.floor(high + ON_LINE), -1, shape[1 - axis] - 1).astype(int)
        counts = np.maximum(last - first + 1, 0)
        edge = np.repeat(np.arange(len(points)), counts)
        whole = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        length = ends[edge, axis] - points[edge, axis]
        share = np.divide(whole - points[edge, axis], length, out=np.zeros(len(edge)), where=length != 0)
        start, end = points[edge, 1 - axis], ends[edge, 1 - axis]
        across = start + np.clip(share, 0, 1) * (end - start)
        near = (np.abs(across - np.round(across)) <= ON_LINE) & (np.abs(across) < max(shape) + 1)
        pair = (np.round(across[near]).astype(int), whole[near])
        # Along x whole numbers are columns and what lies across are rows; along y it is the other way.
        row, column = pair if axis == 0 else pair[::-1]
        kept = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        found[row[kept], column[kept]] = True
    return found


def fill_contours(
    contours: Sequence[Points], shape: tuple[int, int], xor: bool = False
) -> tuple[Pixels, bool]:
    """Pixels inside the contours of one organ on one slice, and whether some of them overlap in part.

    A contour within another is a hole, one within a hole is an island, and one
    that is there twice counts once; parts that overlap are joined. Holes by a
    channel of no width (keyhole) come out by the even-odd rule.

    Parameters
    ----------
    contours
        Polygons ``(n, 2)`` of (column, row).
    xor
        Whether the contours are declared to exclude each other (DICOM's CLOSEDPLANAR_XOR).
    """
    made = np.zeros(shape, bool)
    seen: list[Pixels] = []
    crossed = False
    for points in sorted(contours, key=measure_area, reverse=True):
        line = find_line_pixels(points, shape) if joins_centres(points) else np.zeros(shape, bool)
        inside = fill_even_odd(points, shape)
        full, core = inside | line, inside & ~line
        if xor:
            made ^= core if (core & made).any() else full
        elif any(np.array_equal(full, other) for other in seen):
            continue
        elif core.any() and made[core].all():
            made &= ~core
        else:
            crossed = crossed or bool((core & made).any())
            made |= full
        seen.append(full)
    return made, crossed
