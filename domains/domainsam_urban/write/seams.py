"""Who is believed where scenes overlap: on each piece of ground the scene whose edge is farthest away.

A network sees less of what surrounds a place the nearer that lies to the edge of
its picture. Where two scenes show the same ground, the one that shows more
around it is believed; the seam between them runs where both show as much. That
is how tiles of one scene are put together too, so scenes that were cut from one
answer as the whole does. A union of both would keep every false alarm of either,
and the higher confidence would often be that of an object of which an edge cuts
off a half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam_urban.write.footprint import CELLS

_STRAIGHTER = 0.005
"""Share of a footprint's size by which its convex outline is simplified: depths need not be exact."""
_WHOLE = 0.02
"""Share of its area by which a footprint may differ from its convex outline if the scene is full of data."""


@dataclass(frozen=True, eq=False)
class Ground:
    """The ground of a scene in a plane that all scenes share.

    Parameters
    ----------
    seen
        Polygon, or several, where it has data.
    ring
        ``(K + 1, 2)`` corners of its convex outline, anticlockwise, the first repeated.
    sides
        ``(K, 3)``: the distance of a point from each side is ``a x + b y + c``, positive inside.
    cell
        Length by which ``seen`` may reach too far; 0 where the scene is full of data.
    """

    seen: Any
    ring: Float64
    sides: Float64
    cell: float


def make_ground(seen: Any) -> Ground:
    """A scene's ground from the polygon, or several, where it has data."""
    hull = shapely.convex_hull(seen)
    hull = shapely.simplify(hull, _STRAIGHTER * shapely.area(hull) ** 0.5)
    ring = shapely.get_coordinates(shapely.orient_polygons(hull, exterior_cw=False))
    along = np.diff(ring, axis=0)
    length = np.hypot(along[:, 0], along[:, 1])
    inward = np.column_stack((-along[:, 1], along[:, 0])) / length[:, None]
    sides = np.column_stack((inward, -(inward * ring[:-1]).sum(axis=1)))
    full = shapely.area(shapely.symmetric_difference(hull, seen)) <= _WHOLE * shapely.area(hull)
    left, bottom, right, top = shapely.bounds(seen)
    return Ground(seen, ring, sides, 0.0 if full else 1.5 * max(right - left, top - bottom) / CELLS)


def find_lost(mine: Ground, other: Ground, first: bool, margin: float) -> Any:
    """Ground on which another scene is believed and not mine.

    Parameters
    ----------
    first
        Whether mine is believed where both are as deep.
    margin
        The seam is a strip of twice this width, on which both are believed, so that what crosses it holds
        together.
    """
    inside = shapely.buffer(other.seen, -2 * margin, join_style="mitre")
    common = shapely.bounds(shapely.intersection(mine.seen, inside))
    if not np.isfinite(common).all():
        # They touch, or share no more than the strip would be.
        return shapely.Polygon()
    frame = shapely.box(*(common + np.array([-6, -6, 6, 6]) * margin))
    one, two = (mine, other) if first else (other, mine)
    deeper = find_deeper(_list_sides(one, two, margin), _list_sides(two, one, margin), frame)
    lost = shapely.difference(frame, deeper) if first else deeper
    lost = shapely.buffer(lost, -margin, join_style="mitre")
    # A seam that nodata makes is drawn with cells; what lies within one of it is not taken from anybody.
    reach = shapely.buffer(other.seen, -other.cell if other.cell else margin, join_style="mitre")
    return shapely.intersection(lost, reach)


def _list_sides(own: Ground, other: Ground, margin: float) -> Float64:
    """Those sides of a ground that run through the other: where both end, neither shows more."""
    inside = shapely.buffer(other.seen, -margin, join_style="mitre")
    lines = shapely.linestrings(np.stack((own.ring[:-1], own.ring[1:]), axis=1))
    through: Float64 = own.sides[shapely.intersects(lines, inside)]
    return through


def find_deeper(one: Float64, two: Float64, frame: Any) -> Any:
    """The part of a convex ``frame`` in which a point lies as deep in the first ground as in the second.

    A depth is the least distance from the sides ``(K, 3)`` of a ground, without limit where it has none.
    The least of one set is not below the least of another where it is not below one member of that: a
    union of convex polygons.
    """
    if not len(one):
        return frame
    ring = shapely.get_coordinates(frame)[:-1]
    parts = []
    for side in two:
        left = ring
        for own in one:
            left = _clip(left, own - side)
        if len(left) >= 3:
            parts.append(shapely.Polygon(left))
    return shapely.union_all(parts)


def _clip(ring: Float64, line: NDArray[np.float64]) -> Float64:
    """The part of a convex ring ``(N, 2)`` where ``a x + b y + c`` is not below 0 (Sutherland, Hodgman)."""
    if len(ring) < 3:
        return ring
    value = ring @ line[:2] + line[2]
    kept = value >= 0
    if kept.all():
        return ring
    following, ahead = np.roll(ring, -1, axis=0), np.roll(value, -1)
    crosses = kept != (ahead >= 0)
    share = np.where(crosses, value / np.where(crosses, value - ahead, 1.0), 0.0)
    meeting = ring + share[:, None] * (following - ring)
    points = np.stack((ring, meeting), axis=1).reshape(-1, 2)
    clipped: Float64 = points[np.stack((kept, crosses), axis=1).reshape(-1)]
    return clipped
