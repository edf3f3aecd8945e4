"""Low and high areas from the map alone: threshold bounds and a block bootstrap.

Two doubts are told apart. The *threshold* may be wrong for the whole scene,
and outlines lie a pixel off: areas are counted again with the threshold moved
and the outline a pixel further in, and out. And the map may err here one way
and there another: every block draws a threshold of its own, evenly from 0
to 1, as if its pixels were right or wrong together and other blocks had
nothing to do with it. If a probability of p means settlement in a share p of
places, the sum over blocks then has the right mean, and its spread is that of
errors as wide as a block. The interval reaches over both. A third is
*instability*: the same ground in another file, a little further along or
resampled once more, gets a slightly other answer from a network, and two years
differ by as much where nothing has changed. It is measured beforehand
(``benchmarks/stability.py``), and its distance is added to the others as
independent errors are. None of them knows of settlements that the map does not
see at all, or sees with certainty where there are none; only reference data does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam_urban.trend.measure.tallies import CENTRAL, HIGH, LOW, STEPS, Tally

CHUNK = 1 << 21
"""Drawn thresholds held at once."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds for one place.

    Parameters
    ----------
    thresholds
        ``(Y, 3)`` hectares that are settlement surely, by the threshold, and possibly.
    draws
        ``(R, Y)`` hectares of every draw.
    moves
        ``(P, 4, 4)``, see :class:`domainsam_urban.trend.measure.tallies.Tally`.
    level
        Share of draws between the ends of an interval.
    instability
        Share of an area by which answers for the same ground differ.
    seen
        ``(Y,)`` hectares that were seen: no area is larger; None where that is not known.
    """

    thresholds: Float64
    draws: Float64
    moves: Float64
    level: float
    instability: float = 0.0
    seen: Float64 | None = None

    @classmethod
    def of(
        cls,
        tally: Tally,
        place: int,
        draws: int,
        level: float,
        seed: int,
        own: bool = False,
        instability: float = 0.0,
    ) -> Bounds:
        """Draw for one place of a tally; ``own`` counts each year's own extent.

        Both extents are drawn alike, so that the smaller one never gets the larger area.
        """
        cells = tally.cell_place == place
        areas = (tally.own_at_least if own else tally.at_least)[cells]
        # Blocks without any settlement at any level add nothing to any draw.
        some = tally.own_at_least[cells, :, 0] > 0
        random = np.random.default_rng([seed, place])
        return cls(
            areas[:, :, [LOW, CENTRAL, HIGH]].sum(axis=0),
            _drawn(areas[:, :, :STEPS], some, draws, random),
            tally.moves[place],
            level,
            instability,
            tally.own_valid_ha[place] if own else np.full(areas.shape[1], tally.valid_ha[place]),
        )

    def area(self, year: int) -> Estimate:
        """Hectares of settlement in a year."""
        low, high = self._ends(self.draws[:, year])
        strict, central, lax = self.thresholds[year]
        span = Estimate.spanning(central, strict, lax, low, high)
        if not self.instability:
            return span
        moved = self.instability * central
        below, above = math.hypot(central - span.low, moved), math.hypot(span.high - central, moved)
        most = math.inf if self.seen is None else max(float(self.seen[year]), span.high)
        return Estimate(max(0.0, central - below), central, min(central + above, most))

    def net(self, early: int, late: int) -> Estimate:
        """Hectares more in the later year; the two years are taken to err independently."""
        return subtract_estimates(self.area(late), self.area(early))

    def gain(self, pair: int) -> Estimate:
        """Hectares that became settlement: surely, by the threshold, possibly."""
        return _crossed(self.moves[pair])

    def loss(self, pair: int) -> Estimate:
        """Hectares that ceased to be settlement: surely, by the threshold, possibly."""
        return _crossed(self.moves[pair].T)

    def _ends(self, values: Float64) -> tuple[float, float]:
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)


def _crossed(moves: Float64) -> Estimate:
    """From below to above: of rows (earlier) and columns (later) by class."""
    return Estimate(float(moves[0, 3]), float(moves[:2, 2:].sum()), float(moves[:3, 1:].sum()))


def _drawn(areas: Float64, some: NDArray[np.bool_], draws: int, random: np.random.Generator) -> Float64:
    """Sums ``(R, Y)`` over blocks ``(C, Y, STEPS)``, of ``some`` ``(C, Y)``, each at a level of its own."""
    number, years, _ = areas.shape
    sums = np.zeros((draws, years))
    rows = max(1, CHUNK // max(1, number))
    for year in range(years):
        blocks = areas[some[:, year], year]
        for start in range(0, draws, rows):
            count = min(rows, draws - start)
            picks = random.integers(STEPS, size=(count, len(blocks)))
            sums[start : start + count, year] = blocks[np.arange(len(blocks)), picks].sum(axis=1)
    return sums


@dataclass(frozen=True)
class Estimate:
    """A central figure between a low and a high one; all NaN where there is none."""

    low: float
    central: float
    high: float

    @classmethod
    def unknown(cls) -> Estimate:
        """No figure."""
        return cls(math.nan, math.nan, math.nan)

    @classmethod
    def spanning(cls, central: float, *others: float) -> Estimate:
        """From the smallest to the largest of all values given."""
        return cls(min(central, *others), central, max(central, *others))

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return math.isfinite(self.central)

    def scaled(self, factor: float) -> Estimate:
        """Every value times a factor that is not negative; unknown if the factor is."""
        if not math.isfinite(factor):
            return Estimate.unknown()
        return Estimate(self.low * factor, self.central * factor, self.high * factor)

    def holds(self, value: float) -> bool:
        """Whether a value lies between low and high, ends included."""
        return self.low <= value <= self.high


def subtract_estimates(one: Estimate, other: Estimate) -> Estimate:
    """One less the other, their errors taken as independent.

    Zou and Donner 2008, "Construction of confidence limits about effect
    measures", Statistics in Medicine 27, 1693-1702: distances to the ends add
    up as squares, the lower end of one meeting the upper end of the other.
    """
    central = one.central - other.central
    below = math.hypot(one.central - one.low, other.high - other.central)
    above = math.hypot(one.high - one.central, other.central - other.low)
    return Estimate(central - below, central, central + above)
