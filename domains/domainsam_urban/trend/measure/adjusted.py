"""Error-adjusted areas from reference data and the map together.

The estimator is that of Olofsson et al. 2014 (:mod:`domainsam_urban.trend.measure.olofsson`).
Its interval, the estimate plus and minus 1.96 standard errors, has no width
where the sample happens to hold no error, which for rare errors is often. The
ends given here therefore combine Wilson's intervals of the shares in each
stratum (Zou and Donner 2008, "Construction of confidence limits about effect
measures", the MOVER method); with many errors in the sample the two agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from domainsam.grid import Float64
from domainsam_urban.trend.measure.areas import (
    COMMON,
    NET_ONLY,
    POOLED,
    SAMPLE,
    ChangeFigure,
    Figures,
    YearFigure,
    compute_annual_rate,
)
from domainsam_urban.trend.measure.bounds import Estimate, subtract_estimates
from domainsam_urban.trend.measure.design import find_design
from domainsam_urban.trend.measure.drawn import Drawn, find_drawn_strata
from domainsam_urban.trend.measure.olofsson import Accuracy, assess_clusters, compute_z_value
from domainsam_urban.trend.measure.tallies import CENTRAL, Tally
from domainsam_urban.trend.read.reference import Units
from domainsam_urban.trend.read.zones import WHOLE
from domainsam_urban.trend.stack import YearStack

FEW = 30
"""Fewer sampled units than this in a stratum are pointed out; Olofsson et al. 2014 advise 50 or more."""


@dataclass(frozen=True, eq=False)
class Rates:
    """Share of each map stratum that truly is something, with Wilson's interval.

    All ``(S,)``; ``number`` is the sampled units, or the effective number of
    them where units are polygons.
    """

    share: Float64
    low: Float64
    high: Float64

    @classmethod
    def of(cls, share: ArrayLike, number: ArrayLike, level: float) -> Rates:
        """Wilson's score interval (Wilson 1927) of each share."""
        p, n, z = np.asarray(share, float), np.asarray(number, float), compute_z_value(level)
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return cls(
            p, np.minimum(np.maximum(centre - half, 0), p), np.maximum(np.minimum(centre + half, 1), p)
        )

    def total(self, areas: Float64) -> Estimate:
        """Area of the truth from mapped areas ``(S,)``."""
        known = np.where(areas > 0, self.share, 0)
        below = np.where(areas > 0, self.share - self.low, 0)
        above = np.where(areas > 0, self.high - self.share, 0)
        central = float((areas * known).sum())
        low = central - float(np.sqrt(((areas * below) ** 2).sum()))
        high = central + float(np.sqrt(((areas * above) ** 2).sum()))
        return Estimate(max(low, 0.0), central, min(high, float(areas.sum())))


@dataclass(frozen=True, eq=False)
class YearAccuracy:
    """How well a year's map fares against the reference; class 0 is other, 1 is settlement."""

    series: str
    year: str
    mapped_ha: float
    accuracy: Accuracy
    total_ha: float

    @property
    def standard_error_ha(self) -> float:
        """Of the error-adjusted settlement area (Olofsson et al. 2014, equation 11)."""
        return float(self.accuracy.proportion_error[1]) * self.total_ha


@dataclass(frozen=True, eq=False)
class Adjustment:
    """Figures with reference data in them, how each year fared, and what to know about it."""

    figures: Figures
    accuracies: tuple[YearAccuracy, ...]
    notes: tuple[str, ...]


