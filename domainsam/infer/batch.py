"""Many inputs with one model, here or on workers: what is done stays, and one that fails costs no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from domainsam.errors import DomainSamError, explain
from domainsam.infer.executor import Executor, InProcess, Tasks, Watcher, closing_iterator
from domainsam.infer.outputs import OutputPlan
from domainsam.infer.workroom import tidy_room

log = logging.getLogger(__name__)

SOME_FAILED = 1
"""Exit code when some of several inputs failed."""

Failures = tuple[tuple[str, str], ...]
"""Name and reason of each input that failed."""


class Finished(Protocol):
    """The result of one input."""

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        ...


Plan = TypeVar("Plan", bound=OutputPlan)
Result = TypeVar("Result", bound=Finished)
SomeBatch = TypeVar("SomeBatch")


@dataclass(frozen=True)
class Batch(Generic[Result]):
    """What became of several inputs.

    Parameters
    ----------
    results
        Of those that were done, in order.
    failures
        Names of those that failed, and why.
    complete
        Names of those that were complete already and passed over.
    """

    results: tuple[Result, ...]
    failures: Failures = ()
    complete: tuple[str, ...] = ()

    plural: ClassVar[str] = "scenes"
    """What inputs are called in :meth:`document`."""
    key: ClassVar[str] = "name"
    """What the name of one that failed is called there."""

    @property
    def count(self) -> int:
        """How many inputs there were, without those that a run did not begin."""
        return len(self.results) + len(self.failures) + len(self.complete)

    @property
    def exit_code(self) -> int:
        """0 if every input is done, else :data:`SOME_FAILED`."""
        return SOME_FAILED if self.failures else 0

    def document(self) -> dict[str, Any]:
        """Everything about every input, as values that JSON can hold."""
        return {
            self.plural: [result.document() for result in self.results],
            "failures": [{self.key: name, "error": reason} for name, reason in self.failures],
            "complete": list(self.complete),
        }


def run_batch(
    plans: Sequence[Plan],
    name: Callable[[Plan], str],
    prepare: Callable[[], Callable[[Plan], Result]],
    into: Callable[[tuple[Result, ...], Failures, tuple[str, ...]], SomeBatch],
    *,
    resume: bool,
    overwrite: bool | Callable[[Plan], bool],
    kept: tuple[type[Exception], ...] = (Exception,),
    raise_single: bool = True,
    watch: Callable[[Result], None] | None = None,
    executor: Executor | None = None,
    max_failures: int | None = None,
    watcher: Watcher | None = None,
) -> SomeBatch:
    """Run every plan that is not complete, and return what became of all, in order.

    Parameters
    ----------
    plans
        The files to be made from each input.
    name
        What an input is called in messages.
    prepare
        Called once in every process that does inputs, after all outputs were checked and only if there is
        anything to do; loads the model and returns the function for one input.
    into
        The kind of :class:`Batch` to return.
    resume
        Whether inputs are passed over whose files are all there.
    overwrite
        Whether files may be replaced where they exist: of all inputs, or of each.
    kept
        Errors that are listed while the rest go on; by default also faults of ours and of libraries, for
        the others may be sound.
    raise_single
        Whether the error of a lone input is raised instead of being listed.
    watch
        Called with every result as soon as it is there.
    executor
        Who does the inputs; this process, one after another, by default.
    max_failures
        Begin no further input once more than this failed.
    watcher
        Told how many inputs there are and what becomes of each.

    Raises
    ------
    OutputError
        If an output exists and may not be replaced, or cannot be written; before any work.
    """
    done = {index for index, plan in enumerate(plans) if resume and plan.complete}
    waiting = [index for index in range(len(plans)) if index not in done]
    tried: set[Path] = set()
    for index in waiting:
        plan = plans[index]
        plan.check(overwrite if isinstance(overwrite, bool) else overwrite(plan), tried)
    _tidy_rooms(plans, done, waiting, executor is not None and not resume)
    results: dict[int, Result] = {}
    failures: dict[int, str] = {}
    tasks = Tasks(plans, name, prepare, kept)
    told = watcher or Watcher()
    told.begin([name(plan) for plan in plans], sorted(done))
    outcomes = (executor or InProcess()).run(tasks, waiting) if waiting else iter(())
    with closing_iterator(outcomes):
        for outcome in outcomes:
            done_now = watcher is not None and outcome.error is None
            told.outcome(replace(outcome, written=plans[outcome.index].written) if done_now else outcome)
            if outcome.complete:
                done.add(outcome.index)
            elif outcome.error is None:
                assert outcome.result is not None
                results[outcome.index] = outcome.result
                if watch is not None:
                    watch(outcome.result)
            elif raise_single and len(plans) == 1:
                raise outcome.error
            else:
                failures[outcome.index] = _tell_failure(name(plans[outcome.index]), outcome.error)
            if max_failures is not None and len(failures) > max_failures:
                begun = len(results) + len(failures) + len(done)
                log.error("stopped after %d failures: %d not begun", len(failures), len(plans) - begun)
                break
    return into(
        tuple(results[index] for index in sorted(results)),
        tuple((name(plans[index]), failures[index]) for index in sorted(failures)),
        tuple(name(plans[index]) for index in sorted(done)),
    )


def _tidy_rooms(plans: Sequence[OutputPlan], done: set[int], waiting: Sequence[int], anew: bool) -> None:
    """Remove work rooms of finished inputs, and where workers begin ``anew`` those of killed runs.

    Workers go on with whatever is there, so that an input whose worker died is not begun again.
    """
    for index in (*sorted(done), *(waiting if anew else ())):
        tidy_room(plans[index].work)


def _tell_failure(name: str, error: BaseException) -> str:
    """Log why an input failed; returns the reason."""
    reason, _ = explain(error)
    # Errors of reading begin with the file already.
    reason = reason.removeprefix(f"{name}: ")
    log.error("%s: %s", name, reason)
    if not isinstance(error, DomainSamError):
        log.debug("%s", name, exc_info=error)
    return reason
