"""How a long run says how far it is.

The library reports as it logs: it says what it does, and whoever runs it
decides who listens. Nobody does, unless :func:`shown_by` says so.
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


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def _hidden(title: str, quiet: bool = False, /) -> Iterator[Progress]:
    yield silent


_display: ContextVar[Display] = ContextVar("display", default=_hidden)


def reporting(title: str, quiet: bool = False) -> AbstractContextManager[Progress]:
    """The progress of one piece of work, for a ``with`` statement; shown where somebody shows it."""
    return _display.get()(title, quiet)


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Show progress by ``display`` for as long as this context lasts."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)
