"""Calibration of probabilities: reliability curve, expected calibration error and Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domainsam.metrics.overlap import divide

BINS = 15
"""Number of bins of equal width (Guo et al., On Calibration of Modern Neural Networks, ICML 2017)."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Calibration of statistics ``(..., bins, 4)``; see :func:`count_calibration`.

    Parameters
    ----------
    confidence, frequency
        ``(..., bins)`` mean probability and share of true pixels per bin, NaN for an empty bin.
    weight
        ``(..., bins)`` share of all pixels in each bin.
    ece
        ``(...)`` expected calibration error: mean over pixels of
        ``|confidence - frequency|`` of their bin. NaN without pixels.
    brier
        ``(...)`` mean squared difference of probability and truth. NaN without pixels.
    """

    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]
    weight: NDArray[np.float64]
    ece: NDArray[np.float64]
    brier: NDArray[np.float64]


def count_calibration(
    probability: ArrayLike, truth: ArrayLike, valid: ArrayLike | None = None, bins: int = BINS
) -> NDArray[np.float64]:
    """Sufficient statistics of calibration; those of windows in any order add up.

    Parameters
    ----------
    probability
        Probability of the foreground, 0 to 1.
    truth
        Boolean array of the same shape.
    valid
        Boolean array of the same shape; pixels where it is false are left out.
    bins
        Number of bins of equal width over 0 to 1; the last one includes 1.

    Returns
    -------
    ``(bins, 4)`` float64: pixels, sum of probability, number of true pixels,
    sum of squared differences.

    Raises
    ------
    ValueError
        If the shapes differ or a valid probability lies outside 0 to 1.
    """
    chance, outcome = np.asarray(probability, np.float64), np.asarray(truth, bool)
    if chance.shape != outcome.shape:
        raise ValueError(f"probability has shape {chance.shape}, truth {outcome.shape}: expected the same")
    inside = np.ones(chance.shape, bool) if valid is None else np.asarray(valid, bool)
    chance, true = chance[inside], outcome[inside].astype(np.float64)
    if not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError("probabilities lie outside 0 to 1 or are not numbers")
    bin_of = np.minimum((chance * bins).astype(np.int64), bins - 1)
    weights = (None, chance, true, (chance - true) ** 2)
    return np.stack([np.bincount(bin_of, weight, bins) for weight in weights], axis=1).astype(np.float64)


def compute_reliability(counts: ArrayLike) -> Reliability:
    """Reliability curve, expected calibration error and Brier score of ``(..., bins, 4)`` statistics."""
    pixels, confidence, true, squares = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    total = pixels.sum(axis=-1)
    return Reliability(
        confidence=divide(confidence, pixels),
        frequency=divide(true, pixels),
        weight=divide(pixels, total[..., None]),
        ece=divide(np.abs(confidence - true).sum(axis=-1), total),
        brier=divide(squares.sum(axis=-1), total),
    )
