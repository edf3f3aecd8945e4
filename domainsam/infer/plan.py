"""Plan which objects are prompted in which crop.

The plan follows from the scene's objects and the lattice alone, so it does
not depend on the tile grid of pass one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from domainsam.errors import InputError
from domainsam.infer.components import Components, Pieces
from domainsam.infer.tiling import Lattice
from domainsam.protocols import SceneObject, Window

MARGIN_SHARE = 0.1
"""A decoded mask may reach beyond its box by this share of the box's longer side ..."""
MARGIN_LEAST = 16
"""... but at least by this many pixels: what one cell of a stride-16 feature covers."""

MOST_LAYERS = 4
"""Layers cost memory; objects entangled beyond that share the last one and are averaged there."""

Spot = tuple[int, int, int]
"""Frame, first row and first column of a crop."""


@dataclass(frozen=True)
class CropPrompt:
    """One object, or the part of a large one, to be decoded in one crop.

    Parameters
    ----------
    id
        The object's number, from 1.
    score
        How sure its source is of it, 0 to 1.
    box, limit
        Scene pixels: the object's bounding box within the crop, and that box
        grown by the margin, outside which its mask is ignored.
    area
        Pixels of the object in this crop, as far as they are known.
    whole
        Whether the object is decoded in this crop alone.
    layer
        The parts of a large object are averaged within a layer that no other
        object shares with it anywhere near.
    label
        Number of its label, from 1.
    mark
        The object as a prompt source gave it; None for one that a specialist found.
    """

    id: int
    score: float
    box: Window
    limit: Window
    area: int
    whole: bool
    layer: int = 0
    label: int = 1
    mark: SceneObject | None = None


Plan = Mapping[Spot, Sequence[CropPrompt]]


def spot_of(crop: Window) -> Spot:
    """The key of a crop in a plan."""
    return crop.frame, crop.row, crop.col


def plan_prompts(components: Components, lattice: Lattice, frame: int = 0, before: int = 0) -> Plan:
    """The prompts of every crop of a frame that has any.

    An object whose box with margin fits into the crop of the cell that holds
    the box's centre is prompted there, once. A larger one is prompted in the
    crop of every cell that it enters; a crop that it only grazes at the rim
    is left to the neighbours, which see it with more context. Numbers go on
    from the ``before`` objects of earlier frames.
    """
    plan: defaultdict[Spot, list[CropPrompt]] = defaultdict(list)
    layers = _Layers(lattice.grid.size)
    starts = _piece_ranges(components)
    for component, (first, end) in zip(components.items, starts, strict=True):
        home = _home(component.bounds, lattice)
        limit = _grown(component.bounds, lattice)
        number, score = component.id + before, component.mean_probability
        if _holds(home, limit):
            whole = CropPrompt(number, score, component.bounds, limit, component.area, whole=True)
            plan[frame, home.row, home.col].append(whole)
            continue
        parts = [
            (crop, box, _shared(_grown(box, lattice), crop), area)
            for crop, box, area in _parts(components.pieces, first, end, lattice)
        ]
        layer = layers.place([limit for _, _, limit, _ in parts])
        for crop, box, limit, area in parts:
            part = CropPrompt(number, score, box, limit, area, whole=False, layer=layer)
            plan[frame, crop.row, crop.col].append(part)
    return dict(plan)


def plan_marks(objects: Sequence[SceneObject], labels: Sequence[str], lattice: Lattice) -> Plan:
    """The prompts of objects that somebody marked; numbered from 1 in their order.

    An object of known extent is planned as those of :func:`plan_prompts` are.
    Of one that is only clicked on, the mask may lie anywhere in the crop in
    whose middle the clicks are.

    Parameters
    ----------
    labels
        Names that objects may bear; an object without one counts as the first.
    lattice
        The crops of a frame.

    Raises
    ------
    InputError
        If the clicks on one object lie farther apart than a crop reaches.
    """
    plan: defaultdict[Spot, list[CropPrompt]] = defaultdict(list)
    layers: defaultdict[int, _Layers] = defaultdict(lambda: _Layers(lattice.grid.size))
    for number, mark in enumerate(objects, start=1):
        label = 1 if mark.label is None else labels.index(mark.label) + 1
        pieces = [replace(piece, frame=mark.bounds.frame) for piece in _crops_of(mark, lattice)]
        whole = len(pieces) == 1
        limits = [_limit_of(mark, piece, lattice) for piece in pieces]
        layer = 0 if whole else layers[mark.bounds.frame].place(limits)
        for crop, limit in zip(pieces, limits, strict=True):
            box = _shared(mark.bounds, crop)
            prompt = CropPrompt(
                number, mark.score, box, limit, box.height * box.width, whole, layer, label, mark
            )
            plan[spot_of(crop)].append(prompt)
    return dict(plan)


def _crops_of(mark: SceneObject, lattice: Lattice) -> list[Window]:
    """The crop that an object is decoded in, or all whose cells a large one enters."""
    home = _home(mark.bounds, lattice)
    if _holds(home, _grown(mark.bounds, lattice) if mark.extent_known else mark.bounds):
        return [home]
    if not mark.extent_known:
        raise InputError(
            f"the clicks on one object span {mark.bounds.width} x {mark.bounds.height} pixels, and the "
            f"foundation sees {home.width} x {home.height} at once: add a box, or mark two objects"
        )
    bounds = mark.bounds
    rows, cols = (
        range(axis.cell(first), axis.cell(first + length - 1) + 1)
        for axis, first, length in (
            (lattice.rows, bounds.row, bounds.height),
            (lattice.cols, bounds.col, bounds.width),
        )
    )
    starts = {(lattice.rows.start(row), lattice.cols.start(col)) for row in rows for col in cols}
    return [lattice.crop(*start) for start in sorted(starts)]


def _limit_of(mark: SceneObject, crop: Window, lattice: Lattice) -> Window:
    if not mark.extent_known:
        return _shared(crop, Window(0, 0, lattice.rows.length, lattice.cols.length))
    return _shared(_grown(_shared(mark.bounds, crop), lattice), crop)


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
        self._placed: defaultdict[tuple[int, int], list[tuple[Window, int]]] = defaultdict(list)

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

    def _cells(self, limit: Window) -> Iterator[tuple[int, int]]:
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
