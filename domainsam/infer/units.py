"""The order of work of a pass: column strips, and in each the rows of a tile grid.

One row of tiles within one strip is a unit: the piece of work that a journal
records and that a resumed run repeats as a whole. Batches never cross a
unit, so a repeated unit meets the networks in the same company and gives the
same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.journal import Journal
from domainsam.infer.pipeline import WriteBehind
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import TileGrid, column_strips
from domainsam.protocols import Block, Source, Window


@dataclass(frozen=True)
class Unit:
    """A row of tiles in a strip.

    ``rows`` are the scene rows (first, end) that are final once this unit and
    those before it are done; ``repeated`` marks a unit that is already
    journalled and only runs again to fill the band of a resumed strip.
    """

    stage: str
    strip: int
    row: int
    columns: tuple[int, int]
    rows: tuple[int, int]
    repeated: bool

    @property
    def key(self) -> list[Any]:
        """Its name in the journal."""
        return [self.stage, self.strip, self.row]

    @property
    def window(self) -> Window:
        """The scene pixels that it finishes."""
        (top, bottom), (left, right) = self.rows, self.columns
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Strip:
    """What is left to do in a column strip: the first unfinished scene row, and the units in order."""

    columns: tuple[int, int]
    top: int
    units: tuple[Unit, ...]


def plan_strips(
    stage: str,
    grid: TileGrid,
    shape: tuple[int, int],
    strip_width: int,
    finished: Collection[tuple[Any, ...]],
) -> Iterator[Strip]:
    """The strips of a scene with what an earlier run has left to do.

    ``finished`` holds the keys, as tuples, of units that the journal has.
    """
    for index, columns in enumerate(column_strips(shape[1], strip_width)):
        done = 0
        while done < len(grid.rows) and (stage, index, done) in finished:
            done += 1
        top = grid.finished(done - 1, shape[0]) if done else 0
        if done == len(grid.rows):
            yield Strip(columns, top, ())
            continue
        start = min(grid.first_touching(top), done)
        units = []
        for row in range(start, len(grid.rows)):
            first = grid.finished(row - 1, shape[0]) if row else 0
            rows = (first, grid.finished(row, shape[0]))
            units.append(Unit(stage, index, row, columns, rows, repeated=row < done))
        yield Strip(columns, top, tuple(units))


class Recorder:
    """Writes what a unit has finished, then says so in the journal, all behind the networks' back."""

    def __init__(self, store: RawRaster, journal: Journal, writes: WriteBehind) -> None:
        self._store = store
        self._journal = journal
        self._writes = writes

    def record(self, unit: Unit, values: NDArray[np.uint8], extra: dict[str, Any] | None = None) -> None:
        """Queue a unit's rows and its journal record."""
        self._writes.submit(self._write, unit, values, extra or {})

    def _write(self, unit: Unit, values: NDArray[np.uint8], extra: dict[str, Any]) -> None:
        self._store.write(unit.window, values)
        self._store.sync()
        self._journal.append({"unit": unit.key, **extra})


def batches(blocks: Iterator[Block], count: int, size: int) -> Iterator[Sequence[Block]]:
    """The next ``count`` blocks in groups of at most ``size``; blocks without any valid pixel are skipped."""
    group: list[Block] = []
    for _ in range(count):
        block = next(blocks)
        if not block.valid.any():
            continue
        group.append(block)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def padded_reader(source: Source) -> Callable[[Window], Block]:
    """Reads blocks whose overhang shows the scene's mirror image instead of black.

    The overhang stays invalid; it only spares the networks a false edge.
    """
    rows, cols = source.grid.shape

    def read(window: Window) -> Block:
        block = source.read(window)
        height, width = rows - window.row, cols - window.col
        if window.height <= height and window.width <= width:
            return block
        pad = ((0, 0), (0, max(0, window.height - height)), (0, max(0, window.width - width)))
        inside = block.image[:, : min(height, window.height), : min(width, window.width)]
        return Block(block.index, np.pad(inside, pad, mode="symmetric"), block.valid)

    return read
