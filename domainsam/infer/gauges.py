"""Figures of a run for Prometheus, as a file that its node exporter takes up.

The text format (https://prometheus.io/docs/instrumenting/exposition_formats/) in a file that is
replaced whole: whoever watches machines has node exporter on them, whose textfile collector reads every
``*.prom`` of a folder. That takes no server and no port of ours, and outlives a run that ends between two
scrapes. Nothing in it names an input, or a person.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from domainsam.errors import OutputError

log = logging.getLogger(__name__)

EVERY_S = 5.0
"""Seconds between two files; node exporter is scraped every 15 by default."""


STATES = ("done", "failed", "complete", "left")
BOUNDS = ("expected", "low", "high")


@dataclass
class Figures:
    """Where a run is.

    Parameters
    ----------
    counts
        Inputs by what became of them: ``done``, ``failed``, ``complete`` before this run, ``left``.
    task_seconds, timed
        Seconds that whoever did inputs needed for them in all, and how many inputs those were.
    written_bytes
        Of the outputs of inputs that were done.
    left_s
        Seconds to the end: expected, least and most; None while unknown.
    running
        Whether the run goes on.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    task_seconds: float = 0.0
    timed: int = 0
    written_bytes: int = 0
    left_s: tuple[float, float, float] | None = None
    running: bool = True


class Gauges:
    """Writes the figures of a run to a file every few seconds.

    Parameters
    ----------
    path
        The file, which is replaced; it stays after the run and says that it is over.
    what
        What inputs are called, in the plural.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self._begin = time.time()
        self._written = -EVERY_S
        self._failed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._replace("")
        except OSError as error:
            raise OutputError(
                f"cannot write metrics '{path}' ({error.strerror}): check its permissions, or choose another"
            ) from error

    def write(self, figures: Figures, at_once: bool = False) -> None:
        """Write the figures, unless that was done a moment ago; a disk that refuses them costs no run."""
        now = time.monotonic()
        if not at_once and now - self._written < EVERY_S:
            return
        self._written = now
        try:
            self._replace(format_figures(figures, self._path.stem, self._what, self._begin, time.time()))
        except OSError as error:
            if not self._failed:
                log.warning("cannot write metrics '%s' (%s): the run goes on", self._path, error.strerror)
            self._failed = True

    def _replace(self, text: str) -> None:
        # The collector reads names that end in .prom alone.
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            staged.write_text(text, encoding="utf-8")
            staged.replace(self._path)
        except OSError:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
            raise


def format_figures(figures: Figures, run: str, what: str, begin: float, now: float) -> str:
    """The figures in Prometheus' text format.

    Parameters
    ----------
    run
        Tells runs of one machine apart: the exporter refuses the same name and labels twice.
    begin, now
        Seconds since 1970.
    """
    labels = {"run": run, "inputs": what}

    def lines() -> Iterator[str]:
        yield from _head("inputs", "gauge", "Inputs by what became of them.")
        for state in STATES:
            yield _line("inputs", {**labels, "state": state}, figures.counts[state])
        yield from _head("input_seconds", "summary", "Seconds that an input took whoever did it.")
        yield _line("input_seconds_sum", labels, figures.task_seconds)
        yield _line("input_seconds_count", labels, figures.timed)
        yield from _head("written_bytes", "gauge", "Bytes of the outputs of inputs that were done.")
        yield _line("written_bytes", labels, figures.written_bytes)
        yield from _head("start_time_seconds", "gauge", "When the run began, since 1970.")
        yield _line("start_time_seconds", labels, begin)
        yield from _head("updated_time_seconds", "gauge", "When this was written, since 1970.")
        yield _line("updated_time_seconds", labels, now)
        yield from _head("running", "gauge", "1 while the run goes on, 0 after its end.")
        yield _line("running", labels, int(figures.running))
        if figures.left_s is not None:
            yield from _head("end_time_seconds", "gauge", "When the run will end, since 1970.")
            for bound, left in zip(BOUNDS, figures.left_s, strict=True):
                yield _line("end_time_seconds", {**labels, "bound": bound}, now + left)

    return "\n".join(lines()) + "\n"


def _head(name: str, kind: str, told: str) -> tuple[str, str]:
    return f"# HELP domainsam_{name} {told}", f"# TYPE domainsam_{name} {kind}"


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    number = str(value) if isinstance(value, int) else f"{value:.3f}"
    return f"domainsam_{name}{{{inside}}} {number}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
