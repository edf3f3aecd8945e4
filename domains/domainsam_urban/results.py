"""What a run says about itself when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import domainsam
from domainsam_urban.map_options import MapOptions

SOME_FAILED = 1
"""Exit code when some of several scenes failed."""


@dataclass(frozen=True)
class SceneResult:
    """One finished scene.

    ``hectares`` is the area of all polygons on the ellipsoid, NaN without a
    CRS; ``megapixels`` are of the grid that the networks saw; ``peak_rss_mb``
    is the whole process's, so far.
    """

    source: str
    paths: Mapping[str, Path]
    shape: tuple[int, int]
    work_shape: tuple[int, int]
    ground_pixel_m: float | None
    polygons: int
    hectares: float
    objects_found: int
    valid_share: float
    crops: int
    resumed: bool
    seconds: Mapping[str, float]
    peak_rss_mb: float
    model: str
    foundation: str
    method: str
    options: MapOptions = field(repr=False)

    @property
    def megapixels_per_second(self) -> float:
        """Speed from opening the scene to the last rename."""
        pixels = self.work_shape[0] * self.work_shape[1]
        return pixels / 1e6 / max(self.seconds["total"], 1e-9)

    def sentence(self) -> str:
        """The result in a line for a person."""
        rows, cols = self.shape
        size = f"{cols} x {rows} pixels"
        if self.ground_pixel_m is not None:
            size += f" of {self.ground_pixel_m:.2f} m"
        what = "settlement" if self.polygons == 1 else "settlements"
        area = "" if self.hectares != self.hectares else f", {self.hectares:.1f} ha"
        speed = f"{self.seconds['total']:.1f} s, {self.megapixels_per_second:.2f} Mpx/s"
        return f"{self.source} ({size}): {self.polygons} {what}{area}; {speed}, {self.peak_rss_mb:.0f} MB"

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        values = {
            "domainsam": domainsam.__version__,
            **{key: value for key, value in vars(self).items() if key not in ("paths", "options")},
            "hectares": None if self.hectares != self.hectares else self.hectares,
            "megapixels_per_second": self.megapixels_per_second,
            "paths": {kind: str(path) for kind, path in self.paths.items()},
            "options": asdict(self.options),
        }
        return {key: _plain(value) for key, value in values.items()}


@dataclass(frozen=True)
class Batch:
    """What became of several scenes: results, reasons of those that failed, and those already complete."""

    results: tuple[SceneResult, ...]
    failures: tuple[tuple[str, str], ...] = ()
    complete: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if every scene is done."""
        return SOME_FAILED if self.failures else 0

    def document(self) -> dict[str, Any]:
        """Everything about every scene, as values that JSON can hold."""
        return {
            "scenes": [result.document() for result in self.results],
            "failures": [{"source": source, "error": reason} for source, reason in self.failures],
            "complete": list(self.complete),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
