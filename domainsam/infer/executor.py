"""Who does the inputs of a job: this process, one after another, or workers of a cluster.

One protocol, two implementations over the same tasks: :class:`InProcess` here
and :class:`~domainsam.infer.daskwork.OnDask`. A task is one input with the
files that it will write. Results and reasons go through an executor; pixels never do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from domainsam.infer.spread import SpreadOptions


@dataclass(frozen=True)
class Tasks:
    """Inputs of a job and how one of them is done; see :func:`domainsam.infer.batch.run_batch`."""

    plans: Sequence[Any]
    name: Callable[[Any], str]
    prepare: Callable[[], Callable[[Any], Any]]
    kept: tuple[type[Exception], ...] = (Exception,)


@dataclass(frozen=True)
class Outcome:
    """What became of an input: a result, an error, or that its files were ``complete`` already.

    ``seconds`` are those that the worker needed, ``worker`` is its name or address; ``written`` are the bytes
    of its outputs on a disk, None where nobody looked. ``notices`` are what the worker had to tell of the use
    of its weights.
    """

    index: int
    result: Any = None
    error: Exception | None = None
    complete: bool = False
    seconds: float | None = None
    worker: str = "here"
    written: int | None = None
    notices: tuple[str, ...] = ()


class Executor(Protocol):
    """Does the inputs of a job."""

    def run(self, tasks: Tasks, waiting: Sequence[int]) -> Iterator[Outcome]:
        """Do those inputs of ``tasks`` whose numbers are ``waiting``; outcomes come as they come.

        Raises
        ------
        DomainSamError
            If the work cannot begin, or whoever does it has gone.
        """
        ...


class Watcher:
    """Told how far the inputs of a job are; this one does nothing with it."""

    def begin(self, names: Sequence[str], complete: Sequence[int]) -> None:
        """Take the names of all inputs, and the numbers of those that were complete already."""

    def outcome(self, outcome: Outcome) -> None:
        """Take what became of an input."""


class InProcess:
    """Does one input after another in this process, with one model."""

    def run(self, tasks: Tasks, waiting: Sequence[int]) -> Iterator[Outcome]:
        """See :class:`Executor`."""
        run = tasks.prepare()
        for index in waiting:
            begin = time.perf_counter()
            try:
                result = run(tasks.plans[index])
            except tasks.kept as error:
                yield Outcome(index, error=error, seconds=time.perf_counter() - begin)
            else:
                yield Outcome(index, result, seconds=time.perf_counter() - begin)


@contextmanager
def closing_iterator(iterator: Iterator[Any]) -> Iterator[None]:
    """Close a generator however its consumer ends, so that workers are let go."""
    try:
        yield
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def choose_executor(options: SpreadOptions) -> Executor:
    """Who the options say does the inputs.

    Raises
    ------
    DependencyError
        If a scheduler is named and the extra ``scale`` is not installed.
    """
    if options.scheduler is None:
        return InProcess()
    from domainsam.infer.daskwork import OnDask

    return OnDask(options)