def adjust(
    stack: YearStack, figures: Figures, tallies: Sequence[Tally], units: Units, level: float, series: str
) -> Adjustment:
    """Replace figures by error-adjusted ones, for every year whose sample allows it.

    Zones and rings take over the error rates of the whole area, as their own
    samples are small: the map is taken to err there as it does elsewhere.
    Between two years whose sample has the same places looked at in both, gain
    and loss are estimated from strata of change; otherwise the net change
    alone is, as a difference of two independent estimates. Where the sample says
    by which strata it was drawn, figures of the whole ground come from those.
    """
    ground = next(tally for tally in tallies if tally.zoning.kind == WHOLE)
    design = find_design(
        units, stack.labels, ground.pairs, [_moved(ground, index)[0] for index in range(len(ground.pairs))]
    )
    if design.units is None:
        return Adjustment(figures, (), design.notes)
    units = design.units
    mapped = _mapped(ground)[0]
    rates: dict[int, Rates] = {}
    accuracies, notes = [], list(design.notes)
    strata = _Strata(find_drawn_strata(units, float(ground.valid_ha[0]), stack.ground.pixel_ha), level)
    for year, label in enumerate(stack.labels):
        stratum, size, truth = _year_sample(units, year)
        number = np.bincount(stratum, minlength=2)
        if (number < 2).any() and (mapped[year][number < 2] > 0).any():
            notes.append(
                f"{label}: {number[1]} reference places where the map says settlement and {number[0]} "
                "elsewhere are too few; its bounds come from the map alone"
            )
            continue
        if number.min() < FEW:
            notes.append(
                f"{label}: only {number[1]} reference places where the map says settlement and {number[0]} "
                f"elsewhere; {FEW} or more of each make intervals that can be relied upon"
            )
        accuracy = strata.assess(year) or assess_clusters(
            stratum, size, np.column_stack([size - truth, truth]), mapped[year]
        )
        accuracies.append(
            YearAccuracy(series, label, float(mapped[year][1]), accuracy, float(mapped[year].sum()))
        )
        rates[year] = _rates(stratum, size, truth, 2, level)
    changes = {
        pair: _change_rates(units, pair, _moved(ground, index)[0], level)
        for index, pair in enumerate(ground.pairs)
    }
    years_out = [_adjusted_year(figure, stack, tallies, rates, series, strata) for figure in figures.years]
    areas = {(f.kind, f.place, f.year): f for f in years_out if f.extent == COMMON}
    changes_out = [
        _adjusted_change(figure, stack, tallies, rates, changes, areas, strata) for figure in figures.changes
    ]
    return Adjustment(Figures(tuple(years_out), tuple(changes_out)), tuple(accuracies), tuple(notes))


@dataclass(frozen=True, eq=False)
class _Strata:
    """The strata that the sample says it was drawn by; everything is None where it does not."""

    drawn: Drawn | None
    level: float

    def assess(self, year: int) -> Accuracy | None:
        return None if self.drawn is None else self.drawn.assess(year)

    def year(self, year: int) -> Estimate | None:
        """Settlement of a year on the whole ground."""
        return None if self.drawn is None else self.drawn.estimate_area(year, self.level)

    def change(self, pair: tuple[int, int]) -> tuple[Estimate, Estimate, Estimate] | None:
        """Gain, loss and net change on the whole ground."""
        return None if self.drawn is None else self.drawn.estimate_change(pair, self.level)


def _mapped(tally: Tally) -> Float64:
    """Mapped hectares ``(Z, Y, 2)``: other, settlement."""
    settled = np.zeros((len(tally.zoning.names), tally.at_least.shape[1]))
    np.add.at(settled, tally.cell_place, tally.at_least[:, :, CENTRAL])
    return np.stack([np.maximum(tally.valid_ha[:, None] - settled, 0), settled], axis=-1)


def _moved(tally: Tally, pair: int) -> Float64:
    """Mapped hectares ``(Z, 4)`` by change: stayed other, became, ceased, stayed settlement."""
    moves = tally.moves[:, pair]
    halves = moves.reshape(len(moves), 2, 2, 2, 2).sum(axis=(2, 4))
    return halves.reshape(-1, 4)


def _year_sample(units: Units, year: int) -> tuple[Any, Float64, Float64]:
    """Stratum, size and settlement of every part of a unit in a year; a divided polygon has two parts."""
    known = units.truth[:, year] >= 0
    size, truth = units.size[known, year], units.truth[known, year]
    place, stratum = np.nonzero(size > 0)
    sizes = size[place, stratum]
    return stratum, sizes, sizes * truth[place]


