"""How much of each pixel a polygon covers, exactly.

A signed-area accumulation as font renderers use: every edge is cut where it
crosses a grid line; each piece lies in one pixel and adds its height to all
pixels on its right, less the part that it leaves uncovered in its own. The
running sum along a row is the coverage. Cost follows the outline's length in
pixels and the window, not the number of polygons that lie elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam_urban.geodesy import apply_affine


def pixel_coverage(polygon: Any, affine: Affine, shape: tuple[int, int]) -> Float64:
    """Share of every pixel that lies inside a polygon.

    Parameters
    ----------
    polygon
        Valid shapely Polygon or MultiPolygon in the CRS; parts outside the grid count for nothing.
    affine
        From (column, row), pixel corners, to the CRS.
    shape
        Rows and columns.

    Returns
    -------
    Float64
        ``(rows, columns)`` shares 0 to 1.
    """
    rows, columns = shape
    pixels = shapely.transform(polygon, lambda points: apply_affine(~affine, points))
    inside = shapely.clip_by_rect(pixels, 0, 0, columns, rows)
    covered = np.zeros((rows, columns + 1))
    parts = shapely.orient_polygons(shapely.get_parts(inside))
    starts, ends = _edges(parts)
    if len(starts):
        _accumulate(covered, starts, ends)
    return np.clip(np.abs(np.cumsum(covered, axis=1)[:, :columns]), 0, 1)


def _edges(parts: NDArray[np.object_]) -> tuple[Float64, Float64]:
    """Start and end ``(E, 2)`` of every edge of every ring that is not level."""
    rings = shapely.get_rings(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])
    points, ring = shapely.get_coordinates(rings, return_index=True)
    inner = (ring[1:] == ring[:-1]) & (points[1:, 1] != points[:-1, 1])
    return points[:-1][inner], points[1:][inner]


def _accumulate(covered: Float64, starts: Float64, ends: Float64) -> None:
    first, last = _cut(starts, ends)
    middle, height = (first + last) / 2, last[:, 1] - first[:, 1]
    row = np.clip(np.floor(middle[:, 1]).astype(np.int64), 0, covered.shape[0] - 1)
    column = np.clip(np.floor(middle[:, 0]).astype(np.int64), 0, covered.shape[1] - 1)
    right = middle[:, 0] - column
    width = covered.shape[1]
    flat = covered.ravel()
    flat += np.bincount(row * width + column, weights=height * (1 - right), minlength=flat.size)
    # An edge on the grid's right border has nothing further right to cover.
    beyond = column + 1 < width
    flat += np.bincount(
        (row * width + column + 1)[beyond], weights=(height * right)[beyond], minlength=flat.size
    )


def _cut(starts: Float64, ends: Float64) -> tuple[Float64, Float64]:
    """Edges cut where they cross whole numbers in x or y; start and end ``(S, 2)`` of each piece."""
    edge, at = [np.arange(len(starts))], [np.zeros(len(starts))]
    for axis in (0, 1):
        one, other = starts[:, axis], ends[:, axis]
        low, high = np.minimum(one, other), np.maximum(one, other)
        begin = np.floor(low).astype(np.int64) + 1
        count = np.maximum(np.ceil(high).astype(np.int64) - begin, 0)
        owner = np.repeat(np.arange(len(starts)), count)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        edge.append(owner)
        at.append((begin[owner] + step - one[owner]) / (other - one)[owner])
    owner, where = np.concatenate(edge), np.concatenate(at)
    order = np.lexsort((where, owner))
    owner, where = owner[order], np.clip(where[order], 0, 1)
    until = np.append(where[1:], 1.0)
    until[np.append(owner[1:] != owner[:-1], True)] = 1.0
    span = ends[owner] - starts[owner]
    return starts[owner] + where[:, None] * span, starts[owner] + until[:, None] * span
