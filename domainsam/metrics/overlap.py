"""Pixel scores (IoU, Dice, accuracy) from a confusion matrix that grows window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORE = 255


def divide(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """``part / whole`` elementwise, and not-a-number where ``whole`` is 0.

    Every score of this package is such a ratio. A score nothing can be said
    about (the recall of a class that never occurs) is NaN rather than a 0 or
    1 that would flatter or punish the answer.
    """
    upper, lower = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result = np.full(upper.shape, np.nan)
    np.divide(upper, lower, out=result, where=lower != 0)
    return result


@dataclass(frozen=True, eq=False)
class OverlapScores:
    """Scores per class, each ``(..., K)`` for matrices ``(..., K, K)``; accuracy is ``(...)``.

    ``dice`` and ``f1`` are one number for pixels, so only ``f1`` is stored.
    NaN where undefined: precision of a class that is never predicted, recall
    of one that never occurs, IoU and F1 of one that does neither.
    """

    iou: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def dice(self) -> NDArray[np.float64]:
        """``2 |A and B| / (|A| + |B|)``, for pixels the same as ``f1``."""
        return self.f1


def score_overlap(matrix: ArrayLike) -> OverlapScores:
    """Scores of confusion matrices ``(..., K, K)``, rows true class, columns predicted class.

    Summing the matrices of many windows or scenes before this call gives
    *pooled* scores, in which every pixel weighs the same.
    """
    matrix = np.asarray(matrix, np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    true, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    return OverlapScores(
        iou=divide(hits, true + predicted - hits),
        precision=divide(hits, predicted),
        recall=divide(hits, true),
        f1=divide(2 * hits, true + predicted),
        accuracy=divide(hits.sum(axis=-1), matrix.sum(axis=(-2, -1))),
    )


class Confusion:
    """Confusion matrix over windows that come in any order.

    Parameters
    ----------
    classes
        Number of classes ``K``; labels are ``0 .. K - 1``.
    ignore
        Label value that takes a pixel out of the count wherever it stands in
        the truth or the prediction.
    """

    def __init__(self, classes: int = 2, ignore: int = IGNORE) -> None:
        if classes < 1:
            raise ValueError(f"classes is {classes}, expected 1 or more")
        self.classes, self.ignore = classes, ignore
        self.matrix: NDArray[np.int64] = np.zeros((classes, classes), np.int64)

    def add(self, truth: ArrayLike, predicted: ArrayLike) -> Self:
        """Count one window; two integer or boolean arrays of one shape.

        Raises
        ------
        ValueError
            If the shapes differ or a label is neither a class nor ``ignore``.
        """
        truth, predicted = np.asarray(truth), np.asarray(predicted)
        if truth.shape != predicted.shape:
            raise ValueError(
                f"truth has shape {truth.shape}, prediction {predicted.shape}: expected the same"
            )
        kept = (truth != self.ignore) & (predicted != self.ignore)
        rows, cols = truth[kept].astype(np.int64), predicted[kept].astype(np.int64)
        for name, labels in (("truth", rows), ("prediction", cols)):
            if labels.size and (labels.min() < 0 or labels.max() >= self.classes):
                raise ValueError(
                    f"{name} holds labels {labels.min()} to {labels.max()}, "
                    f"expected 0 to {self.classes - 1} or {self.ignore} to ignore"
                )
        counts = np.bincount(rows * self.classes + cols, minlength=self.classes**2)
        self.matrix += counts.reshape(self.matrix.shape)
        return self

    def merge(self, other: Confusion) -> Self:
        """Add the counts of another accumulator with the same classes."""
        if other.classes != self.classes:
            raise ValueError(f"cannot merge {other.classes} classes into {self.classes}")
        self.matrix += other.matrix
        return self

    def scores(self) -> OverlapScores:
        """Pooled scores of all that was added."""
        return score_overlap(self.matrix)
