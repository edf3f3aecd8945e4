"""One scene over several workers: stages cut into pieces of units, staged side by side, then assembled.

A piece is a run of neighbouring units within a column strip. Whoever does it
writes its pixels straight into the scene's staged files, which all workers see,
each at places of its own, and leaves the records of its units in a file. The run
that all belong to takes these into its journal, and goes on as one that was
resumed: a piece's bytes are those of an unbroken run, because batches never
cross a unit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from domainsam.documents import read_json
from domainsam.infer.executor import Executor, Tasks
from domainsam.infer.journal import Journal, Record
from domainsam.infer.order import Course, Piece
from domainsam.infer.outputs import OutputPlan
from domainsam.private import make_private_folder
from domainsam.staging import Staging

PIECES = "pieces-"
"""How the folder of the records begins, within the run's own. What follows is the run's: a worker that is
still at a piece of an earlier one, with other options perhaps, writes its record where nobody looks."""

MOST_UNITS = 8
"""Units of a piece: what a worker that is killed has done in vain."""
MANY = 16
"""Workers that a scheduler is taken to have."""


def choose_units(course: Course, workers: int) -> int:
    """Units of a piece with which the last of ``workers`` is done soonest.

    Small pieces are shared more evenly, but each does one unit again that reaches into it from above.
    """

    def measure(units: int) -> tuple[int, int]:
        pieces = len(course.cut(units, ()))
        return -(-pieces // workers) * (units + 1), pieces

    return min(range(1, MOST_UNITS + 1), key=measure)


@dataclass(frozen=True)
class PiecePlan(OutputPlan):
    """A piece of a stage, and the file within ``records`` that says that it is done."""

    records: Path
    stage: str
    piece: Piece

    @property
    def folder(self) -> Path:
        """The folder of the run that it belongs to."""
        return self.records.parent

    @property
    def files(self) -> tuple[Path, ...]:
        """The records of its units."""
        piece = self.piece
        return (self.records / f"{self.stage}-{piece.frame}-{piece.strip}-{piece.first}-{piece.end}.json",)

    @property
    def name(self) -> str:
        """What messages call it."""
        piece = self.piece
        return f"stage {self.stage}, strip {piece.strip}, rows of tiles {piece.first} to {piece.end - 1}"


@dataclass(frozen=True)
class Done:
    """A piece that is done."""

    units: int


Preparing = Callable[[], Callable[[PiecePlan], Done]]


@dataclass(frozen=True)
class Split:
    """Who does the pieces of a run, and how.

    Parameters
    ----------
    executor
        Hands pieces to workers.
    prepare
        Opens the scene and loads the networks on a worker; returns the function that does a piece. It can be
        pickled.
    workers
        How many there are, as far as is known.
    """

    executor: Executor
    prepare: Preparing
    workers: int = MANY

    def run(self, course: Course, records: Path, journal: Journal, advanced: Callable[[int], None]) -> None:
        """Do what is left of a stage, and take its records into the run's journal.

        Raises
        ------
        DomainSamError
            If a piece failed; those that were done stay done.
        """
        finished = {tuple(record["unit"]) for record in journal.records if "unit" in record}
        pieces = course.cut(choose_units(course, self.workers), finished)
        plans = [PiecePlan(records, course.stage, piece) for piece in pieces]
        waiting = [number for number, plan in enumerate(plans) if not plan.complete]
        tasks = Tasks(plans, get_name, self.prepare)
        outcomes = self.executor.run(tasks, waiting) if waiting else iter(())
        failure: Exception | None = None
        for outcome in outcomes:
            failure = failure or outcome.error
            if outcome.error is None:
                advanced(course.count_pixels(pieces[outcome.index]))
        if failure is not None:
            raise failure
        for plan in plans:
            for record in read_records(plan):
                if tuple(record["unit"]) not in finished:
                    journal.append(record)
                    journal.records.append(record)
        for plan in plans:
            plan.files[0].unlink()


def find_pieces(folder: Path, resumed: bool) -> Path:
    """The folder of the records of a run's pieces: that of the run which goes on, or a new one.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    there = sorted(folder.glob(f"{PIECES}*"))
    if resumed and there:
        return there[0]
    for path in there:
        shutil.rmtree(path, ignore_errors=True)
    made = folder / f"{PIECES}{uuid4().hex}"
    make_private_folder(made)
    return made


def get_name(plan: PiecePlan) -> str:
    """What messages call a piece."""
    return plan.name


def write_records(plan: PiecePlan, records: Collection[Record]) -> Done:
    """Say that a piece is done; its pixels are on the disk."""
    path = plan.files[0]
    units = [record for record in records if "unit" in record]
    with Staging([path], overwrite=True) as staging:
        staging.write_text(path, json.dumps({"units": units}) + "\n")
    return Done(len(units))


def read_records(plan: PiecePlan) -> list[Any]:
    """The records of a piece that is done."""
    return list(read_json(plan.files[0], "the record of a piece")["units"])
