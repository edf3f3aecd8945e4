"""What a run says about itself when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import domainsam

SOME_FAILED = 1
"""Exit code when some of several samples failed."""


@dataclass(frozen=True)
class SegmentResult:
    """One finished scene.

    ``shares`` is the share of judged pixels by class, classes that do not
    occur left out; ``contribution`` the mean share of every sensor in the
    answer; ``confidence`` its mean probability.
    """

    name: str
    paths: Mapping[str, Path]
    shape: tuple[int, int]
    sensors: tuple[str, ...]
    missing: Mapping[str, str]
    notes: tuple[str, ...]
    shares: Mapping[str, float]
    contribution: Mapping[str, float]
    confidence: float
    valid_share: float
    seconds: float
    model: str
    foundation: str

    def sentence(self) -> str:
        """The result in a line for a person."""
        rows, cols = self.shape
        largest = sorted(self.shares.items(), key=lambda item: -item[1])[:4]
        found = ", ".join(f"{label} {100 * share:.0f} %" for label, share in largest) or "nothing to see"
        return (
            f"{self.name} ({cols} x {rows} pixels; {', '.join(self.sensors)}): {found}; {self.seconds:.1f} s"
        )

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {
            "domainsam": domainsam.__version__,
            "name": self.name,
            "shape": list(self.shape),
            "sensors": list(self.sensors),
            "missing": dict(self.missing),
            "notes": list(self.notes),
            "shares": dict(self.shares),
            "contribution": dict(self.contribution),
            "confidence": self.confidence,
            "valid_share": self.valid_share,
            "seconds": self.seconds,
            "model": self.model,
            "foundation": self.foundation,
            "paths": {kind: str(path) for kind, path in self.paths.items()},
        }


@dataclass(frozen=True)
class Batch:
    """What became of several samples: results, reasons of those that failed, and those already complete."""

    results: tuple[SegmentResult, ...]
    failures: tuple[tuple[str, str], ...] = ()
    complete: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 if every sample is done."""
        return SOME_FAILED if self.failures else 0

    def document(self) -> dict[str, Any]:
        """Everything about every scene, as values that JSON can hold."""
        return {
            "scenes": [result.document() for result in self.results],
            "failures": [{"name": name, "error": reason} for name, reason in self.failures],
            "complete": list(self.complete),
        }