def _rates(stratum: Float64, size: Float64, truth: Float64, strata: int, level: float) -> Rates:
    """Share of settlement in each stratum; polygons count as many units as their spread leaves them."""
    share, effective = np.zeros(strata), np.ones(strata)
    for one in range(strata):
        here = stratum == one
        number = int(here.sum())
        if not number:
            share[one] = math.nan
            continue
        share[one] = p = truth[here].sum() / size[here].sum()
        residual = truth[here] - p * size[here]
        variance = (residual**2).sum() / (number * max(number - 1, 1) * size[here].mean() ** 2)
        # Kish's effective number; without any spread, units weigh by their sizes.
        weighed = size[here].sum() ** 2 / (size[here] ** 2).sum()
        effective[one] = p * (1 - p) / variance + 1 if variance > 0 and 0 < p < 1 else weighed
        effective[one] = min(effective[one], number)
    return Rates.of(share, effective, level)


def _change_rates(
    units: Units, pair: tuple[int, int], mapped: Float64, level: float
) -> tuple[Rates, Rates] | None:
    """Rates of gain and of loss in each stratum of change; None where the sample does not allow it."""
    truth = units.truth[:, list(pair)]
    one = units.size[:, pair[0]].sum(axis=1)
    # Polygons that the map divides have no one stratum of change.
    whole = (
        (truth >= 0).all(axis=1) & (one > 0) & (one == units.size[:, list(pair)].max(axis=2).T).all(axis=0)
    )
    stratum = units.size[whole][:, pair[0]].argmax(axis=1) * 2 + units.size[whole][:, pair[1]].argmax(axis=1)
    if ((np.bincount(stratum, minlength=4) < 2) & (mapped > 0)).any():
        return None
    size, before, after = one[whole], truth[whole, 0], truth[whole, 1]
    gained = size * ((before == 0) & (after == 1))
    lost = size * ((before == 1) & (after == 0))
    return _rates(stratum, size, gained, 4, level), _rates(stratum, size, lost, 4, level)


def _adjusted_year(
    figure: YearFigure,
    stack: YearStack,
    tallies: Sequence[Tally],
    rates: dict[int, Rates],
    series: str,
    strata: _Strata,
) -> YearFigure:
    year = stack.labels.index(figure.year)
    if figure.extent != COMMON or figure.series != series or year not in rates:
        return figure
    tally, place = _place(tallies, figure.kind, figure.place)
    whole = strata.year(year) if figure.kind == WHOLE else None
    area = whole or rates[year].total(_mapped(tally)[place, year])
    return replace(figure, area=area, method=SAMPLE if figure.kind == WHOLE else POOLED)


def _adjusted_change(
    figure: ChangeFigure,
    stack: YearStack,
    tallies: Sequence[Tally],
    rates: dict[int, Rates],
    changes: dict[tuple[int, int], tuple[Rates, Rates] | None],
    areas: dict[tuple[str, str, str], YearFigure],
    strata: _Strata,
) -> ChangeFigure:
    pair = (stack.labels.index(figure.early), stack.labels.index(figure.late))
    if not (pair[0] in rates and pair[1] in rates):
        return figure
    early, late = (areas[figure.kind, figure.place, label].area for label in (figure.early, figure.late))
    net = subtract_estimates(late, early)
    moves = strata.change(pair) if figure.kind == WHOLE else None
    paired = changes[pair]
    if moves is None and paired is not None:
        tally, place = _place(tallies, figure.kind, figure.place)
        moved = _moved(tally, tally.pairs.index(pair))[place]
        gain, loss = paired[0].total(moved), paired[1].total(moved)
        moves = gain, loss, subtract_estimates(gain, loss)
    if moves is None:
        rate = compute_annual_rate(early, net, figure.years)
        return replace(figure, net=net, rate=rate, method=NET_ONLY)
    gain, loss, net = moves
    method = SAMPLE if figure.kind == WHOLE else POOLED
    rate = compute_annual_rate(early, net, figure.years)
    return replace(figure, net=net, gain=gain, loss=loss, rate=rate, method=method)


def _place(tallies: Sequence[Tally], kind: str, place: str) -> tuple[Tally, int]:
    tally = next(tally for tally in tallies if tally.zoning.kind == kind)
    return tally, tally.zoning.names.index(place)
