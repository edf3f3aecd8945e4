"""What a training run has made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trained:
    """What a run has made.

    Parameters
    ----------
    out
        The model file.
    folder
        Logs and state.
    metrics
        Scores on what was kept for validation, by name.
    notes
        What the user ought to know.
    rank
        Number of this process; the first one, 0, speaks for all.
    """

    out: Path
    folder: Path
    metrics: dict[str, float]
    notes: tuple[str, ...]
    rank: int = 0

    def document(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        return {
            "model": str(self.out),
            "folder": str(self.folder),
            "metrics": self.metrics,
            "notes": list(self.notes),
        }
