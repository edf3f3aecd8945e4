"""Many inputs one after another with one model: what is done stays, and one that fails costs no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from domainsam.errors import DomainSamError, explain
from domainsam.infer.outputs import OutputPlan
from domainsam.staging import check_targets

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
) -> SomeBatch:
    """Run every plan that is not complete, one after another, and return what became of all.

    Parameters
    ----------
    plans
        The files to be made from each input.
    name
        What an input is called in messages.
    prepare
        Called once, after all outputs were checked and only if there is
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

    Raises
    ------
    OutputError
        If an output exists and may not be replaced, or cannot be written; before any work.
    """
    complete = [plan for plan in plans if resume and plan.complete]
    waiting = [plan for plan in plans if plan not in complete]
    for plan in waiting:
        check_targets(plan.files, overwrite if isinstance(overwrite, bool) else overwrite(plan))
    run = prepare() if waiting else None
    results: list[Result] = []
    failures: list[tuple[str, str]] = []
    for plan in waiting:
        assert run is not None
        try:
            results.append(run(plan))
            if watch is not None:
                watch(results[-1])
        except kept as error:
            if raise_single and len(plans) == 1:
                raise
            reason, _ = explain(error)
            # Errors of reading begin with the file already.
            reason = reason.removeprefix(f"{name(plan)}: ")
            log.error("%s: %s", name(plan), reason)
            if not isinstance(error, DomainSamError):
                log.debug("%s", name(plan), exc_info=error)
            failures.append((name(plan), reason))
    return into(tuple(results), tuple(failures), tuple(map(name, complete)))
