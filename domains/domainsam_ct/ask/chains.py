"""Answers of single slices joined along the scan: what goes on from slice to slice is one organ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from domainsam.protocols import Box, SceneObject

GOES_ON = 0.1
"""Boxes of neighbouring slices with at least this IoU are of one organ."""
MOST_MISSED = 1
"""An organ goes on over so many asked slices without an answer; over more it has ended."""


@dataclass
class Chain:
    """An organ's objects by slice, in rising order."""

    objects: dict[int, SceneObject] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The slice that was added last."""
        return next(reversed(self.objects))

    @property
    def weight(self) -> float:
        """How much speaks for it: the sum of its scores."""
        return sum(one.score for one in self.objects.values())


def join_slices(found: Mapping[int, Sequence[SceneObject]], asked: Sequence[int]) -> list[Chain]:
    """Chains of objects, that for which most speaks first.

    Parameters
    ----------
    found
        Objects by slice.
    asked
        All slices that were asked about, in rising order.
    """
    place = {frame: number for number, frame in enumerate(asked)}
    chains: list[Chain] = []
    for frame in asked:
        open_ = [chain for chain in chains if place[frame] - place[chain.last] <= 1 + MOST_MISSED]
        pairs = sorted(
            (
                (-share_box(_box(chain.objects[chain.last]), _box(one)), number, index)
                for number, chain in enumerate(open_)
                for index, one in enumerate(found.get(frame, ()))
            ),
        )
        taken: set[int] = set()
        grown: set[int] = set()
        for share, number, index in pairs:
            if -share >= GOES_ON and number not in grown and index not in taken:
                open_[number].objects[frame] = found[frame][index]
                grown.add(number)
                taken.add(index)
        chains += [
            Chain({frame: one}) for index, one in enumerate(found.get(frame, ())) if index not in taken
        ]
    return sorted(chains, key=lambda chain: -chain.weight)


def boxes_between(chain: Chain, frames: Sequence[int]) -> dict[int, Box]:
    """Boxes on slices of a chain that were not asked about, or gave no answer: between those beside them."""
    known = list(chain.objects)
    boxes: dict[int, Box] = {}
    for below, above in pairwise(known):
        first, second = _box(chain.objects[below]), _box(chain.objects[above])
        for frame in range(below + 1, above):
            if frame in frames:
                share = (frame - below) / (above - below)
                left, top, right, bottom = (a + share * (b - a) for a, b in zip(first, second, strict=True))
                boxes[frame] = (left, top, right, bottom)
    return boxes


def share_box(one: Box, other: Box) -> float:
    """IoU of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def _box(one: SceneObject) -> Box:
    return one.box or one.bounds.box
