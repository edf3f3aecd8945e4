"""Training logs: CSV table, learning curves as PNG, and TensorBoard events."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from domainsam.io.charts import Row, draw_curves, is_score
from domainsam.names import as_cell

DRAW_SECONDS = 60.0
"""Least time between two drawings of the curves in the midst of a stage."""


class History:
    """Writes what a run reports into its folder.

    ``log.csv`` has a row an evaluation, ``curves.png`` draws it, and
    ``tensorboard/`` holds every step's loss where TensorBoard is installed.

    Parameters
    ----------
    folder
        Existing folder of the run.
    enabled
        False in all processes but the first.
    """

    def __init__(self, folder: Path, enabled: bool = True) -> None:
        self.folder, self.enabled = folder, enabled
        self._sums: dict[str, float] = {}
        self._count = 0
        self._board: Any = None
        self._drawn = monotonic()

    def step(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Note one step's losses."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._event(f"{stage}/{name}", value, step)

    def recent(self) -> dict[str, float]:
        """Means of what was noted since the last call."""
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def write(self, rows: Sequence[Row], final: bool) -> None:
        """Write the table anew, the curves now and then and at last, and the last row as events."""
        if not self.enabled or not rows:
            return
        names = list(dict.fromkeys(name for row in rows for name in row))
        temporary = self.folder / ".log.csv.tmp"
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow([as_cell(name) for name in names])
            table.writerows([as_cell(_short(row.get(name, ""))) for name in names] for row in rows)
        temporary.replace(self.folder / "log.csv")
        if final or monotonic() > self._drawn + DRAW_SECONDS:
            draw_curves(rows, self.folder / "curves.png")
            self._drawn = monotonic()
        last = rows[-1]
        for name, value in last.items():
            if is_score(name) and isinstance(value, float):
                self._event(f"{last['stage']}/{name}", value, int(last["step"]))

    def _event(self, tag: str, value: float, step: int) -> None:
        if self._board is None:
            self._board = _board(self.folder / "tensorboard") if self.enabled else False
        if self._board:
            self._board.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write out what TensorBoard still holds back."""
        if self._board:
            self._board.close()


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _board(folder: Path) -> Any:
    """A TensorBoard writer, or False where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    # Opening TensorBoard's writer is typed only where tensorboard is installed.
    make: Any = SummaryWriter
    return make(folder)
