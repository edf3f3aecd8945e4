"""Report the progress of a long run to whoever displays it.

The library reports as it logs: it says what it does, and whoever runs it
decides who listens. Nobody does, unless :func:`show_progress` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol


class Progress(Protocol):
    """Told how far a run is: the stage's name, pixels done, pixels in all."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


class Display(Protocol):
    """Opens the progress of one piece of work, given its title and whether to keep silent."""

    def __call__(self, title: str, quiet: bool = False, /) -> AbstractContextManager[Progress]: ...


def report_nothing(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def _hidden(title: str, quiet: bool = False, /) -> Iterator[Progress]:
    yield report_nothing


_display: ContextVar[Display] = ContextVar("display", default=_hidden)


def report_progress(title: str, quiet: bool = False) -> AbstractContextManager[Progress]:
    """Report the progress of one piece of work in a ``with`` statement."""
    return _display.get()(title, quiet)


@contextmanager
def show_progress(display: Display) -> Iterator[None]:
    """Show progress by ``display`` for as long as this context lasts."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)
