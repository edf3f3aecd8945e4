"""Which objects are prompted in which crop.

The plan follows from the scene's objects and the lattice alone, so it does
not depend on the tile grid of pass one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from domainsam.infer.components import Component, Components, Pieces
from domainsam.infer.tiling import Lattice
from domainsam.protocols import Window

MARGIN_SHARE = 0.1
"""A decoded mask may reach beyond its box by this share of the box's longer side ..."""
MARGIN_LEAST = 16
"""... but at least by this many pixels: what one cell of a stride-16 feature covers."""

MOST_LAYERS = 4
"""Layers cost memory; objects entangled beyond that share the last one and are averaged there."""

Spot = tuple[int, int]
"""First row and column of a crop."""


@dataclass(frozen=True)
class CropPrompt:
    """One object, or the part of a large one, to be decoded in one crop.

    ``box`` and ``limit`` are scene pixels: the object's bounding box within the
    crop, and that box grown by the margin, outside which its mask is ignored.
    ``whole`` says that the object is decoded in this crop alone. The parts of
    a large object are averaged within a ``layer`` that no other object shares
    with it anywhere near.
    """

    component: Component
    box: Window
    limit: Window
    area: int
    whole: bool
    layer: int = 0


Plan = Mapping[Spot, Sequence[CropPrompt]]


def plan_prompts(components: Components, lattice: Lattice) -> Plan:
    """The prompts of every crop that has any.

    An object whose box with margin fits into the crop of the cell that holds
    the box's centre is prompted there, once. A larger one is prompted in the
    crop of every cell that it enters; a crop that it only grazes at the rim
    is left to the neighbours, which see it with more context.
    """
    plan: defaultdict[Spot, list[CropPrompt]] = defaultdict(list)
    layers = _Layers(lattice.grid.size)
    starts = _piece_ranges(components)
    for component, (first, end) in zip(components.items, starts, strict=True):
        home = _home(component.bounds, lattice)
        limit = _grown(component.bounds, lattice)
        if _holds(home, limit):
            spot = (home.row, home.col)
            plan[spot].append(CropPrompt(component, component.bounds, limit, component.area, whole=True))
            continue
        parts = [
            (crop, box, _shared(_grown(box, lattice), crop), area)
            for crop, box, area in _parts(components.pieces, first, end, lattice)
        ]
        layer = layers.place([limit for _, _, limit, _ in parts])
        for crop, box, limit, area in parts:
            plan[crop.row, crop.col].append(CropPrompt(component, box, limit, area, whole=False, layer=layer))
    return dict(plan)


class _Layers:
    """Puts large objects into layers, each into the first in which it meets no other.

    Parameters
    ----------
    size
        Height and width of the cells that limits are looked up by: of a crop,
        so that a limit lies in four of them at most.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._placed: defaultdict[Spot, list[tuple[Window, int]]] = defaultdict(list)

    def place(self, limits: Sequence[Window]) -> int:
        """The layer of the next object, whose parts lie within ``limits``."""
        taken = {
            layer
            for limit in limits
            for cell in self._cells(limit)
            for other, layer in self._placed[cell]
            if _meet(limit, other)
        }
        layer = next((layer for layer in range(MOST_LAYERS) if layer not in taken), MOST_LAYERS - 1)
        for limit in limits:
            for cell in self._cells(limit):
                self._placed[cell].append((limit, layer))
        return layer

    def _cells(self, limit: Window) -> Iterator[Spot]:
        height, width = self._size
        for row in range(limit.row // height, (limit.row + limit.height - 1) // height + 1):
            for col in range(limit.col // width, (limit.col + limit.width - 1) // width + 1):
                yield row, col


def _meet(one: Window, other: Window) -> bool:
    shared = _shared(one, other)
    return shared.height > 0 and shared.width > 0


def _piece_ranges(components: Components) -> list[tuple[int, int]]:
    """Where each object's pieces begin and end; pieces are sorted by id."""
    numbers = [component.id for component in components.items]
    first = components.pieces["id"].searchsorted(numbers, side="left")
    end = components.pieces["id"].searchsorted(numbers, side="right")
    return list(zip(first.tolist(), end.tolist(), strict=True))


def _home(bounds: Window, lattice: Lattice) -> Window:
    row = lattice.rows.cell(bounds.row + bounds.height / 2)
    col = lattice.cols.cell(bounds.col + bounds.width / 2)
    return lattice.crop(lattice.rows.start(row), lattice.cols.start(col))


def _grown(box: Window, lattice: Lattice) -> Window:
    """A box with its margin, kept inside the scene."""
    margin = max(MARGIN_LEAST, round(MARGIN_SHARE * max(box.height, box.width)))
    grown = Window(box.row - margin, box.col - margin, box.height + 2 * margin, box.width + 2 * margin)
    return _shared(grown, Window(0, 0, lattice.rows.length, lattice.cols.length))


def _holds(outer: Window, inner: Window) -> bool:
    return (
        outer.row <= inner.row
        and outer.col <= inner.col
        and outer.row + outer.height >= inner.row + inner.height
        and outer.col + outer.width >= inner.col + inner.width
    )


def _shared(one: Window, other: Window) -> Window:
    top, left = max(one.row, other.row), max(one.col, other.col)
    bottom = min(one.row + one.height, other.row + other.height)
    right = min(one.col + one.width, other.col + other.width)
    return Window(top, left, bottom - top, right - left)


def _parts(pieces: Pieces, first: int, end: int, lattice: Lattice) -> list[tuple[Window, Window, int]]:
    """For every crop whose cell a large object enters: the crop, the object's box in it, its area in it."""
    at = {
        (int(pieces["quarter_row"][index]), int(pieces["quarter_col"][index])): index
        for index in range(first, end)
    }
    spots = {
        (
            lattice.rows.start(min(row // 2, lattice.rows.cells - 1)),
            lattice.cols.start(min(col // 2, lattice.cols.cells - 1)),
        )
        for row, col in at
    }
    parts = []
    for spot in sorted(spots):
        crop = lattice.crop(*spot)
        row, col = spot[0] // lattice.rows.quarter, spot[1] // lattice.cols.quarter
        found = [
            at[row + down, col + across]
            for down in range(4)
            for across in range(4)
            if (row + down, col + across) in at
        ]
        top, left = int(pieces["top"][found].min()), int(pieces["left"][found].min())
        bottom, right = int(pieces["bottom"][found].max()), int(pieces["right"][found].max())
        box = Window(top, left, bottom - top, right - left)
        parts.append((crop, box, int(pieces["area"][found].sum())))
    return parts
