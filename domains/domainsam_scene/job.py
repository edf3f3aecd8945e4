"""Which files a run will write, settled and checked before any work begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import domainsam
from domainsam.errors import ConfigError
from domainsam.staging import check_apart
from domainsam_scene.settings import OutputOptions

FOLDER_NAMES = {
    "map": "{stem}.png",
    "probability": "{stem}_probability.npz",
    "confidence": "{stem}_confidence.png",
    "contribution": "{stem}_contribution.npz",
    "preview": "{stem}_preview.png",
    "summary": "{stem}_summary.json",
}
"""What a file is called in a folder that was given instead of a file."""
SUFFIXES = {
    "map": (".png", ".tif", ".tiff"),
    "probability": (".npz",),
    "confidence": (".png", ".tif", ".tiff"),
    "contribution": (".npz", ".tif", ".tiff"),
    "preview": (".png",),
    "summary": (".json",),
}
GEO_SUFFIXES = {
    "map": (".tif", ".tiff"),
    "probability": (".tif", ".tiff"),
    "confidence": (".tif", ".tiff"),
    "contribution": (".tif", ".tiff"),
    "preview": (".png",),
    "summary": (".json",),
}
"""Endings for georeferenced stacks, whose results must keep their place."""


@dataclass(frozen=True)
class SamplePlan:
    """One sample and every file that its run will write, by kind of output."""

    name: str
    paths: Mapping[str, Path]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return tuple(self.paths.values())

    @property
    def complete(self) -> bool:
        """Whether every file is there already."""
        return all(path.is_file() for path in self.files)


def plan_outputs(
    names: Sequence[str], outputs: OutputOptions, inputs: Sequence[Path] = (), geo: bool = False
) -> tuple[SamplePlan, ...]:
    """The files of every sample.

    Parameters
    ----------
    names
        Samples; a ``/`` in a name becomes a folder below the one that is given.
    inputs
        Files that must not be written over.
    geo
        Whether results are georeferenced.

    Raises
    ------
    ConfigError
        If an ending is unknown, or two samples would share a file.
    OutputError
        If an output would replace an input.
    """
    plans = tuple(_plan(name, outputs, geo) for name in names)
    check_apart((path for plan in plans for path in plan.files), inputs, "inputs")
    return plans


def _plan(name: str, outputs: OutputOptions, geo: bool) -> SamplePlan:
    given = {kind: getattr(outputs, kind) for kind in FOLDER_NAMES}
    endings = GEO_SUFFIXES if geo else SUFFIXES
    paths: dict[str, Path] = {}
    for kind, path in given.items():
        if path is None:
            continue
        file = _resolve(path, kind, name, endings[kind])
        if file.suffix.lower() not in endings[kind]:
            option = "out" if kind == "map" else kind
            raise ConfigError(f"--{option} '{file}' must end in {' or '.join(endings[kind])}")
        paths[kind] = file
    return SamplePlan(name, paths)


def _resolve(given: Path, kind: str, name: str, endings: tuple[str, ...]) -> Path:
    """A path as given, inside a folder under the sample's name, or with ``{stem}`` filled in."""
    path = Path(str(given).replace("{stem}", name))
    if path.is_dir() or not path.suffix:
        file = path / FOLDER_NAMES[kind].format(stem=name)
        return file if file.suffix in endings else file.with_suffix(endings[0])
    return path


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
