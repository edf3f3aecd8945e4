"""Plan the output files of a run and check them before any work; results of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import domainsam
from domainsam.foundations import tell_licences
from domainsam.infer import batch
from domainsam.infer.outputs import OutputPlan, check_suffix, resolve_output
from domainsam.limits import tell_changing
from domainsam.names import check_part
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
class SamplePlan(OutputPlan):
    """One sample and every file that its run will write, by kind of output."""

    name: str
    paths: Mapping[str, Path]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return tuple(self.paths.values())


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
    InputError
        If a sample's name would lead out of the folder.
    OutputError
        If an output would replace an input.
    """
    plans = tuple(_plan(name, outputs, geo) for name in names)
    check_apart((path for plan in plans for path in plan.files), inputs, "inputs")
    return plans


def _plan(name: str, outputs: OutputOptions, geo: bool) -> SamplePlan:
    for part in name.split("/"):
        check_part(part, "the input")
    given = {kind: getattr(outputs, kind) for kind in FOLDER_NAMES}
    endings = GEO_SUFFIXES if geo else SUFFIXES
    paths: dict[str, Path] = {}
    for kind, path in given.items():
        if path is None:
            continue
        default = Path(FOLDER_NAMES[kind])
        if default.suffix not in endings[kind]:
            default = default.with_suffix(endings[kind][0])
        file = resolve_output(path, name, str(default))
        check_suffix(file, "out" if kind == "map" else kind, endings[kind])
        paths[kind] = file
    return SamplePlan(name, paths)


class Maker(Protocol):
    """Who made a map, as results tell it: a model, or a person and a foundation."""

    @property
    def name(self) -> str:
        """The model's name, ``none`` without one."""
        ...

    @property
    def foundation_name(self) -> str:
        """The foundation's name."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        ...


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
            "seconds": tell_changing(self.seconds),
            "model": self.model,
            "foundation": self.foundation,
            "licences": tell_licences(self.model, self.foundation),
            "paths": {kind: str(path) for kind, path in self.paths.items()},
        }


class Batch(batch.Batch[SegmentResult]):
    """What became of several samples."""
