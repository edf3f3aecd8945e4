"""Scores on a terminal: columns of even width, values with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Interval(Protocol):
    """A score with the ends of its interval; NaN where they are undefined."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as lines with columns of even width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def cell(interval: Interval, sign: str = "-") -> str:
    """A score and its interval, ``0.815 [0.745, 0.875]``; ``n/a`` where it is undefined.

    ``sign`` is that of the format language: ``"+"`` shows it always, ``"-"`` where it is negative.
    """
    if interval.value != interval.value:
        return "n/a"
    if interval.low != interval.low:
        return f"{interval.value:{sign}.3f}"
    return f"{interval.value:{sign}.3f} [{interval.low:.3f}, {interval.high:.3f}]"
