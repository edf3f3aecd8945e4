"""Print results of commands: JSON, lines, tables and progress bars."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from domainsam import progress as core_progress
from domainsam.names import show
from domainsam.remote import tell_place

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID
    from rich.text import Text


class ReaderGoneError(Exception):
    """Whoever read what is printed has gone; no OSError, which click would answer by leaving at once."""


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text; what would steer the terminal is shown as a code.

    Raises
    ------
    ReaderGoneError
        If nobody reads any more.
    """
    try:
        click.echo(show(str(text)), err=err, nl=nl)
    except BrokenPipeError as error:
        raise ReaderGoneError from error


def print_result(
    given: Mapping[str, Any],
    document: Callable[[], Any],
    lines: Iterable[str],
    notes: Sequence[str] = (),
) -> None:
    """Print a result as ``--json`` and ``--quiet`` ask for it.

    Parameters
    ----------
    given
        The command's options, ``as_json`` and ``quiet`` among them.
    document
        Gives the whole result as values that JSON can hold.
    lines
        The result for a person, on stdout.
    notes
        What a person ought to know besides, on stderr.
    """
    if given["as_json"]:
        echo(json.dumps(document(), indent=2))
    elif not given["quiet"]:
        for note in notes:
            echo(f"domainsam: note: {note}", err=True)
        for line in lines:
            echo(line)


def format_paths(paths: Mapping[str, Path]) -> Iterator[str]:
    """A line for each output: its kind and where it is."""
    width = max([12, *map(len, paths)])
    for kind, path in paths.items():
        yield f"  {kind:<{width}} {tell_place(path)}"


def get_command_line() -> str:
    """The command that is running, as outputs tell it; see :func:`tell_command`."""
    return tell_command(sys.argv[1:])


WHO = (
    *("--scheduler", "--gpus-per-task", "--memory-per-task", "--retries", "--max-failures"),
    *("--log", "--metrics"),
)
"""Options, each with a value, that say who does the work: they decide no answer."""


def tell_command(words: Iterable[str]) -> str:
    """A command as outputs tell it: without ``--resume`` and without who does the work.

    A run that was resumed or spread over workers ends in the same bytes as an unbroken one here.
    """
    told, rest = [Path(sys.argv[0]).name], iter(words)
    for word in rest:
        if word in WHO:
            next(rest, None)
        elif word != "--resume" and not word.startswith(tuple(f"{option}=" for option in WHO)):
            told.append(word)
    return shlex.join(told)


class Interval(Protocol):
    """A score with the ends of its interval; NaN where they are undefined."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def align_rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Format rows of cells as lines with columns of even width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def format_score(interval: Interval, sign: str = "-") -> str:
    """Format a score and its interval as ``0.815 [0.745, 0.875]``; ``n/a`` where it is undefined.

    ``sign`` is that of the format language: ``"+"`` shows it always, ``"-"`` where it is negative.
    """
    if interval.value != interval.value:
        return "n/a"
    if interval.low != interval.low:
        return f"{interval.value:{sign}.3f}"
    return f"{interval.value:{sign}.3f} [{interval.low:.3f}, {interval.high:.3f}]"


COUNTS = 10**4
"""Fewer than so many of anything are not pixels of a scene."""


@contextmanager
def show_pixel_progress(title: str, quiet: bool = False) -> Iterator[core_progress.Progress]:
    """A bar for each stage of a run; yields the function that the run calls.

    Silent when ``quiet``, and when stderr is not a terminal. Speed is measured
    from the first call of a stage, so that what an earlier run had finished
    does not count.
    """
    if quiet or not sys.stderr.isatty():
        yield core_progress.report_nothing
        return
    tasks: dict[str, TaskID] = {}
    with _pixel_bar() as bar:

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(f"{title}: {stage}", total=total, completed=done)
            bar.update(tasks[stage], completed=done, total=total)

        yield advance


def _pixel_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        """Megapixels a second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            if task.total is not None and task.total < COUNTS:
                # Inputs are counted, pixels are measured.
                return Text("")
            return Text("" if speed is None else f"{speed / 1e6:.2f} Mpx/s", style="progress.data.speed")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
