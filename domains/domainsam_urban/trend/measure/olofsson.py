"""Error-adjusted areas from a reference sample, stratified by the map.

Olofsson, Foody, Herold, Stehman, Woodcock and Wulder (2014), "Good practices
for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, 42-57. The map divides the ground into strata; a sample in
each tells which share of it is truly what. Areas are then those of the truth,
not of the map, and come with a standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from domainsam.grid import Float64


@dataclass(frozen=True, eq=False)
class Accuracy:
    """What a stratified sample says of a map of ``K`` classes.

    Parameters
    ----------
    proportion
        ``(K,)`` estimated share of the ground that truly is each class (equation 9).
    proportion_error
        ``(K,)`` its standard error (equation 10).
    covariance
        ``(K, K)`` of the estimated shares; its diagonal is the square of ``proportion_error``.
    users, users_error
        ``(K,)`` share of what the map calls a class that truly is it (equations 2 and 6), standard error.
    producers, producers_error
        ``(K,)`` share of what truly is a class that the map calls so (equations 3 and 7), standard error.
    overall, overall_error
        Share of the ground that the map has right (equations 1 and 5), standard error.
    sampled
        ``(K,)`` sampled units in each stratum.
    """

    proportion: Float64
    proportion_error: Float64
    covariance: Float64
    users: Float64
    users_error: Float64
    producers: Float64
    producers_error: Float64
    overall: float
    overall_error: float
    sampled: NDArray[np.int64]


def assess(counts: ArrayLike, areas: ArrayLike) -> Accuracy:
    """Accuracy and true shares from counted points.

    Parameters
    ----------
    counts
        ``(K, K)`` points; rows are what the map says, columns what is true.
    areas
        ``(K,)`` mapped area of each class, in any unit.

    Raises
    ------
    ValueError
        If a stratum with an area holds fewer than two points.
    """
    counts = np.asarray(counts, dtype=np.float64)
    weights = np.asarray(areas, dtype=np.float64) / np.sum(areas)
    number = counts.sum(axis=1)
    _require_sampled(number, weights)
    inside = np.divide(counts, number[:, None], out=np.zeros_like(counts), where=number[:, None] > 0)
    spread = weights**2 / np.maximum(number - 1, 1)
    covariance = np.diag(spread @ inside) - (spread[:, None] * inside).T @ inside
    return _accuracy(inside, covariance, weights, number.astype(np.int64))


def assess_clusters(stratum: ArrayLike, size: ArrayLike, truth: ArrayLike, areas: ArrayLike) -> Accuracy:
    """Accuracy and true shares from sampled units of unequal size, such as polygons.

    The pixels of a polygon err together, so a polygon is one unit of the
    sample, not as many as it has pixels. Within a stratum the share of a class
    is a ratio of two sums over units, its variance that of the ratio estimator
    for clusters (Cochran 1977, "Sampling Techniques", section 9A, to first
    order). Units of size 1 give :func:`assess`.

    Parameters
    ----------
    stratum
        ``(N,)`` what the map says of each unit's part; a polygon that the map divides is a unit in each.
    size
        ``(N,)`` area or pixels of the part.
    truth
        ``(N, K)`` of it, what truly is each class.
    areas
        ``(K,)`` mapped area of each class.

    Raises
    ------
    ValueError
        If a stratum with an area holds fewer than two units.
    """
    stratum = np.asarray(stratum, dtype=np.int64)
    size, truth = np.asarray(size, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    weights = np.asarray(areas, dtype=np.float64) / np.sum(areas)
    classes = len(weights)
    number = np.bincount(stratum, minlength=classes).astype(np.float64)
    _require_sampled(number, weights)
    inside = np.zeros((classes, classes))
    covariance = np.zeros((classes, classes))
    for one in np.flatnonzero(number):
        here = stratum == one
        total = size[here].sum()
        # Two sums of the same sizes may differ in their last digit.
        inside[one] = np.minimum(truth[here].sum(axis=0) / total, 1)
        residual = truth[here] - size[here, None] * inside[one]
        mean = total / number[one]
        # Cochran's n - 1 becomes equation 10's for units of one size; the finite population is ignored.
        scale = weights[one] ** 2 / (number[one] * max(number[one] - 1, 1) * mean**2)
        covariance += scale * residual.T @ residual
    return _accuracy(inside, covariance, weights, number.astype(np.int64))


def compute_z_value(level: float) -> float:
    """Half width, in standard errors, of an interval that holds ``level`` of a normal distribution."""
    return float(ndtri((1 + level) / 2))


def _require_sampled(number: Float64, weights: Float64) -> None:
    poor = np.flatnonzero((number < 2) & (weights > 0))
    if len(poor):
        raise ValueError(f"strata {poor.tolist()} hold fewer than two sampled units")


def _accuracy(inside: Float64, covariance: Float64, weights: Float64, number: NDArray[np.int64]) -> Accuracy:
    """All measures from shares within strata ``(K, K)``, and the covariance of the true shares."""
    cells = weights[:, None] * inside
    true = cells.sum(axis=0)
    right = np.diag(inside).copy()
    spread = np.maximum(number - 1, 1)
    users_variance = right * (1 - right) / spread
    right[number == 0] = np.nan
    producers = np.divide(np.diag(cells), true, out=np.full_like(true, np.nan), where=true > 0)
    return Accuracy(
        true,
        np.sqrt(np.maximum(np.diag(covariance), 0)),
        covariance,
        right,
        np.sqrt(users_variance),
        producers,
        _producers_error(inside, weights, producers, true, spread),
        float(np.trace(cells)),
        float(np.sqrt((weights**2 * users_variance).sum())),
        number,
    )


def _producers_error(
    inside: Float64, weights: Float64, producers: Float64, true: Float64, spread: NDArray[np.int64]
) -> Float64:
    """Standard error of producer's accuracy (equation 7), with shares of the ground in place of pixels."""
    variance = weights[:, None] ** 2 * inside * (1 - inside) / spread[:, None]
    own = np.diag(variance)
    others = variance.sum(axis=0) - own
    known = np.nan_to_num(producers)
    squared = (1 - known) ** 2 * own + known**2 * others
    error: Float64 = np.sqrt(squared) / np.where(true > 0, true, np.nan)
    return error
