"""Polygons of neighbouring scenes that are one object, and that object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

CONTACT = 2.5
"""Tolerances of length along which two outlines have to run beside each other to be joined over a gap.

Two that only meet at a corner do so along two of them; polygons are traced so that corners do not join.
"""
_SAME = 1e-6
"""Share of a tolerance below which lengths and, squared, areas are nothing but rounding."""


def find_contacts(
    ones: NDArray[np.object_], others: NDArray[np.object_], tolerance: float
) -> Iterator[tuple[int, int]]:
    """Pairs of polygons of two scenes that belong together: they overlap, share an edge, or nearly do.

    Parameters
    ----------
    ones, others
        ``(N,)`` and ``(M,)`` polygons.
    tolerance
        Width of a gap between them that is none: grids of scenes need not meet.
    """
    if not len(ones) or not len(others):
        return
    pairs = shapely.STRtree(others).query(ones, predicate="dwithin", distance=tolerance).T
    for one, other in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if _belong(ones[one], others[other], tolerance):
            yield int(one), int(other)


def _belong(one: Any, other: Any, tolerance: float) -> bool:
    common = shapely.intersection(one, other)
    if shapely.area(common) > 0.1 * tolerance**2 or shapely.length(common) > 0.1 * tolerance:
        return True
    beside = shapely.intersection(shapely.boundary(one), shapely.buffer(other, tolerance, join_style="mitre"))
    return bool(shapely.length(beside) > CONTACT * tolerance)


def unite(
    polygons: Sequence[Any], contacts: Sequence[tuple[int, int]], tolerance: float
) -> NDArray[np.object_]:
    """Polygons that are one object as one; parts that hold together nowhere stay apart.

    Parameters
    ----------
    contacts
        Pairs of them that touch or nearly do, as :func:`find_contacts` found them.
    tolerance
        As there; gaps are closed where such pairs meet, and nowhere else.
    """
    bridges = [_bridge(polygons[one], polygons[other], tolerance) for one, other in contacts]
    whole = shapely.union_all([*polygons, *(bridge for bridge in bridges if bridge is not None)])
    if not shapely.is_valid(whole):
        whole = shapely.make_valid(whole, method="structure", keep_collapsed=False)
    parts = shapely.get_parts(whole)
    solid = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (
        shapely.area(parts) > _SAME * tolerance**2
    )
    kept: NDArray[np.object_] = parts[solid]
    return kept


def _bridge(one: Any, other: Any, tolerance: float) -> Any | None:
    """What closes the gap between two polygons; None where there is none."""
    common = shapely.intersection(one, other)
    if shapely.area(common) > 0.1 * tolerance**2 or shapely.length(common) > 0.1 * tolerance:
        return None
    near = [shapely.buffer(shape, tolerance, join_style="mitre") for shape in (one, other)]
    hull = shapely.convex_hull(shapely.union(one, other))
    return shapely.intersection(shapely.intersection(*near), hull)
