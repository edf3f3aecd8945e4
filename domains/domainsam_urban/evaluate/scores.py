"""Reduce a scene and its labels to counts by block, which can be added and resampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from domainsam.metrics.boundary import compute_boundary_f, compute_tolerance, count_boundary
from domainsam.metrics.calibration import BINS, compute_reliability, count_calibration
from domainsam.metrics.components import ObjectAccumulator, ObjectTable
from domainsam.metrics.objects import Matching, match_any, match_one_to_one, score_detection
from domainsam.metrics.overlap import Confusion, score_overlap
from domainsam.protocols import Window
from domainsam_urban.read.layers import Layer
from domainsam_urban.read.place import Place

TOLERANCE_TILE = 1024
"""DAVIS's tolerance grows with the picture; a scene is judged like a tile of this many pixels."""


class Answer(Protocol):
    """A prediction on the scene's grid; ``kind`` is ``"probability"`` or ``"mask"``."""

    kind: str
    notes: tuple[str, ...]

    def probability(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probability ``(H, W)`` and where it is known."""
        ...


@dataclass(frozen=True)
class ScoringOptions:
    """How answers are compared with labels.

    Parameters
    ----------
    threshold
        Probability from which a pixel is settlement.
    tolerance_m
        Largest distance of outlines that still agree, in metres; by default
        0.8 % of the diagonal of a tile of at most 1024 pixels.
    min_area_m2
        Predicted objects below this area take no part in the object scores.
    block_m
        Side of the blocks that a scene is cut into for resampling, in metres.
    """

    threshold: float = 0.5
    tolerance_m: float | None = None
    min_area_m2: float = 0.0
    block_m: float = 250.0

    def block_px(self, place: Place) -> int:
        """Side of a block in pixels of a grid."""
        return max(1, round(self.block_m / place.pixel_metres()))

    def tolerance_px(self, place: Place) -> float:
        """Tolerance of outlines in pixels of a grid."""
        if self.tolerance_m is not None:
            return self.tolerance_m / place.pixel_metres()
        rows, columns = place.shape
        return float(compute_tolerance((min(rows, TOLERANCE_TILE), min(columns, TOLERANCE_TILE))))


@dataclass(frozen=True, eq=False)
class Counts:
    """Sufficient statistics of ``U`` units (blocks of a scene, or scenes).

    Parameters
    ----------
    confusion
        ``(U, 2, 2)``, true class by predicted class.
    boundary
        ``(U, 4)``, see :func:`domainsam.metrics.boundary.count_boundary`.
    calibration
        ``(U, bins, 4)``, see :func:`domainsam.metrics.calibration.count_calibration`; 0 for masks.
    found_any, found_half
        ``(U, 3)`` objects found, false alarms and misses, at any overlap and
        at IoU 0.5. An object counts in the unit that holds its centroid, a
        found one in that of the true object.
    """

    confusion: NDArray[np.int64]
    boundary: NDArray[np.int64]
    calibration: NDArray[np.float64]
    found_any: NDArray[np.int64]
    found_half: NDArray[np.int64]

    @classmethod
    def empty(cls, units: int) -> Self:
        """Counts of nothing."""
        sizes = ((2, 2), (4,), (BINS, 4), (3,), (3,))
        kinds = (np.int64, np.int64, np.float64, np.int64, np.int64)
        return cls(*(np.zeros((units, *size), kind) for size, kind in zip(sizes, kinds, strict=True)))

    @classmethod
    def concatenate(cls, parts: list[Counts]) -> Self:
        """The units of all parts, one after another."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def pooled(self) -> Counts:
        """All units as one."""
        return Counts(*(getattr(self, f.name).sum(axis=0, keepdims=True) for f in fields(self)))

    def occupied(self) -> Counts:
        """The units that hold at least one labelled pixel."""
        kept = self.confusion.sum(axis=(1, 2)) > 0
        return Counts(*(getattr(self, f.name)[kept] for f in fields(self)))


def score_scene(
    truth: Layer,
    answer: Answer,
    place: Place,
    options: ScoringOptions,
    advance: Callable[[int], None] = lambda pixels: None,
) -> Counts:
    """Counts of every block of a scene, ``(rows of blocks x columns of blocks)`` in reading order.

    The scene is read once, in bands as high as a block, so memory does not
    grow with its height.
    """
    side, tolerance = options.block_px(place), options.tolerance_px(place)
    columns = math.ceil(place.shape[1] / side)
    counts = Counts.empty(math.ceil(place.shape[0] / side) * columns)
    objects = ObjectAccumulator()
    for index, (window, core) in enumerate(_bands(place.shape, side, math.ceil(tolerance) + 1)):
        labels = truth.labels(window)
        chance, known = answer.probability(window)
        valid = known & (labels <= 1)
        true, predicted = (labels == 1) & valid, (chance >= options.threshold) & valid
        objects.add(true[core], predicted[core])
        band = _Band(true, predicted, valid, chance if answer.kind == "probability" else None, core)
        for column in range(columns):
            _count_block(counts, index * columns + column, band, column * side, side, tolerance)
        advance((core.stop - core.start) * place.shape[1])
    _count_objects(counts, objects.finish(), side, columns, options.min_area_m2 / place.pixel_metres() ** 2)
    return counts


@dataclass(frozen=True, eq=False)
class _Band:
    """One row of blocks: masks ``(H, W)`` with a margin above and below the rows of ``core``."""

    true: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    core: slice


def _count_block(counts: Counts, unit: int, band: _Band, left: int, side: int, tolerance: float) -> None:
    """Pixel, calibration and outline counts of the block whose first column is ``left``."""
    inside = (band.core, slice(left, left + side))
    valid, true = band.valid[inside], band.true[inside]
    if not valid.any():
        return
    labels = np.where(valid, true, np.uint8(255))
    counts.confusion[unit] = Confusion().add(labels, band.predicted[inside]).matrix
    if band.probability is not None:
        counts.calibration[unit] = count_calibration(band.probability[inside], true, valid)
    margin = math.ceil(tolerance) + 1
    first = max(0, left - margin)
    wide = slice(first, left + side + margin)
    counts.boundary[unit] = count_boundary(
        band.true[:, wide],
        band.predicted[:, wide],
        tolerance,
        band.valid[:, wide],
        (band.core, slice(left - first, left - first + side)),
    )


def _bands(shape: tuple[int, int], height: int, margin: int) -> Iterator[tuple[Window, slice]]:
    """Full-width windows with a margin above and below, and the rows of each that are its own."""
    rows, columns = shape
    for top in range(0, rows, height):
        first, last = max(0, top - margin), min(rows, top + height + margin)
        own = slice(top - first, min(rows, top + height) - first)
        yield Window(first, 0, last - first, columns), own


def _count_objects(counts: Counts, table: ObjectTable, side: int, columns: int, min_area: float) -> None:
    """Add objects to the blocks that hold their centroids."""
    overlaps = table.overlaps.drop_small_predictions(min_area)
    kept = table.predicted_centre[table.overlaps.predicted_area >= min_area]
    true_unit, unit = (
        ((centre + 0.5) // side).astype(np.int64) @ np.array([columns, 1])
        for centre in (table.truth_centre, kept)
    )
    for matching, target in (
        (match_any(overlaps), counts.found_any),
        (match_one_to_one(overlaps), counts.found_half),
    ):
        _spread(target, matching, true_unit, unit)


def _spread(
    target: NDArray[np.int64],
    matching: Matching,
    true_unit: NDArray[np.int64],
    unit: NDArray[np.int64],
) -> None:
    alarms = np.delete(unit, matching.predicted_index)
    misses = np.delete(true_unit, matching.truth_index)
    for column, units in enumerate((true_unit[matching.truth_index], alarms, misses)):
        np.add.at(target[:, column], units, 1)


@dataclass(frozen=True)
class Metric:
    """One column of the table: a score of one field of :class:`Counts`."""

    key: str
    title: str
    counts: str
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    meaning: str
    more_is_better: bool = True


METRICS = (
    Metric(
        "iou",
        "IoU",
        "confusion",
        lambda c: score_overlap(c).iou[..., 1],
        "Shared area over joint area of true and predicted settlement, all pixels of all scenes pooled.",
    ),
    Metric(
        "precision",
        "Precision",
        "confusion",
        lambda c: score_overlap(c).precision[..., 1],
        "Share of the predicted area that is settlement.",
    ),
    Metric(
        "recall",
        "Recall",
        "confusion",
        lambda c: score_overlap(c).recall[..., 1],
        "Share of the true settlement area that was found.",
    ),
    Metric(
        "any_precision",
        "Objects: P, any overlap",
        "found_any",
        lambda c: score_detection(c).precision,
        "Share of predicted objects that touch a true one of their own (UV-SAM's definition).",
    ),
    Metric(
        "any_recall",
        "Objects: R, any overlap",
        "found_any",
        lambda c: score_detection(c).recall,
        "Share of true objects that some prediction touches (UV-SAM's definition).",
    ),
    Metric(
        "any_f1",
        "Objects: F1, any overlap",
        "found_any",
        lambda c: score_detection(c).f1,
        "Harmonic mean of the two before.",
    ),
    Metric(
        "half_precision",
        "Objects: P, IoU ≥ 0.5",
        "found_half",
        lambda c: score_detection(c).precision,
        "Share of predicted objects that cover a true one with an IoU of at least 0.5.",
    ),
    Metric(
        "half_recall",
        "Objects: R, IoU ≥ 0.5",
        "found_half",
        lambda c: score_detection(c).recall,
        "Share of true objects covered with an IoU of at least 0.5.",
    ),
    Metric(
        "half_f1",
        "Objects: F1, IoU ≥ 0.5",
        "found_half",
        lambda c: score_detection(c).f1,
        "Harmonic mean of the two before.",
    ),
    Metric(
        "boundary_f",
        "Boundary F",
        "boundary",
        compute_boundary_f,
        "Agreement of the outlines within the tolerance (the DAVIS benchmark's definition).",
    ),
    Metric(
        "ece",
        "ECE",
        "calibration",
        lambda c: compute_reliability(c).ece,
        "Mean gap between stated probability and what came true; 0 is best.",
        more_is_better=False,
    ),
    Metric(
        "brier",
        "Brier",
        "calibration",
        lambda c: compute_reliability(c).brier,
        "Mean squared error of the probability; 0 is best.",
        more_is_better=False,
    ),
)

ABLATED = tuple(metric for metric in METRICS if metric.key in ("iou", "any_f1", "half_f1", "boundary_f"))
"""What an ablation table shows: UV-SAM's two figures (IoU and F1 at any overlap), and two stricter ones."""
