"""The box of an object, carried along with the points that were set on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam.prompter.query import Points
from domainsam.prompter.trackers import Visible
from domainsam.protocols import Box

ROOM = 0.08
"""Share of its sides that a carried box is widened by on each side."""
STRAY = 0.01


@dataclass(frozen=True, eq=False)
class Anchor:
    """Where points ``(P, 2)`` were set on an object, and the box of its mask there."""

    points: Points
    box: Box

    def carry(self, points: Points, seen: Visible) -> Box | None:
        """The box moved and scaled as the points that are seen; None where none is.

        Scaled by the ratio of their median distances from their middle, at most by 2 either way of
        what it was, and widened by :data:`ROOM`.
        """
        if not seen.any():
            return None
        before, now = self.points[seen], points[seen]
        middles = np.median(before, axis=0), np.median(now, axis=0)
        spreads = [
            float(np.median(np.hypot(*(part - middle).T)))
            for part, middle in zip((before, now), middles, strict=True)
        ]
        scale = float(np.clip(spreads[1] / spreads[0], 0.5, 2.0)) if min(spreads) > 1 else 1.0
        corners = np.array(self.box).reshape(2, 2)
        room = ROOM * (corners[1] - corners[0]) * scale
        moved = (corners - middles[0]) * scale + middles[1] + np.stack([-room, room])
        left, top, right, bottom = (float(edge) for edge in moved.ravel())
        return left, top, right, bottom


def anchor_points(points: Points, count: int, mask: NDArray[np.bool_]) -> Anchor:
    """The anchor of the first ``count`` points, on a mask ``(H, W)``, not empty.

    Its box leaves :data:`STRAY` of the mask's pixels out on every side: specks far away would widen it.
    """
    (top, bottom), (left, right) = (np.quantile(part, [STRAY, 1 - STRAY]) for part in np.nonzero(mask))
    return Anchor(points[:count].copy(), (float(left), float(top), float(right) + 1, float(bottom) + 1))
