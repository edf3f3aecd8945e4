"""Estimate areas from the strata that a reference sample was drawn by, whatever the map shows now.

Where a sample's strata are not the classes of a year's map (strata of change,
a buffer round the settlement), the map's classes hold places of unequal
weight. Estimates within the strata that the sample was drawn by are unbiased
all the same, and narrower: Stehman (2014), "Estimating area and map accuracy
for stratified random sampling when the strata are different from the map
classes", International Journal of Remote Sensing 35(13), 4923-4939.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam_urban.trend.measure.olofsson import Accuracy
from domainsam_urban.trend.read.reference import Units


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sample by the strata that it was drawn by.

    Parameters
    ----------
    area
        ``(H,)`` hectares of each stratum, which together are the ground.
    stratum
        ``(N,)`` index of each place's stratum.
    mapped
        ``(N, Y)`` 1 where the map says settlement, 0 where other, -1 where a place was not looked at or seen.
    truth
        ``(N, Y)`` 1, 0, or -1 where ``mapped`` is.
    """

    area: Float64
    stratum: NDArray[np.int64]
    mapped: NDArray[np.int64]
    truth: NDArray[np.int64]

    def share(self, years: tuple[int, ...], true: Callable[..., NDArray[np.bool_]]) -> Shares | None:
        """Share of places in each stratum of which something is true, among those known in all ``years``.

        Parameters
        ----------
        true
            Takes the truth ``(n,)`` of each of ``years``.

        Returns
        -------
        Shares or None
            None where a stratum has fewer than two such places.
        """
        known = (self.truth[:, years] >= 0).all(axis=1)
        number = np.bincount(self.stratum[known], minlength=len(self.area))
        if (number < 2).any():
            return None
        yes = np.asarray(true(*self.truth[known][:, years].T), dtype=np.float64)
        found = np.bincount(self.stratum[known], weights=yes, minlength=len(self.area))
        return Shares(found / number, number)

    def assess(self, year: int) -> Accuracy | None:
        """Accuracy of a year's map and the true shares; None where a stratum has fewer than two places."""
        known = self.truth[:, year] >= 0
        number = np.bincount(self.stratum[known], minlength=len(self.area))
        if (number < 2).any():
            return None
        weights = self.area / self.area.sum()
        return assess_strata(self.stratum[known], self.mapped[known, year], self.truth[known, year], weights)


@dataclass(frozen=True, eq=False)
class Shares:
    """``(H,)`` share of places of which something is true, of ``number`` ``(H,)`` in each stratum."""

    share: Float64
    number: NDArray[np.int64]


def find_drawn_strata(units: Units, ground_ha: float) -> Drawn | None:
    """The strata that a sample says it was drawn by, with their areas.

    None where it does not say them, where there is but one, where one has no
    place that all years saw, or where its places are polygons, which no
    single stratum holds.

    Parameters
    ----------
    ground_ha
        Hectares that the strata's areas are scaled to: the file may give them in another unit.
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
    return Drawn(
        area / area.sum() * ground_ha,
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
