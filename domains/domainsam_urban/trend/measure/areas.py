"""Areas by year and place, and changes between years."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from domainsam_urban.trend.measure.bounds import Bounds, Estimate
from domainsam_urban.trend.measure.tallies import Tally
from domainsam_urban.trend.read.zones import WHOLE
from domainsam_urban.trend.settings import UncertaintyOptions
from domainsam_urban.trend.stack import YearStack

BOUNDS = "threshold and block bootstrap"
SAMPLE = "reference sample (Olofsson et al. 2014)"
POOLED = "reference sample, error rates of the whole area"
NET_ONLY = "net: reference sample; gain and loss: threshold"
"""How figures were made: from the map alone; from a sample of the same ground; of the whole area; in part."""
COMMON, OWN = "common", "own"
"""Extents: what all years saw, and what a year itself saw."""
YEAR_DAYS = 365.25

Counts = Mapping[tuple[str, str, str], Estimate]
"""Number of settlements by kind of place, place and year."""


@dataclass(frozen=True)
class YearFigure:
    """Settlement in one place and year.

    ``share`` is of the valid area, 0 to 1. ``count`` is unknown where
    settlements were not counted.
    """

    series: str
    kind: str
    place: str
    extent: str
    year: str
    moment: datetime | None
    place_ha: float
    valid_ha: float
    area: Estimate
    count: Estimate
    method: str

    @property
    def share(self) -> Estimate:
        """Area over valid area."""
        return self.area.scaled(1 / self.valid_ha if self.valid_ha > 0 else math.nan)


@dataclass(frozen=True)
class ChangeFigure:
    """What changed in one place between two years, on ground that all years saw.

    ``rate`` is per year, compound, as a share of what was there the year
    before, see :func:`compute_annual_rate`; unknown where there was nothing or
    a date is missing.
    """

    series: str
    kind: str
    place: str
    early: str
    late: str
    years: float
    valid_ha: float
    net: Estimate
    gain: Estimate
    loss: Estimate
    rate: Estimate
    method: str


@dataclass(frozen=True)
class Figures:
    """All figures of a trend."""

    years: tuple[YearFigure, ...]
    changes: tuple[ChangeFigure, ...]

    def of_years(
        self, kind: str = WHOLE, extent: str = COMMON, series: str | None = None
    ) -> list[YearFigure]:
        """Figures of one kind of places; of the first series unless told."""
        wanted = series or self.years[0].series
        return [f for f in self.years if (f.kind, f.extent, f.series) == (kind, extent, wanted)]

    def of_changes(self, kind: str = WHOLE, series: str | None = None) -> list[ChangeFigure]:
        """Changes in one kind of places; of the first series unless told."""
        wanted = series or self.years[0].series
        return [f for f in self.changes if (f.kind, f.series) == (kind, wanted)]

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the series, the main one first."""
        return tuple(dict.fromkeys(figure.series for figure in self.years))


def make_bounded_figures(
    stack: YearStack, tallies: Sequence[Tally], options: UncertaintyOptions, series: str, counts: Counts
) -> Figures:
    """Figures whose low and high values come from the map alone."""
    years: list[YearFigure] = []
    changes: list[ChangeFigure] = []
    for tally in tallies:
        kind = tally.zoning.kind
        for place, name in enumerate(tally.zoning.names):
            bounds = Bounds.of(
                tally,
                place,
                options.draws,
                options.level,
                options.seed,
                instability=options.instability,
            )
            years += [
                YearFigure(
                    series,
                    kind,
                    name,
                    COMMON,
                    year.label,
                    year.moment,
                    float(tally.place_ha[place]),
                    float(tally.valid_ha[place]),
                    bounds.area(index),
                    counts.get((kind, name, year.label), Estimate.unknown()),
                    BOUNDS,
                )
                for index, year in enumerate(stack.years)
            ]
            changes += _changes(stack, tally, place, bounds, series)
            if kind == WHOLE:
                years += _own_extent(stack, tally, place, options, series)
    return Figures(tuple(years), tuple(changes))


def compute_annual_rate(early: Estimate, net: Estimate, years: float) -> Estimate:
    """Share by which an area grew each year, compound: ``((early + net) / early) ** (1 / years) - 1``.

    It is the rate ``q`` of FAO's forest resources assessments (Puyravaud 2003,
    "Standardizing the calculation of the annual rate of deforestation",
    equation 6), and never below -1. Its ends are those of the net change
    beside it, so that both have one sign, and both leave out 0 or neither does.
    """
    if not (years > 0 and early.central > 0 and net.known):
        return Estimate.unknown()

    def rate(change: float) -> float:
        factor = max(early.central + change, 0.0) / early.central
        return math.expm1(math.log(factor) / years) if factor > 0 else -1.0

    return Estimate(rate(net.low), rate(net.central), rate(net.high))


def count_years(early: datetime | None, late: datetime | None) -> float:
    """Years from one moment to the other; NaN where one is missing."""
    if early is None or late is None:
        return math.nan
    return (late - early).total_seconds() / 86400 / YEAR_DAYS


def _changes(stack: YearStack, tally: Tally, place: int, bounds: Bounds, series: str) -> list[ChangeFigure]:
    figures = []
    for pair, (early, late) in enumerate(tally.pairs):
        one, other = stack.years[early], stack.years[late]
        span = count_years(one.moment, other.moment)
        figures.append(
            ChangeFigure(
                series,
                tally.zoning.kind,
                tally.zoning.names[place],
                one.label,
                other.label,
                span,
                float(tally.valid_ha[place]),
                bounds.net(early, late),
                bounds.gain(pair),
                bounds.loss(pair),
                compute_annual_rate(bounds.area(early), bounds.net(early, late), span),
                BOUNDS,
            )
        )
    return figures


def _own_extent(
    stack: YearStack, tally: Tally, place: int, options: UncertaintyOptions, series: str
) -> list[YearFigure]:
    """Each year over all that it saw itself: not to be compared with other years."""
    bounds = Bounds.of(
        tally, place, options.draws, options.level, options.seed, own=True, instability=options.instability
    )
    return [
        YearFigure(
            series,
            tally.zoning.kind,
            tally.zoning.names[place],
            OWN,
            year.label,
            year.moment,
            float(tally.place_ha[place]),
            float(tally.own_valid_ha[place, index]),
            bounds.area(index),
            Estimate.unknown(),
            BOUNDS,
        )
        for index, year in enumerate(stack.years)
    ]
