"""Option values that are lists: parts with commas between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class Separated(click.ParamType[tuple[Any, ...]]):
    """Parts with commas between them, as a tuple.

    Parameters
    ----------
    kind
        Makes a part from its text, or raises ValueError: ``int``, ``float`` or ``str``.
    form
        What is expected, in words, for the message about something else.
    example
        A right value.
    metavar
        What the help shows in place of a value.
    count
        Exactly so many parts, where it is given.
    """

    def __init__(
        self, kind: Callable[[str], Any], form: str, example: str, metavar: str, count: int | None = None
    ) -> None:
        self.kind, self.form, self.example, self.name, self.count = kind, form, example, metavar, count

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        wrong = not all(parts) or (self.count is not None and len(parts) != self.count)
        try:
            if not wrong:
                return tuple(self.kind(part) for part in parts)
        except ValueError:
            pass
        self.fail(f"{value!r} is not {self.form} such as {self.example}", param, ctx)


WHOLE_NUMBERS = Separated(int, "a list of whole numbers", "3,2,1", "N,N,N")
NAMES = Separated(str, "a list of names", "liver,spleen", "NAME,NAME")
