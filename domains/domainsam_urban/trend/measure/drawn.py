"""Estimate areas from the strata that a reference sample was drawn by, whatever the map shows now.

Where a sample's strata are not the classes of a year's map (strata of change,
a buffer round the settlement), the map's classes hold places of unequal
weight. Estimates within the strata that the sample was drawn by are unbiased
all the same, and narrower: Stehman (2014), "Estimating area and map accuracy
for stratified random sampling when the strata are different from the map
classes", International Journal of Remote Sensing 35(13), 4923-4939.

Ends of intervals come from Jeffreys's interval of the share in each stratum
(Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion",
Statistical Science 16(2), 101-133), combined as Zou and Donner (2008) do:
Wilson's, which a map's two classes have, is too wide where a large stratum
holds no error in the sample. ``benchmarks/urban_sample_coverage.py`` measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from domainsam.grid import Float64
from domainsam_urban.trend.measure.bounds import Estimate, subtract_estimates
from domainsam_urban.trend.measure.olofsson import Accuracy, compute_z_value
from domainsam_urban.trend.read.reference import Units

ENOUGH = 10
"""Places that changed, from which the net change is normal enough for its standard error to be used."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sample by the strata that it was drawn by.

    Parameters
    ----------
    area, pixels
        ``(H,)`` hectares and pixels of each stratum, which together are the ground.
    stratum
        ``(N,)`` index of each place's stratum.
    mapped
        ``(N, Y)`` 1 where the map says settlement, 0 where other, -1 where a place was not looked at or seen.
    truth
        ``(N, Y)`` 1, 0, or -1 where ``mapped`` is.
    """

    area: Float64
    pixels: Float64
    stratum: NDArray[np.int64]
    mapped: NDArray[np.int64]
    truth: NDArray[np.int64]

    def estimate_area(self, year: int, level: float) -> Estimate | None:
        """Hectares of settlement in a year; None where a stratum has fewer than two places known."""
        known = self._known((year,))
        return None if known is None else self._total(known, self.truth[known, year] == 1, level)

    def estimate_change(
        self, pair: tuple[int, int], level: float
    ) -> tuple[Estimate, Estimate, Estimate] | None:
        """Hectares gained, lost, and net, between two years; None where too few places are known in both."""
        known = self._known(pair)
        if known is None:
            return None
        early, late = self.truth[known][:, pair].T
        gain = self._total(known, (early == 0) & (late == 1), level)
        loss = self._total(known, (early == 1) & (late == 0), level)
        if (early != late).sum() < ENOUGH:
            return gain, loss, subtract_estimates(gain, loss)
        mean, variance = self._moments(known, (late - early).astype(np.float64))
        half = compute_z_value(level) * float(np.sqrt((self.area**2 * variance).sum()))
        central = float(self.area @ mean)
        return gain, loss, Estimate(central - half, central, central + half)

    def _known(self, years: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Places known in all of the years; None where a stratum has fewer than two."""
        known = np.asarray((self.truth[:, years] >= 0).all(axis=1), dtype=np.bool_)
        number = np.bincount(self.stratum[known], minlength=len(self.area))
        return None if (number < 2).any() else known

    def _moments(self, known: NDArray[np.bool_], values: Float64) -> tuple[Float64, Float64]:
        """Mean of a value in each stratum ``(H,)`` and the variance of that mean (Cochran 1977, 5.11)."""
        stratum, count = self.stratum[known], len(self.area)
        number = np.bincount(stratum, minlength=count)
        mean = np.bincount(stratum, weights=values, minlength=count) / number
        squares = np.bincount(stratum, weights=(values - mean[stratum]) ** 2, minlength=count)
        return mean, squares / (number - 1) / number * self._left(number)

    def _left(self, number: NDArray[np.int64]) -> Float64:
        """Share of each stratum's pixels that the sample leaves: what is known of all of it has no error."""
        return np.clip(1 - number / self.pixels, 1e-6, 1)

    def _total(self, known: NDArray[np.bool_], yes: NDArray[np.bool_], level: float) -> Estimate:
        """Hectares of what is true at so many places of each stratum."""
        stratum, count = self.stratum[known], len(self.area)
        number = np.bincount(stratum, minlength=count)
        found = np.bincount(stratum, weights=yes.astype(np.float64), minlength=count)
        share = found / number
        effective = number / self._left(number)
        low, high = find_jeffreys_interval(share * effective, effective, level)
        central = float(self.area @ share)
        below = float(np.sqrt(((self.area * (share - low)) ** 2).sum()))
        above = float(np.sqrt(((self.area * (high - share)) ** 2).sum()))
        return Estimate(max(central - below, 0.0), central, min(central + above, float(self.area.sum())))

    def assess(self, year: int) -> Accuracy | None:
        """Accuracy of a year's map and the true shares; None where a stratum has fewer than two places."""
        known = self._known((year,))
        if known is None:
            return None
        weights = self.area / self.area.sum()
        return assess_strata(self.stratum[known], self.mapped[known, year], self.truth[known, year], weights)


