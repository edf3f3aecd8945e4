"""A progress bar with megapixels a second, on stderr, only where a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID
    from rich.text import Text


class StageProgress(Protocol):
    """Told how far a run is: the stage's name, pixels done, pixels in all."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@contextmanager
def pixel_progress(title: str, quiet: bool = False) -> Iterator[StageProgress]:
    """A bar for each stage of a run; yields the function that the run calls.

    Silent when ``quiet``, and when stderr is not a terminal. Speed is measured
    from the first call of a stage, so that what an earlier run had finished
    does not count.
    """
    if quiet or not sys.stderr.isatty():
        yield _silent
        return
    tasks: dict[str, TaskID] = {}
    with _pixel_bar() as bar:

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(f"{title}: {stage}", total=total, completed=done)
            bar.update(tasks[stage], completed=done, total=total)

        yield advance


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


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
