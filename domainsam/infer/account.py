"""Account of a run over many inputs: log, metrics, progress, and how long the rest will take."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from domainsam.errors import OutputError, explain
from domainsam.infer.executor import Outcome, Watcher
from domainsam.infer.gauges import Figures, Gauges
from domainsam.infer.spread import SpreadOptions
from domainsam.names import show
from domainsam.progress import Progress, report_nothing, report_progress

logger = logging.getLogger(__name__)

MINUTE, HOUR = 60, 3600
TELL_S = 60.0
"""Seconds between two lines about where a run is."""
LEAST = 5
"""Finished inputs before anything is said of the rest: one or two tell nothing of how much they differ."""


class Forecast:
    """How long the rest of a run will take, from the pace of what was done so far.

    The pace counts from the beginning of the run, so that whatever runs side by
    side, waits or is tried again counts as it does. Its uncertainty is that of a
    mean of the times between one finished input and the next (two standard
    errors) and of the sum of those still to come.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin = self._last = clock()
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self) -> None:
        """Note that an input is done now (Welford's running variance)."""
        now = self._clock()
        gap, self._last = now - self._last, now
        self._count += 1
        before = self._mean
        self._mean += (gap - before) / self._count
        self._squares += (gap - before) * (gap - self._mean)

    def left(self, rest: int) -> tuple[float, float, float] | None:
        """Seconds for ``rest`` more inputs: expected, and the least and most of it; None while unknown."""
        if self._count < LEAST:
            return None
        spread = math.sqrt(self._squares / (self._count - 1))
        # Of a sum of so many, and of the mean that it is told by.
        error = 2 * spread * math.sqrt(rest + rest**2 / self._count)
        expected = self._mean * rest
        return expected, max(0.0, expected - error), expected + error

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._clock() - self._begin


class Account(Watcher):
    """Writes a log and metrics, and moves a bar, while inputs are done.

    Parameters
    ----------
    log
        Open file that takes a JSON object a line, flushed after each; None for no log.
    progress
        Told how many inputs are done.
    what
        What inputs are called, in the plural.
    gauges
        Take the run's figures; None for no metrics.
    """

    def __init__(
        self, log: IO[str] | None, progress: Progress, what: str, gauges: Gauges | None = None
    ) -> None:
        self._log, self._progress, self._what, self._gauges = log, progress, what, gauges
        self._figures = Figures()
        self._told = time.monotonic()
        self._names: Sequence[str] = ()
        self._done, self._failed, self._total = 0, 0, 0
        self._forecast = Forecast()

    def begin(self, names: Sequence[str], complete: Sequence[int]) -> None:
        """See :class:`~domainsam.infer.executor.Watcher`."""
        self._names, self._total = names, len(names) - len(complete)
        self._forecast = Forecast()
        self._write({"event": "begin", "inputs": len(names), "complete": len(complete)})
        self._figures.counts |= {"complete": len(complete), "left": self._total}
        self._measure(at_once=True)
        self._progress(self._what, 0, self._total)

    def outcome(self, outcome: Outcome) -> None:
        """See :class:`~domainsam.infer.executor.Watcher`."""
        self._done += 1
        self._failed += outcome.error is not None
        self._forecast.add()
        event: dict[str, Any] = {
            "event": "failed" if outcome.error else "done",
            "input": outcome.index,
            "name": show(self._names[outcome.index]),
            "worker": outcome.worker,
        }
        if outcome.seconds is not None:
            event["seconds"] = round(outcome.seconds, 3)
        if outcome.error is not None:
            event["reason"] = show(explain(outcome.error)[0])
        left = self._forecast.left(self._total - self._done)
        event |= {"finished": self._done, "failed": self._failed, "of": self._total}
        if outcome.written is not None:
            event["written_bytes"] = outcome.written
        if left is not None:
            event["left_s"], event["left_low_s"], event["left_high_s"] = (round(part, 1) for part in left)
        self._write(event)
        self._count(outcome, left)
        self._tell(left)
        self._progress(self._what, self._done, self._total)

    def end(self) -> None:
        """The run is over, however."""
        self._write({"event": "end", "finished": self._done, "failed": self._failed, "of": self._total})
        self._figures.running = False
        self._measure(at_once=True)

    def _count(self, outcome: Outcome, left: tuple[float, float, float] | None) -> None:
        """Take an input into the figures."""
        figures = self._figures
        figures.counts["failed" if outcome.error else "done"] += 1
        figures.counts["left"] = self._total - self._done
        figures.task_seconds += outcome.seconds or 0.0
        figures.timed += outcome.seconds is not None
        figures.written_bytes += outcome.written or 0
        figures.left_s = left
        self._measure()

    def _measure(self, at_once: bool = False) -> None:
        if self._gauges is not None:
            self._gauges.write(self._figures, at_once)

    def _tell(self, left: tuple[float, float, float] | None) -> None:
        """Say now and then where a run is, to whoever listens (``--verbose``): bars need a terminal."""
        now = time.monotonic()
        if left is None or now - self._told < TELL_S:
            return
        self._told = now
        failed = f", {self._failed} of them failed" if self._failed else ""
        expected, low, high = map(tell_seconds, left)
        line = f"{self._done} of {self._total} {self._what} finished{failed}; {expected} left"
        logger.info("%s (%s to %s)", line, low, high)

    def _write(self, event: dict[str, Any]) -> None:
        if self._log is None:
            return
        moment = {"time": time.time(), "elapsed_s": round(self._forecast.seconds, 3)}
        try:
            self._log.write(json.dumps({**moment, **event}, ensure_ascii=False) + "\n")
            self._log.flush()
        except OSError as error:
            raise OutputError(f"cannot write the log ({error.strerror}): free some space") from error


@contextmanager
def watching(options: SpreadOptions, what: str, quiet: bool = False) -> Iterator[Watcher]:
    """What accounts for a run as its options ask; the bar is for workers, this process shows its own.

    Raises
    ------
    OutputError
        If the log or the metrics cannot be written.
    """
    with ExitStack() as stack:
        progress: Progress = report_nothing
        if options.scheduler is not None:
            progress = stack.enter_context(report_progress(f"on {options.scheduler}", quiet))
        gauges = None if options.metrics is None else Gauges(options.metrics, what)
        account = Account(_open_log(options.log, stack), progress, what, gauges)
        try:
            yield account
        finally:
            account.end()


def tell_seconds(seconds: float) -> str:
    """A time in a unit that fits it: ``50 s``, ``12 min``, ``3.5 h``."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


def _open_log(path: Path | None, stack: ExitStack) -> IO[str] | None:
    """The log, to be added to; runs that go on with another write into the same one."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise OutputError(
            f"cannot write log '{path}' ({error.strerror}): check its permissions, or choose another"
        ) from error
