"""Count hectares in one pass: by place, block, year and probability, and by change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam.infer.blend import LEVELS, NODATA
from domainsam.protocols import Window
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.measure.sweep import Sight, Thresholds, sweep
from domainsam_urban.trend.read.zones import Zoning, compute_pixel_coverage
from domainsam_urban.trend.stack import YearStack

STEPS = 20
"""Probabilities at which areas are kept for the bootstrap: the middles of as many equal parts of 0 to 1."""
BLOCK_M = 500.0
"""Side of a block unless that gives too few or too many; larger than most settlements are wide."""
FEWEST, MOST = 4, 64
"""Blocks along the longer side of the ground."""
HIGH, CENTRAL, LOW = STEPS, STEPS + 1, STEPS + 2
"""Where :attr:`Tally.at_least` holds what is settlement possibly, by the threshold, and surely."""
LEVELS_KEPT = np.maximum(np.rint((np.arange(STEPS) + 0.5) / STEPS * LEVELS), 1).astype(np.int64)
"""The bootstrap's levels as stored values."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What was counted for the places of one kind.

    Parameters
    ----------
    pairs
        Index of the earlier and later year of each compared pair.
    place_ha
        ``(Z,)`` area of each place on the ground, whether seen or not.
    valid_ha
        ``(Z,)`` of it, what all years saw.
    own_valid_ha
        ``(Z, Y)`` of it, what each year saw.
    cell_place, cell_block
        ``(C,)`` place and block of each row of ``at_least``; blocks without settlement at any level in any
        year have none.
    at_least
        ``(C, Y, STEPS + 3)`` hectares, seen in all years, from each of :data:`LEVELS_KEPT` on; then those
        of at least each class above :data:`domainsam_urban.trend.measure.sweep.NOT`.
    own_at_least
        ``(C, Y, STEPS + 3)``, the same over each year's own extent.
    moves
        ``(Z, P, 4, 4)`` hectares that went from one class of
        :mod:`domainsam_urban.trend.measure.sweep` to another
        between the years of a pair.
    """

    zoning: Zoning
    pairs: tuple[tuple[int, int], ...]
    place_ha: Float64
    valid_ha: Float64
    own_valid_ha: Float64
    cell_place: NDArray[np.int64]
    cell_block: NDArray[np.int64]
    at_least: Float64
    own_at_least: Float64
    moves: Float64


@dataclass(frozen=True)
class Blocks:
    """Square blocks of ``side`` pixels that tile the ground, ``across`` in a row."""

    side: int
    across: int

    @classmethod
    def of(cls, ground: CommonGround, side_m: float | None) -> Blocks:
        """Blocks of the given side, or of one that suits the ground."""
        span = max(ground.width, ground.height) * ground.pixel_m
        metres = side_m or min(max(BLOCK_M, span / MOST), span / FEWEST)
        side = max(1, round(metres / ground.pixel_m))
        return cls(side, -(-ground.width // side))

    def numbers(self, window: Window) -> NDArray[np.int64]:
        """Block ``(h, w)`` of every pixel of a window."""
        rows = (np.arange(window.height) + window.row) // self.side
        columns = (np.arange(window.width) + window.col) // self.side
        return np.asarray(rows[:, None] * self.across + columns[None, :], dtype=np.int64)


def pair_years(count: int) -> tuple[tuple[int, int], ...]:
    """Each year with the next and, where there are more than two, the first with the last."""
    steps = [(year, year + 1) for year in range(count - 1)]
    return (*steps, (0, count - 1)) if count > 2 else tuple(steps)


def tally(
    stack: YearStack, zonings: Sequence[Zoning], thresholds: Thresholds, blocks: Blocks
) -> tuple[Tally, ...]:
    """Count the whole stack in one pass, for every kind of places.

    A pixel counts for a place by the share of it that lies inside. Memory
    follows places and blocks, not pixels; each window looks at the places that
    touch it alone.
    """
    counters = [_Counter(stack, zoning, blocks) for zoning in zonings]
    for sight in sweep(stack, thresholds):
        for counter in counters:
            counter.add(sight)
    return tuple(counter.result() for counter in counters)


class _Counter:
    """Sums for the places of one kind, growing window by window."""

    def __init__(self, stack: YearStack, zoning: Zoning, blocks: Blocks) -> None:
        self.ground, self.zoning, self.blocks = stack.ground, zoning, blocks
        self.years, self.places = len(stack.years), len(zoning.names)
        self.pairs = pair_years(self.years)
        self.tree = shapely.STRtree(zoning.polygons)
        self.seen = np.zeros(self.places)
        self.own_seen = np.zeros((self.places, self.years))
        self.moves = np.zeros((self.places, len(self.pairs), 16))
        self.cells: dict[tuple[int, int], Float64] = {}

    def add(self, sight: Sight) -> None:
        """Count one window for the places that touch it."""
        window = sight.window
        box = shapely.box(*_bounds(self.ground, window))
        for place in np.sort(self.tree.query(box, predicate="intersects")):
            polygon = self.zoning.polygons[place]
            if shapely.contains_properly(polygon, box) or self.zoning.kind == "whole":
                self._count(int(place), sight, window, None)
                continue
            part = _pixels_of(self.ground, window, shapely.bounds(shapely.clip_by_rect(polygon, *box.bounds)))
            if part is not None:
                self._count(int(place), sight, part, polygon)

    def _count(self, place: int, sight: Sight, part: Window, polygon: Any | None) -> None:
        inside = np.s_[
            part.row - sight.window.row : part.row - sight.window.row + part.height,
            part.col - sight.window.col : part.col - sight.window.col + part.width,
        ]
        values, classes = sight.values[:, *inside], sight.classes[:, *inside]
        valid = sight.valid[inside]
        weight = None
        if polygon is not None:
            affine = self.ground.affine @ Affine.translation(part.col, part.row)
            weight = compute_pixel_coverage(polygon, affine, (part.height, part.width))
        numbers, local = np.unique(self.blocks.numbers(part), return_inverse=True)
        local = local.reshape(valid.shape)
        self.seen[place] += float(valid.sum() if weight is None else weight[valid].sum())
        both = np.zeros((len(numbers), 2, self.years, STEPS + 3))
        for year in range(self.years):
            known = values[year] != NODATA
            for own, where in enumerate((valid, known)):
                key, share = local[where], None if weight is None else weight[where]
                both[:, own, year, :STEPS] = _from_on(
                    key, values[year][where], share, (len(numbers), NODATA)
                )[:, LEVELS_KEPT]
                both[:, own, year, STEPS:] = _from_on(key, classes[year][where], share, (len(numbers), 4))[
                    :, 1:
                ]
            self.own_seen[place, year] += float(known.sum() if weight is None else weight[known].sum())
        for number, counted in zip(numbers, both, strict=True):
            # Blocks without settlement at any level would follow from how windows lie.
            if not counted.any():
                continue
            key = (place, int(number))
            self.cells[key] = self.cells[key] + counted if key in self.cells else counted
        self._count_moves(place, classes, valid, weight)

    def _count_moves(
        self, place: int, classes: NDArray[np.uint8], valid: NDArray[np.bool_], weight: Float64 | None
    ) -> None:
        seen = classes[:, valid]
        weights = None if weight is None else weight[valid]
        for pair, (early, late) in enumerate(self.pairs):
            self.moves[place, pair] += np.bincount(seen[early] * 4 + seen[late], weights, 16)

    def result(self) -> Tally:
        """All sums as hectares."""
        pixel = self.ground.pixel_ha
        keys = sorted(self.cells)
        cells = np.array([self.cells[key] for key in keys]).reshape(len(keys), 2, self.years, STEPS + 3)
        frame = shapely.box(*self.ground.bounds)
        area = shapely.area(shapely.intersection(self.zoning.polygons, frame))
        index = np.array(keys, dtype=np.int64).reshape(-1, 2)
        return Tally(
            self.zoning,
            self.pairs,
            area / self.ground.pixel_m**2 * pixel,
            self.seen * pixel,
            self.own_seen * pixel,
            index[:, 0],
            index[:, 1],
            cells[:, 0] * pixel,
            cells[:, 1] * pixel,
            self.moves.reshape(self.places, len(self.pairs), 4, 4) * pixel,
        )


def _from_on(
    group: NDArray[np.int64], values: NDArray[np.uint8], weight: Float64 | None, shape: tuple[int, int]
) -> Float64:
    """Weights ``(groups, values)`` of the pixels of each group that have at least each value."""
    histogram = np.bincount(group * shape[1] + values, weight, shape[0] * shape[1]).reshape(shape)
    return np.asarray(np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1], dtype=np.float64)


def _bounds(ground: CommonGround, window: Window) -> tuple[float, float, float, float]:
    left, top = ground.affine @ (window.col, window.row)
    right, bottom = ground.affine @ (window.col + window.width, window.row + window.height)
    return left, bottom, right, top


def _pixels_of(ground: CommonGround, window: Window, bounds: Float64) -> Window | None:
    """The part of a window that bounds in the CRS touch; None where they are empty."""
    if not np.isfinite(bounds).all():
        return None
    left, top = ~ground.affine @ (bounds[0], bounds[3])
    right, bottom = ~ground.affine @ (bounds[2], bounds[1])
    row, col = max(window.row, int(np.floor(top))), max(window.col, int(np.floor(left)))
    end_row = min(window.row + window.height, int(np.ceil(bottom)))
    end_col = min(window.col + window.width, int(np.ceil(right)))
    if end_row <= row or end_col <= col:
        return None
    return Window(row, col, end_row - row, end_col - col)
