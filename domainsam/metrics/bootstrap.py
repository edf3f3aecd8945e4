"""Bootstrap confidence intervals of pooled scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From summed statistics ``(R, ...)`` to one score each, ``(R,)``."""

_CHUNK = 1 << 22
"""Draws held at once, so that many units do not need much memory."""


@dataclass(frozen=True)
class Interval:
    """A pooled score and the interval that resampling its units gives.

    ``low`` and ``high`` are NaN where there are fewer than two units, or
    where the score is undefined in every resample.
    """

    value: float
    low: float
    high: float
    units: int
    level: float


def bootstrap(
    statistics: ArrayLike,
    score: Score,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile confidence interval of a pooled score (Efron and Tibshirani 1993, chapter 13).

    Units (scenes, or blocks of one) are drawn with replacement; their
    *sufficient statistics*, not their pixels, are summed, and the score of
    each sum is taken. Resamples in which the score is undefined are left out.

    Parameters
    ----------
    statistics
        ``(U, ...)`` additive statistics of each of ``U`` units, such as
        confusion matrices ``(U, K, K)``.
    score
        Vectorised: summed statistics ``(R, ...)`` to scores ``(R,)``.
    level
        Share of resamples inside the interval, between 0 and 1.
    resamples
        Number of draws ``R``.
    seed
        The same seed gives the same draws, so scores of one table move together.

    Raises
    ------
    ValueError
        If there is no unit, or ``level`` or ``resamples`` is impossible.
    """
    statistics = np.asarray(statistics, np.float64)
    if statistics.ndim == 0 or len(statistics) == 0:
        raise ValueError("bootstrap needs at least one unit")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level {level} must lie between 0 and 1, and resamples {resamples} be 1 or more")
    units = len(statistics)
    value = float(score(statistics.sum(axis=0, keepdims=True))[0])
    if units < 2:
        return Interval(value, float("nan"), float("nan"), units, level)
    scores = np.concatenate([score(sums) for sums in _resampled_sums(statistics, resamples, seed)])
    scores = scores[np.isfinite(scores)]
    if scores.size == 0:
        return Interval(value, float("nan"), float("nan"), units, level)
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), units, level)


def _resampled_sums(statistics: NDArray[np.float64], resamples: int, seed: int) -> list[NDArray[np.float64]]:
    """Sums of resampled units, ``(r, ...)`` at a time; a unit drawn twice counts twice."""
    units, rest = len(statistics), statistics.shape[1:]
    flat = statistics.reshape(units, -1)
    generator = np.random.default_rng(seed)
    shares = np.full(units, 1 / units)
    sums, step = [], max(1, _CHUNK // units)
    for start in range(0, resamples, step):
        times = generator.multinomial(units, shares, size=min(step, resamples - start))
        sums.append((times @ flat).reshape(-1, *rest))
    return sums
