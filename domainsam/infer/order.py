"""Order of the engine's work: column strips, rows of tiles, reading ahead and writing behind.

One row of tiles within one strip is a unit: the piece of work that a journal
records and that a resumed run repeats as a whole. Batches never cross a
unit, so a repeated unit meets the networks in the same company and gives the
same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.journal import Journal
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import TileGrid, split_columns
from domainsam.protocols import Block, Window


@dataclass(frozen=True)
class Unit:
    """A row of tiles in a strip, of one frame or of several.

    ``rows`` are the scene rows (first, end) that are final once this unit and
    those before it are done; ``repeated`` marks a unit that is already
    journalled and only runs again to fill the band of a resumed strip.
    """

    stage: str
    frames: range
    strip: int
    row: int
    columns: tuple[int, int]
    rows: tuple[int, int]
    repeated: bool

    @property
    def key(self) -> list[Any]:
        """Its name in the journal."""
        return [self.stage, self.frames.start, self.strip, self.row]

    @property
    def windows(self) -> tuple[Window, ...]:
        """The pixels that it finishes, a window a frame."""
        (top, bottom), (left, right) = self.rows, self.columns
        return tuple(Window(top, left, bottom - top, right - left, frame) for frame in self.frames)

    @property
    def pixels(self) -> int:
        """How many pixels it finishes."""
        return sum(window.height * window.width for window in self.windows)


@dataclass(frozen=True)
class Strip:
    """What is left to do in a column strip: the first unfinished scene row, and the units in order."""

    frames: range
    columns: tuple[int, int]
    top: int
    units: tuple[Unit, ...]

    @property
    def pixels_before(self) -> int:
        """How many of its pixels were finished earlier."""
        return len(self.frames) * self.top * (self.columns[1] - self.columns[0])


@dataclass(frozen=True)
class Piece:
    """Neighbouring units of a strip: its first frame and its number, the first row of tiles, and the end."""

    frame: int
    strip: int
    first: int
    end: int


@dataclass(frozen=True)
class Course:
    """A stage's way through a scene.

    Parameters
    ----------
    stage
        Its name in the journal and to progress.
    grid
        Tiles of one frame.
    shape
        Rows and columns of a frame.
    frames
        Ranges of frames that share their units; several only where one tile covers a frame.
    strip_width
        Columns done at a time.
    """

    stage: str
    grid: TileGrid
    shape: tuple[int, int]
    frames: tuple[range, ...]
    strip_width: int

    def strips(self, finished: Collection[tuple[Any, ...]]) -> Iterator[Strip]:
        """Every strip with what an earlier run, whose journal has the keys ``finished``, has left to do."""
        for frames in self.frames:
            for index, columns in enumerate(split_columns(self.shape[1], self.strip_width)):
                yield self._strip(frames, index, columns, finished)

    def cut(self, units: int, finished: Collection[tuple[Any, ...]]) -> tuple[Piece, ...]:
        """All strips in pieces of so many units, without those that are finished as a whole.

        Where pieces begin does not depend on what is finished: a run that goes on finds the same ones.
        """
        pieces = []
        for frames in self.frames:
            for strip, _ in enumerate(split_columns(self.shape[1], self.strip_width)):
                for first in range(0, len(self.grid.rows), units):
                    end = min(first + units, len(self.grid.rows))
                    keys = [(self.stage, frames.start, strip, row) for row in range(first, end)]
                    if not all(key in finished for key in keys):
                        pieces.append(Piece(frames.start, strip, first, end))
        return tuple(pieces)

    def take(self, piece: Piece, finished: Collection[tuple[Any, ...]]) -> Strip:
        """What is left of a piece; of the units before it as many are repeated as reach into it."""
        frames = next(group for group in self.frames if group.start == piece.frame)
        columns = split_columns(self.shape[1], self.strip_width)[piece.strip]
        before = {(self.stage, piece.frame, piece.strip, row) for row in range(piece.first)}
        whole = self._strip(frames, piece.strip, columns, before.union(finished))
        return replace(whole, units=tuple(unit for unit in whole.units if unit.row < piece.end))

    def count_pixels(self, piece: Piece) -> int:
        """Pixels that a piece finishes."""
        strip = self.take(piece, ())
        return sum(unit.pixels for unit in strip.units if not unit.repeated)

    def _strip(
        self, frames: range, index: int, columns: tuple[int, int], finished: Collection[tuple[Any, ...]]
    ) -> Strip:
        grid, length = self.grid, self.shape[0]
        done = 0
        while done < len(grid.rows) and (self.stage, frames.start, index, done) in finished:
            done += 1
        top = grid.finished(done - 1, length) if done else 0
        if done == len(grid.rows):
            return Strip(frames, columns, length, ())
        units = []
        for row in range(min(grid.first_touching(top), done), len(grid.rows)):
            first = grid.finished(row - 1, length) if row else 0
            rows = (first, min(grid.finished(row, length), length))
            units.append(Unit(self.stage, frames, index, row, columns, rows, repeated=row < done))
        return Strip(frames, columns, top, tuple(units))


def group_frames(frames: Iterable[int], size: int) -> tuple[range, ...]:
    """Ascending frames as ranges of neighbours, ``size`` at most in each."""
    groups: list[range] = []
    for frame in frames:
        if groups and groups[-1].stop == frame and len(groups[-1]) < size:
            groups[-1] = range(groups[-1].start, frame + 1)
        else:
            groups.append(range(frame, frame + 1))
    return tuple(groups)


class Recorder:
    """Writes what a unit has finished, then says so in the journal, all behind the networks' back."""

    def __init__(self, stores: Sequence[RawRaster], journal: Journal, writes: WriteBehind) -> None:
        self._stores = stores
        self._journal = journal
        self._writes = writes

    def record(
        self, unit: Unit, values: Sequence[Sequence[NDArray[np.uint8]]], extra: dict[str, Any] | None = None
    ) -> None:
        """Queue a unit's bytes ``(h, w)``, of every frame for every store, and its journal record."""
        self._writes.submit(self._write, unit, values, extra or {})

    def _write(
        self, unit: Unit, values: Sequence[Sequence[NDArray[np.uint8]]], extra: dict[str, Any]
    ) -> None:
        for window, planes in zip(unit.windows, values, strict=True):
            for store, plane in zip(self._stores, planes, strict=True):
                store.write(window, plane)
        for store in self._stores:
            store.sync()
        self._journal.append({"unit": unit.key, **extra})


