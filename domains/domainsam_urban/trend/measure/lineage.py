"""Follow settlements from year to year: which became which, and what happened to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from domainsam.grid import Float64

PRESENT = "present"
"""Status in the first year, which has nothing to be compared with."""

Links = NDArray[np.int64]
"""``(L, 3)``: row in the earlier year, row in the later year, shared pixels."""


@dataclass
class Settlement:
    """One settlement through the years.

    Parameters
    ----------
    id
        From 1, in the order of first sight.
    rows
        Its row among the objects of each year that has it, by the year's index.
    events
        What happened to it, by the year's index in which it showed.
    origin
        Settlement that it split from, None for none.
    heir
        Settlement that it merged into, None for none.
    """

    id: int
    rows: dict[int, int] = field(default_factory=dict)
    events: dict[int, str] = field(default_factory=dict)
    origin: int | None = None
    heir: int | None = None

    @property
    def first(self) -> int:
        """Index of the first year that has it."""
        return min(self.rows)

    @property
    def last(self) -> int:
        """Index of the last year that has it."""
        return max(self.rows)


@dataclass(frozen=True, eq=False)
class Sizes:
    """Pixels of the settlements of one year, and by how many each may change and still be stable."""

    area: NDArray[np.int64]
    tolerance: Float64


def find_strong_links(links: Links, early: NDArray[np.int64], late: NDArray[np.int64], share: float) -> Links:
    """Links whose overlap is at least ``share`` of the smaller settlement (areas in pixels by row)."""
    smaller = np.minimum(early[links[:, 0]], late[links[:, 1]])
    return links[links[:, 2] >= share * smaller]


def follow(sizes: Sequence[Sizes], links: Sequence[Links], bridges: Sequence[Links]) -> list[Settlement]:
    """Follow every settlement through the years.

    Between two years, settlements that are each other's largest overlap are
    the same one. One that overlaps a settlement which goes on elsewhere has
    split from it, or merged into it. A settlement that is missing in a single
    year and there again in the next keeps its id.

    Parameters
    ----------
    sizes
        Each year's settlements.
    links
        Strong links of each year (from the second) with the year before.
    bridges
        Strong links of each year (from the third) with the year before that one.
    """
    settlements: list[Settlement] = []
    current = [_found(settlements, 0, row, PRESENT) for row in range(len(sizes[0].area))]
    before: list[Settlement] = []
    for year in range(1, len(sizes)):
        step = _Step(links[year - 1], len(current), len(sizes[year].area))
        following: list[Settlement | None] = [None] * len(sizes[year].area)
        for row in range(len(following)):
            parent = step.main_parent(row)
            if parent is not None and step.main_child(parent) == row:
                following[row] = current[parent]
                current[parent].rows[year] = row
                current[parent].events[year] = step.event(parent, row, sizes[year - 1], sizes[year])
        if year >= 2:
            _bridge(bridges[year - 2], before, following, step, year)
        for row in range(len(following)):
            if following[row] is None:
                following[row] = _new(settlements, step, current, year, row)
        now = [settlement for settlement in following if settlement is not None]
        for row, settlement in enumerate(current):
            if year not in settlement.rows:
                child = step.main_child(row)
                settlement.events[year] = "vanished" if child is None else "merged"
                settlement.heir = None if child is None else now[child].id
        before, current = current, now
    return settlements


def find_overall_status(settlement: Settlement, years: int, sizes: Sequence[Sizes]) -> str:
    """What became of a settlement from the first year to the last.

    In this order: gone (``merged`` into another, or ``vanished``); new
    (``split`` from another, or ``appeared``); changed in kind (``split`` or
    ``merged``, the latest counts); changed in size.
    """
    first, last = settlement.first, settlement.last
    if last < years - 1:
        return "vanished" if settlement.heir is None else "merged"
    if first > 0:
        return "appeared" if settlement.origin is None else "split"
    kinds = [settlement.events[year] for year in sorted(settlement.events)]
    kinds = [kind for kind in kinds if kind in ("split", "merged")]
    if kinds:
        return kinds[-1]
    return _size_status(settlement.rows[first], settlement.rows[last], sizes[first], sizes[last])


class _Step:
    """Links between two years, by either end."""

    def __init__(self, links: Links, early: int, late: int) -> None:
        # Largest overlap first; among equals, the first in row order.
        order = np.lexsort((links[:, 1], links[:, 0], -links[:, 2]))
        self.children: list[list[int]] = [[] for _ in range(early)]
        self.parents: list[list[int]] = [[] for _ in range(late)]
        for parent, child, _ in links[order].tolist():
            self.children[parent].append(child)
            self.parents[child].append(parent)

    def main_parent(self, child: int) -> int | None:
        return self.parents[child][0] if self.parents[child] else None

    def main_child(self, parent: int) -> int | None:
        return self.children[parent][0] if self.children[parent] else None

    def event(self, parent: int, child: int, early: Sizes, late: Sizes) -> str:
        """What happened to a settlement that goes on."""
        joined, parted = len(self.parents[child]), len(self.children[parent])
        if joined > 1 or parted > 1:
            return "merged" if joined >= parted else "split"
        return _size_status(parent, child, early, late)


def _size_status(row: int, later: int, early: Sizes, late: Sizes) -> str:
    change = float(late.area[later] - early.area[row])
    if abs(change) <= max(early.tolerance[row], late.tolerance[later]):
        return "stable"
    return "expanded" if change > 0 else "shrunk"


def _found(settlements: list[Settlement], year: int, row: int, event: str) -> Settlement:
    settlement = Settlement(len(settlements) + 1, {year: row}, {year: event})
    settlements.append(settlement)
    return settlement


def _new(
    settlements: list[Settlement], step: _Step, current: list[Settlement], year: int, row: int
) -> Settlement:
    parent = step.main_parent(row)
    settlement = _found(settlements, year, row, "appeared" if parent is None else "split")
    settlement.origin = None if parent is None else current[parent].id
    return settlement


def _bridge(
    links: Links, before: list[Settlement], following: list[Settlement | None], step: _Step, year: int
) -> None:
    """Give settlements that were missing last year their id back."""
    if not len(links):
        return
    for parent, row, _ in links[np.argsort(-links[:, 2], kind="stable")].tolist():
        gone = before[parent]
        missed = gone.last == year - 2 and gone.heir is None
        if missed and following[row] is None and step.main_parent(row) is None:
            following[row] = gone
            gone.rows[year] = row
            gone.events[year] = "appeared"
