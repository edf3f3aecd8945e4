"""Options of ``domainsam urban sample`` as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from domainsam.errors import ConfigError
from domainsam_urban.settings import ShapeOptions

AIMS = ("area", "change")
"""What the target error is of: each year's settlement, or the net change from first to last year."""
FILE_TYPES = (".gpkg", ".geojson", ".csv")
"""Files of points that ``domainsam urban trend --reference`` reads and that hold empty columns."""
LARGEST_BUFFER_M = 5000.0
MOST_POINTS = 20_000
"""More than anyone labels; an error that needs them is called impossible."""


@dataclass(frozen=True)
class SampleOptions:
    """One call of ``domainsam urban sample``, without its inputs.

    Parameters
    ----------
    out
        File of points.
    target_error
        Half the width of the interval that is wanted, as a share of the settlement's area (of the area
        that changes, for ``of="change"``).
    points
        Number of points in place of a target error.
    confidence
        Share of intervals that should hold the truth.
    of
        One of :data:`AIMS`.
    years
        Labels of the years that are taken; None for all.
    min_per_stratum
        Least points in a stratum. Olofsson et al. 2014 advise 50 to 100.
    buffer_m
        Width of the stratum round everything that some year's map calls settlement, in metres; 0 for none.
    expected
        Share of each stratum that is expected to be settlement truly, by its name, in place of
        :data:`domainsam_urban.sample.allocation.EXPECTED`.
    scenes
        Pictures for the form, as ``YEAR=FILE``.
    form
        Where the form goes; None for the name of ``out`` with ``.html``.
    threshold, mask_class
        As of ``domainsam urban trend --masks``.
    seed
        Of the draw.
    command
        The command that was run, for the form's last line.
    """

    out: Path
    target_error: float = 0.05
    points: int | None = None
    confidence: float = 0.95
    of: str = AIMS[0]
    years: tuple[str, ...] | None = None
    min_per_stratum: int = 50
    buffer_m: float = 30.0
    expected: Mapping[str, float] = field(default_factory=dict)
    scenes: tuple[str, ...] = ()
    form: Path | None = None
    threshold: float = ShapeOptions.threshold
    mask_class: tuple[int, ...] | None = None
    seed: int = 0
    overwrite: bool = False
    quiet: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.target_error < 1:
            raise ConfigError(
                f"target error is {self.target_error:g}: expected above 0 and below 1, as in 5%"
            )
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"confidence is {self.confidence:g}: expected 50% to below 100%, as in 95%")
        if not (isfinite(self.buffer_m) and 0 <= self.buffer_m <= LARGEST_BUFFER_M):
            raise ConfigError(
                f"buffer is {self.buffer_m:g}: expected metres from 0 to {LARGEST_BUFFER_M:g}, as in 30m"
            )
        if self.min_per_stratum < 2:
            raise ConfigError(
                f"a least number of {self.min_per_stratum} points a stratum tells no spread: give 2"
            )
        if self.points is not None and not 2 <= self.points <= MOST_POINTS:
            raise ConfigError(f"points are {self.points}: expected 2 to {MOST_POINTS}")
        if self.of not in AIMS:
            raise ConfigError(f"'{self.of}' cannot be estimated: choose one of {', '.join(AIMS)}")
        wrong = [name for name, share in self.expected.items() if not 0 <= share <= 1]
        if wrong:
            raise ConfigError(f"expected share of '{wrong[0]}' is no share: give 0 to 1, or 0% to 100%")
        if self.out.suffix.lower() not in FILE_TYPES:
            raise ConfigError(f"output '{self.out}': expected a name that ends in {', '.join(FILE_TYPES)}")

    @property
    def form_path(self) -> Path:
        """Where the form goes."""
        return self.form or self.out.with_suffix(".html")

    @property
    def targets(self) -> tuple[Path, ...]:
        """Files that are written: the points, and the form where there are pictures or it has a name."""
        return (self.out, self.form_path) if self.scenes or self.form else (self.out,)
