"""Where a training run writes and how it runs, beside its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunOptions:
    """What every pack's training takes beside its recipe; packs add their own.

    Parameters
    ----------
    out
        The model file.
    device, devices, precision
        As ``--device``, ``--devices`` and ``--precision`` say it.
    workers
        Threads that read ahead.
    """

    out: Path
    device: str = "auto"
    devices: int = 1
    precision: str = "auto"
    workers: int = 2
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False

    @property
    def workroom(self) -> Path:
        """Folder of the run's state and logs, beside the model file."""
        return self.out.with_name(f"{self.out.stem}.training")


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
