"""Options of ``domainsam urban trend`` as frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from domainsam.errors import ConfigError
from domainsam.infer.spread import SpreadOptions
from domainsam_urban.settings import LEAST_AREA_M2, ReadOptions, RunOptions

INSTABILITY = 0.03
"""Share of an area by which a model's answers for the same ground may differ: what is asked of them, and what
``benchmarks/stability.py`` measures."""


@dataclass(frozen=True)
class ZoneOptions:
    """For which places figures are made, beside the whole ground.

    Parameters
    ----------
    zones
        Polygons in any CRS, one figure each; None for none.
    zone_name
        Column with their names; by default the first text column, else they are numbered.
    centre
        Longitude and latitude from which rings are drawn; None for no rings.
    rings_km
        Outer radii of the rings in kilometres, growing; None chooses round ones.
    ring_polygons
        Areas within ring roads, each inside the next, instead of circles.
    """

    zones: Path | None = None
    zone_name: str | None = None
    centre: tuple[float, float] | None = None
    rings_km: tuple[float, ...] | None = None
    ring_polygons: Path | None = None

    def __post_init__(self) -> None:
        if self.centre is not None and not (abs(self.centre[0]) <= 180 and abs(self.centre[1]) <= 90):
            raise ConfigError(
                f"centre is {self.centre[0]:g},{self.centre[1]:g}: expected longitude,latitude in degrees, "
                "as in 116.39,39.91"
            )
        rings = self.rings_km
        if rings is not None and (
            not rings or any(b <= a for a, b in zip((0.0, *rings), rings, strict=False))
        ):
            raise ConfigError(f"rings are {rings}: expected growing radii in kilometres, as in 2,5,10")
        if rings is not None and self.centre is None:
            raise ConfigError("rings need a centre: give its longitude and latitude, as in 116.39,39.91")


@dataclass(frozen=True)
class UncertaintyOptions:
    """How low and high values are found.

    Parameters
    ----------
    reference
        Points or polygons whose truth is known; None where there are none.
    year_column, class_column
        Its columns with the year's label and with the truth (1, 0, yes, no, settlement, other);
        None looks for the usual names.
    spread
        By how much the threshold is moved either way for the bounds, as a probability.
    instability
        Share of an area by which answers for the same ground in other files differ; 0 for none.
    level
        Share of intervals that should hold the truth.
    block_m
        Side of the blocks that are drawn, in metres; None suits it to the ground.
    draws, seed
        Number of draws, and the seed of all of them.
    """

    reference: Path | None = None
    year_column: str | None = None
    class_column: str | None = None
    spread: float = 0.2
    instability: float = 0.0
    level: float = 0.95
    block_m: float | None = None
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.spread < 0.5:
            raise ConfigError(f"spread is {self.spread}: expected a probability from 0 to below 0.5")
        if not 0 <= self.instability < 1:
            raise ConfigError(f"instability is {self.instability}: expected a share from 0 to below 1")
        if not 0.5 <= self.level < 1:
            raise ConfigError(f"level is {self.level}: expected a share from 0.5 to below 1, as in 0.95")
        if self.block_m is not None and not (isfinite(self.block_m) and self.block_m > 0):
            raise ConfigError(f"block is {self.block_m}: expected metres above 0")
        if self.draws < 1:
            raise ConfigError(f"draws are {self.draws}: expected 1 or more")


@dataclass(frozen=True)
class ObjectOptions:
    """What counts as a settlement, as the same settlement, and as a change of it.

    Parameters
    ----------
    min_area
        Smaller settlements are left out, in square metres.
    overlap
        Outlines of two years belong to one settlement where they share at least this part of the smaller.
    stable
        A settlement is stable if its area changes by no more than this share.
    outline_px
        ... or by no more than this many pixels along its outline, whichever is more.
    """

    min_area: float = LEAST_AREA_M2
    overlap: float = 0.1
    stable: float = 0.1
    outline_px: float = 0.5

    def __post_init__(self) -> None:
        if not (isfinite(self.min_area) and self.min_area >= 0):
            raise ConfigError(f"min_area is {self.min_area}: expected square metres, 0 or more")
        for name in ("overlap", "stable"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected a share between 0 and 1")


@dataclass(frozen=True)
class ProductOptions:
    """One set of products.

    Parameters
    ----------
    title
        Heading of the report.
    command
        The command that was run, for the report's last line.
    model
        The model by name, empty where the years were given as masks.
    overwrite
        Whether existing files may be replaced.
    """

    zones: ZoneOptions = field(default_factory=ZoneOptions)
    uncertainty: UncertaintyOptions = field(default_factory=UncertaintyOptions)
    objects: ObjectOptions = field(default_factory=ObjectOptions)
    title: str = "Settlements over the years"
    command: str = ""
    model: str = ""
    overwrite: bool = False


@dataclass(frozen=True)
class GroundOptions:
    """The common ground, where it is not to be chosen from the scenes.

    ``extent`` is left, bottom, right, top in ``crs``; ``pixel`` is in metres.
    """

    crs: str | None = None
    pixel: float | None = None
    extent: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class SmoothingOptions:
    """A hidden Markov model over the years: rates a year at which settlement appears and vanishes."""

    appear: float = 0.05
    vanish: float = 0.01


@dataclass(frozen=True)
class FollowOptions:
    """Outlines that are followed in the place of settlements that a model finds.

    Parameters
    ----------
    outlines
        Polygons, in any CRS.
    year
        Label of the year that they were drawn in; by default the first.
    reach
        Metres from its outline that an object may reach; by default half the diameter of its area.
    version
        Digest of the file's content.
    """

    outlines: Path
    year: str | None = None
    reach: float | None = None
    version: str = ""

    def find_start(self, labels: Sequence[str]) -> int:
        """Index of the year that the outlines were drawn in, among all years' labels.

        Raises
        ------
        ConfigError
            If it is none of them.
        """
        if self.year is None:
            return 0
        if self.year not in labels:
            raise ConfigError(
                f"--from-year '{self.year}' is none of the years: choose one of {', '.join(labels)}"
            )
        return labels.index(self.year)


@dataclass(frozen=True)
class TrendOptions:
    """One call of ``domainsam urban trend``, without its inputs.

    Parameters
    ----------
    threshold
        Probability from which a pixel is settlement.
    masks
        The inputs are existing results, not scenes.
    mask_class
        Values of mask rasters that are settlement.
    asset
        Key of the STAC asset to read, where items have several pictures.
    reference_year
        Label of the year that places, and with ``normalize="reference"`` brightness, are matched to;
        by default the last.
    align
        Whether years are moved onto the reference year by what was measured.
    workers
        Years predicted at a time, each in a process of its own.
    spread
        Whose workers predict the years, where a scheduler is named.
    classifier
        A file that says which cells of ground are worth a closer look.
    layers
        Whether each year's probability on the ground is among the products.
    smoothing
        None leaves the years as they are.
    follow
        Outlines that are followed; None where the model finds settlements.
    """

    out: Path
    model: Path | None = None
    foundation: str | None = None
    threshold: float = 0.5
    masks: bool = False
    mask_class: tuple[int, ...] | None = None
    asset: str | None = None
    reference_year: str | None = None
    align: bool = False
    workers: int = 1
    spread: SpreadOptions = field(default_factory=SpreadOptions)
    classifier: Path | None = None
    smoothing: SmoothingOptions | None = None
    follow: FollowOptions | None = None
    ground: GroundOptions = field(default_factory=GroundOptions)
    products: ProductOptions = field(default_factory=ProductOptions)
    read: ReadOptions = field(default_factory=ReadOptions)
    run: RunOptions = field(default_factory=RunOptions)
    layers: bool = False
    overwrite: bool = False
    resume: bool = False
    quiet: bool = False
