"""What ``domainsam urban trend`` may be told, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from domainsam_urban.map_options import ReadOptions, RunOptions
from domainsam_urban.trend.product_options import ProductOptions


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
    classifier
        A file that says which cells of ground are worth a closer look.
    layers
        Whether each year's probability on the ground is among the products.
    smoothing
        None leaves the years as they are.
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
    classifier: Path | None = None
    smoothing: SmoothingOptions | None = None
    ground: GroundOptions = field(default_factory=GroundOptions)
    products: ProductOptions = field(default_factory=ProductOptions)
    read: ReadOptions = field(default_factory=ReadOptions)
    run: RunOptions = field(default_factory=RunOptions)
    layers: bool = False
    overwrite: bool = False
    resume: bool = False
    quiet: bool = False
