"""Scores of models of words, pooled over pictures: accuracy, mean IoU, cIoU and gIoU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.metrics.tables import csv_text, interval_document

PRECISE = 0.5
"""IoU from which an answer to a sentence counts as right (Pr@0.5)."""

MEANS = ("gIoU",)
"""What rows say of a picture beside counts."""

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class PictureScore:
    """A picture's additive statistics ``(S,)``, and what a table says of it."""

    name: str
    statistics: NDArray[np.float64]
    row: dict[str, float]


@dataclass
class WordEvaluation:
    """Scores pooled over pictures; it prints as :class:`domainsam_photo.evaluate.evaluate.Evaluation`.

    ``scores`` are functions from summed statistics ``(R, S)`` to scores ``(R,)``, by measure; ``told``
    gives what became of questions to a language model.
    """

    unit: ClassVar[str] = "picture"
    """What was resampled."""

    layout: str
    method: str
    foundation: str
    scores: dict[str, Score]
    units: list[PictureScore] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    told: Callable[[], dict[str, Any]] | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the scores."""
        return tuple(self.scores)

    def interval(self, measure: str) -> Interval:
        """A pooled score with a 95 % interval from resampling pictures."""
        statistics = np.stack([unit.statistics for unit in self.units])
        return bootstrap(statistics, self.scores[measure], seed=self.seed)

    def document(self) -> dict[str, Any]:
        """Everything as values that JSON can hold."""
        return {
            "layout": self.layout,
            "method": self.method,
            "foundation": self.foundation,
            "means": {name: interval_document(self.interval(name)) for name in self.measures},
            "words_left_out": self.left_out,
            "pictures": [{"name": unit.name, **unit.row} for unit in self.units],
            "skipped": [{"name": name, "error": reason} for name, reason in self.skipped],
            **({} if self.told is None else {"asked": self.told()}),
        }

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, list[str]]]]:
        """Headings, and the name of every picture with its counts and means as text."""
        names = tuple(dict.fromkeys(name for unit in self.units for name in unit.row))
        rows = []
        for unit in self.units:
            values = [f"{unit.row[name]:.3f}" if name in MEANS else f"{unit.row[name]:.0f}" for name in names]
            rows.append((unit.name, values))
        return names, rows

    def csv(self) -> str:
        """A row for every picture."""
        names = list(dict.fromkeys(name for unit in self.units for name in unit.row))
        return csv_text([{"name": unit.name, **unit.row} for unit in self.units], ("name", *names))


def accuracy(classes: int) -> Score:
    """Share of objects that is right, from counts ``(2, classes)`` of right ones and of all."""

    def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = sums.reshape(-1, 2, classes).sum(axis=2)
        return np.asarray(parts[:, 0] / np.maximum(parts[:, 1], 1))

    return score


def class_mean(classes: int, places: list[int] | None = None) -> Score:
    """Mean over the classes that occur of the share that is right, from the same counts."""

    def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = sums.reshape(-1, 2, classes)[:, :, slice(None) if places is None else places]
        with np.errstate(invalid="ignore"):
            shares = parts[:, 0] / np.where(parts[:, 1] > 0, parts[:, 1], np.nan)
        seen = np.isfinite(shares)
        return np.asarray(np.nansum(shares, axis=1) / np.where(seen.any(axis=1), seen.sum(axis=1), np.nan))

    return score


def count_confusion(truth: NDArray[np.int64], answer: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Confusion matrix ``(C, C + 1)`` by truth and answer, none last; truth -1 does not count."""
    known = truth >= 0
    flat = truth[known] * (classes + 1) + answer[known]
    counts = np.bincount(flat, minlength=classes * (classes + 1))
    return np.asarray(counts.reshape(classes, classes + 1), np.float64)


def mean_iou(classes: int) -> Score:
    """Mean IoU over the classes that occur in truth or answer, from summed confusion matrices."""

    def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = sums.reshape(-1, classes, classes + 1)
        right = np.einsum("rcc->rc", matrix[:, :, :classes])
        union = matrix.sum(axis=2) + matrix[:, :, :classes].sum(axis=1) - right
        occurs = union > 0
        ious = np.where(occurs, right / np.maximum(union, 1), 0)
        return np.asarray(ious.sum(axis=1) / np.where(occurs.any(axis=1), occurs.sum(axis=1), np.nan))

    return score


def pixel_accuracy(classes: int) -> Score:
    """Share of pixels whose class is right, from summed confusion matrices."""

    def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = sums.reshape(-1, classes, classes + 1)
        return np.asarray(
            np.einsum("rcc->r", matrix[:, :, :classes]) / np.maximum(matrix.sum(axis=(1, 2)), 1)
        )

    return score


def score_answer(truth: NDArray[np.bool_], answer: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection, union, IoU, whether it is a half or more, and 1. Nothing asked and nothing found is
    right.

    Raises
    ------
    InputError
        If the sizes differ.
    """
    if truth.shape != answer.shape:
        raise InputError(f"an answer is {answer.shape}, its truth {truth.shape}: expected one size")
    shared, either = float((truth & answer).sum()), float((truth | answer).sum())
    iou = shared / either if either else 1.0
    return np.array([shared, either, iou, float(iou >= PRECISE), 1.0])
