"""One run's folder of staged files and its journal: what is done is kept, and what is left is done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainsam.errors import OutputError
from domainsam.grid import Grid
from domainsam.infer.journal import JOURNAL_FILE, Journal
from domainsam.infer.order import Course, Recorder, Strip, WriteBehind, group_frames
from domainsam.infer.pieces import PiecePlan, Split, find_pieces
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import TileGrid
from domainsam.private import make_private_folder
from domainsam.progress import Progress


@dataclass(frozen=True)
class Swept:
    """What a dense model's sweep leaves behind: raw files of bytes, one for each of its outputs.

    ``shape`` is rows x columns of a frame.
    """

    paths: Mapping[str, Path]
    shape: tuple[int, int]
    frames: int
    resumed: bool

    def open(self, output: str) -> RawRaster:
        """The staged bytes of an output."""
        return RawRaster.open(self.paths[output], self.shape, self.frames)

    def outputs(self, kind: str) -> tuple[str, ...]:
        """Names of all outputs of a kind: ``kind`` itself, or ``kind/...``."""
        return tuple(name for name in self.paths if name.split("/")[0] == kind)


class StagedRun:
    """A folder of staged files, its journal, and the stages that fill them."""

    def __init__(
        self,
        grid: Grid,
        folder: Path,
        stack: ExitStack,
        identity: Mapping[str, Any],
        resume: bool,
        progress: Progress,
        piece: PiecePlan | None = None,
        split: Split | None = None,
    ) -> None:
        self.piece, self.split = piece, split
        try:
            make_private_folder(folder)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"cannot create folder {folder}: {error.strerror}") from error
        self.folder, self.progress = folder, progress
        self.shape, self.frames = grid.frame_shape, grid.frames
        marks = {"shape": list(grid.shape), **identity}
        where = folder if piece is None else piece.work
        self.journal = stack.enter_context(Journal(where / JOURNAL_FILE, marks, resume))
        self._stack = stack
        if split is not None:
            self._pieces = find_pieces(folder, self.journal.resumed)

    @property
    def pixels(self) -> int:
        """Pixels of all frames."""
        return self.frames * self.shape[0] * self.shape[1]

    def stage_file(self, name: str) -> RawRaster:
        """A staged file, as an earlier run left it if this one goes on."""
        # A run killed before its first unit may have left no file, or half of one.
        path = self.folder / name
        there = bool(self.journal.records)
        if self.piece is not None:
            # A piece writes into what the run that it belongs to has made.
            there = True
        elif self.split is not None and not there:
            there = self.journal.resumed and is_whole(path, self.pixels)
            if not there:
                # A worker of a killed run may still be at it: it keeps the old file, this run takes another.
                path.unlink(missing_ok=True)
        make = RawRaster.open if there else RawRaster.create
        return self._stack.enter_context(make(path, self.shape, self.frames))

    def course(self, stage: str, tiles: TileGrid, strip_width: int, together: int = 1) -> Course:
        """A stage's way through all frames, ``together`` of them at a time."""
        frames = group_frames(range(self.frames), together)
        return Course(stage, tiles, self.shape, frames, strip_width)

    def follow(
        self,
        course: Course,
        stores: Sequence[RawRaster],
        work: Callable[[Strip, Recorder, Callable[[int], None]], None],
    ) -> None:
        """Do what is left of a stage, strip by strip; of a run that is split, others do it."""
        counter = PixelCounter(course.stage, self.pixels, self.progress)
        if self.split is not None:
            self.split.run(course, self._pieces, self.journal, counter.advance)
            counter = PixelCounter(course.stage, self.pixels, self.progress)
        finished = {tuple(record["unit"]) for record in self.journal.records if "unit" in record}
        with WriteBehind() as writes:
            recorder = Recorder(stores, self.journal, writes)
            for strip in self._list_strips(course, finished):
                counter.advance(strip.pixels_before)
                work(strip, recorder, counter.advance)

    def _list_strips(self, course: Course, finished: Collection[tuple[Any, ...]]) -> Iterable[Strip]:
        """What is left of a stage, or of the piece that is done here."""
        if self.piece is None:
            return course.strips(finished)
        return [course.take(self.piece.piece, finished)]


def is_whole(path: Path, size: int) -> bool:
    """Whether a staged file is there with all its bytes."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size == size


class PixelCounter:
    """Adds up finished pixels and tells the progress."""

    def __init__(self, stage: str, pixels: int, progress: Progress) -> None:
        self._stage, self._progress = stage, progress
        self._done, self._total = 0, pixels
        progress(stage, 0, self._total)

    def advance(self, pixels: int) -> None:
        self._done += pixels
        self._progress(self._stage, self._done, self._total)