def find_jeffreys_interval(found: Float64, number: Float64, level: float) -> tuple[Float64, Float64]:
    """Ends of Jeffreys's interval of shares ``found / number``.

    Where none was found, or all were, it has one end only, which lies where
    that of a one-sided interval of the same level lies (Louis 1981,
    "Confidence intervals for a binomial parameter after observing no
    successes", The American Statistician 35(3), 154).
    """
    none, every = found <= 0, found >= number
    tail_low = np.where(every, 1 - level, (1 - level) / 2)
    tail_high = np.where(none, level, (1 + level) / 2)
    share = found / number
    low = np.where(none, 0.0, betaincinv(found + 0.5, number - found + 0.5, tail_low))
    high = np.where(every, 1.0, betaincinv(found + 0.5, number - found + 0.5, tail_high))
    return np.minimum(low, share), np.maximum(high, share)


def find_drawn_strata(units: Units, ground_ha: float, pixel_ha: float) -> Drawn | None:
    """The strata that a sample says it was drawn by, with their areas.

    None where it does not say them, where there is but one, where one has no
    place that all years saw, or where its places are polygons, which no
    single stratum holds.

    Parameters
    ----------
    ground_ha, pixel_ha
        Hectares that the strata's areas are scaled to, because the file may give them in another unit,
        and those of a pixel, the unit that is drawn.
    """
    if units.stratum is None or units.strata_area is None:
        return None
    parts = (units.size > 0).sum(axis=2)
    if (parts > 1).any():
        return None
    seen = parts.any(axis=1)
    names = sorted({str(name) for name in units.stratum[seen]})
    if len(names) < 2 or set(names) != set(units.strata_area):
        return None
    area = np.array([units.strata_area[name] for name in names])
    order = {name: index for index, name in enumerate(names)}
    known = parts[seen] > 0
    area = area / area.sum() * ground_ha
    return Drawn(
        area,
        area / pixel_ha,
        np.array([order[str(name)] for name in units.stratum[seen]], dtype=np.int64),
        np.where(known, units.size[seen].argmax(axis=2), -1),
        np.where(known, units.truth[seen], -1).astype(np.int64),
    )


def assess_strata(
    stratum: NDArray[np.int64], mapped: NDArray[np.int64], truth: NDArray[np.int64], weights: Float64
) -> Accuracy:
    """Accuracy of a map of two classes from a sample of other strata (Stehman 2014).

    Parameters
    ----------
    stratum, mapped, truth
        ``(N,)`` stratum from 0, what the map says, what is true.
    weights
        ``(H,)`` share of the ground of each stratum, each with two places at least.
    """
    classes = np.arange(2)
    is_true = (truth[:, None] == classes).astype(np.float64)
    is_mapped = (mapped[:, None] == classes).astype(np.float64)
    right = is_true * is_mapped
    overall = right.sum(axis=1, keepdims=True)
    columns = np.hstack([is_true, is_mapped, right, overall])
    mean, covariance = _estimate(stratum, columns, weights)
    true, said, hit = mean[0:2], mean[2:4], mean[4:6]
    users, users_error = _ratio(hit, said, covariance, (4, 2))
    producers, producers_error = _ratio(hit, true, covariance, (4, 0))
    return Accuracy(
        true,
        np.sqrt(np.diag(covariance)[0:2]),
        covariance[0:2, 0:2],
        users,
        users_error,
        producers,
        producers_error,
        float(mean[6]),
        float(np.sqrt(covariance[6, 6])),
        np.bincount(mapped, minlength=2).astype(np.int64),
    )


def _estimate(stratum: NDArray[np.int64], values: Float64, weights: Float64) -> tuple[Float64, Float64]:
    """Means ``(K,)`` over the ground and their covariance ``(K, K)`` (Stehman 2014, equations 3, 25 and 26).

    The finite population is ignored, as everywhere in a trend: pixels are many.
    """
    mean = np.zeros(values.shape[1])
    covariance = np.zeros((values.shape[1], values.shape[1]))
    for one, weight in enumerate(weights):
        here = values[stratum == one]
        mean += weight * here.mean(axis=0)
        covariance += weight**2 * np.cov(here, rowvar=False, ddof=1) / len(here)
    return mean, covariance


def _ratio(
    over: Float64, under: Float64, covariance: Float64, starts: tuple[int, int]
) -> tuple[Float64, Float64]:
    """Ratios ``(2,)`` of two means and their standard errors (Stehman 2014, equations 27 and 28)."""
    known = under > 0
    ratio = np.divide(over, under, out=np.full(2, np.nan), where=known)
    error = np.full(2, np.nan)
    for one in np.flatnonzero(known):
        y, x = starts[0] + one, starts[1] + one
        spread = covariance[y, y] + ratio[one] ** 2 * covariance[x, x] - 2 * ratio[one] * covariance[y, x]
        error[one] = np.sqrt(max(float(spread), 0.0)) / under[one]
    return ratio, error
