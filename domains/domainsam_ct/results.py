"""What a run says about itself when it is done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import domainsam
from domainsam_ct.postprocess import Cleaned
from domainsam_ct.statistics import OrganStatistics

SOME_FAILED = 1
"""Exit code when some of several cases failed."""


@dataclass(frozen=True)
class CaseResult:
    """One finished CT.

    Parameters
    ----------
    case
        Its name in tables and reports.
    shape, spacing_mm
        Of the file's own axes.
    orientation
        Directions that the file's axes grow to, such as ``"LPS"``.
    cleaned
        What clean-up removed and filled, in voxels by value.
    settings
        What decided the answer: model and how it did in validation, foundation, window, clean-up.
    patient
        Name and number, None unless they were asked for.
    seconds
        From opening the file to the last rename.
    """

    case: str
    paths: Mapping[str, Path]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    slices: int
    organs: tuple[OrganStatistics, ...]
    cleaned: Cleaned
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    patient: str | None
    resumed: bool
    seconds: float
    peak_rss_mb: float

    @property
    def found(self) -> tuple[OrganStatistics, ...]:
        """Organs that the mask holds."""
        return tuple(organ for organ in self.organs if organ.found)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the organs that were looked for and not found."""
        return tuple(organ.name for organ in self.organs if not organ.found)

    def sentence(self) -> str:
        """The result in a line for a person."""
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{step:.3g}" for step in self.spacing_mm)
        volumes = [f"{organ.name} {_millilitres(organ)}" for organ in self.found]
        found = ", ".join(volumes) or "no organ found"
        if volumes and self.missing:
            found += f"; not found: {', '.join(self.missing)}"
        speed = f"{self.seconds:.1f} s, {self.seconds / self.slices:.2f} s a slice"
        return f"{self.case} ({size}, {spacing} mm): {found}; {speed}, {self.peak_rss_mb:.0f} MB"

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        names = {organ.value: organ.name for organ in self.organs}
        return {
            "domainsam": domainsam.__version__,
            "notice": NOTICE,
            "case": self.case,
            **({"patient": self.patient} if self.patient else {}),
            "shape": list(self.shape),
            "slices": self.slices,
            "spacing_mm": list(self.spacing_mm),
            "orientation": self.orientation,
            "units": UNITS,
            "organs": {organ.name: organ.document() for organ in self.organs},
            "warnings": list(self.warnings),
            "settings": dict(self.settings),
            "removed_voxels": {names[value]: count for value, count in self.cleaned.removed.items()},
            "filled_voxels": {names[value]: count for value, count in self.cleaned.filled.items()},
            "resumed": self.resumed,
            "seconds": self.seconds,
            "seconds_per_slice": self.seconds / self.slices,
            "peak_rss_mb": self.peak_rss_mb if math.isfinite(self.peak_rss_mb) else None,
        }


NOTICE = "Made by a computer model. Not a medical device; not for diagnosis or treatment without review."
UNITS = {
    "volume_ml": "millilitres",
    "hu": "Hounsfield units of the voxels as stored, no smoothing",
    "centroid_mm": "millimetres, axes grow to the patient's right, front and head",
    "box_mm": "as centroid_mm, outer faces of voxels",
    "box_voxels": "first and last index along the file's own axes, from 0",
    "confidence": "mean probability of the network at the organ's voxels, 0 to 1",
    "null": "not known; an organ that was not found has no volume here, which does not mean it is absent",
}


@dataclass(frozen=True)
class Batch:
    """What became of several cases: results, reasons of those that failed, and those already complete."""

    results: tuple[CaseResult, ...]
    failures: tuple[tuple[str, str], ...] = ()
    complete: tuple[str, ...] = ()
    table: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 if every case is done."""
        return SOME_FAILED if self.failures else 0

    def document(self) -> dict[str, Any]:
        """Everything about every case, as values that JSON can hold."""
        return {
            "cases": [
                {**result.document(), "paths": {kind: str(path) for kind, path in result.paths.items()}}
                for result in self.results
            ],
            "failures": [{"case": case, "error": reason} for case, reason in self.failures],
            "complete": list(self.complete),
            "table": None if self.table is None else str(self.table),
        }


def _millilitres(organ: OrganStatistics) -> str:
    assert organ.volume_ml is not None
    digits = 0 if organ.volume_ml >= 100 else 1
    least = "at least " if organ.touches_border else ""
    return f"{least}{organ.volume_ml:.{digits}f} mL"