def group_blocks(blocks: Iterator[Block], count: int, size: int) -> Iterator[Sequence[Block]]:
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


Job = TypeVar("Job")
Answer = TypeVar("Answer")

WRITES_IN_FLIGHT = 2
"""One being written while the next is prepared; more would only hold memory."""


class ReadAhead:
    """Runs jobs in threads, some ahead of the consumer, and yields answers in the order of the jobs.

    Parameters
    ----------
    workers
        Number of threads; the answers and their order do not depend on it.
    depth
        Most jobs that are running or waiting to be consumed.
    """

    def __init__(self, workers: int, depth: int) -> None:
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="read")
        self._depth = max(1, depth)

    def map(self, work: Callable[[Job], Answer], jobs: Iterable[Job]) -> Iterator[Answer]:
        """Answers of ``work`` for every job, in order; an exception surfaces at its job's turn."""
        waiting: deque[Future[Answer]] = deque()
        for job in jobs:
            waiting.append(self._pool.submit(work, job))
            if len(waiting) >= self._depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class WriteBehind:
    """Runs writes one after another in a thread of its own.

    A failed write surfaces at the next :meth:`submit` or on leaving; no later
    write is started then, so what a journal says is done stays true.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._pending: deque[Future[None]] = deque()
        self._failed = False

    def submit(self, write: Callable[..., None], *arguments: Any) -> None:
        """Queue a write; waits while too many are queued."""
        while len(self._pending) >= WRITES_IN_FLIGHT:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._run, write, arguments))

    def _run(self, write: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            write(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
