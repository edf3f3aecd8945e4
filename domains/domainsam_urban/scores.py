"""The scores of an evaluation, in the order of its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam.metrics.boundary import boundary_f
from domainsam.metrics.calibration import reliability
from domainsam.metrics.objects import detection_scores
from domainsam.metrics.overlap import overlap_scores


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
        lambda c: overlap_scores(c).iou[..., 1],
        "Shared area over joint area of true and predicted settlement, all pixels of all scenes pooled.",
    ),
    Metric(
        "precision",
        "Precision",
        "confusion",
        lambda c: overlap_scores(c).precision[..., 1],
        "Share of the predicted area that is settlement.",
    ),
    Metric(
        "recall",
        "Recall",
        "confusion",
        lambda c: overlap_scores(c).recall[..., 1],
        "Share of the true settlement area that was found.",
    ),
    Metric(
        "any_precision",
        "Objects: P, any overlap",
        "found_any",
        lambda c: detection_scores(c).precision,
        "Share of predicted objects that touch a true one of their own (UV-SAM's definition).",
    ),
    Metric(
        "any_recall",
        "Objects: R, any overlap",
        "found_any",
        lambda c: detection_scores(c).recall,
        "Share of true objects that some prediction touches (UV-SAM's definition).",
    ),
    Metric(
        "any_f1",
        "Objects: F1, any overlap",
        "found_any",
        lambda c: detection_scores(c).f1,
        "Harmonic mean of the two before.",
    ),
    Metric(
        "half_precision",
        "Objects: P, IoU ≥ 0.5",
        "found_half",
        lambda c: detection_scores(c).precision,
        "Share of predicted objects that cover a true one with an IoU of at least 0.5.",
    ),
    Metric(
        "half_recall",
        "Objects: R, IoU ≥ 0.5",
        "found_half",
        lambda c: detection_scores(c).recall,
        "Share of true objects covered with an IoU of at least 0.5.",
    ),
    Metric(
        "half_f1",
        "Objects: F1, IoU ≥ 0.5",
        "found_half",
        lambda c: detection_scores(c).f1,
        "Harmonic mean of the two before.",
    ),
    Metric(
        "boundary_f",
        "Boundary F",
        "boundary",
        boundary_f,
        "Agreement of the outlines within the tolerance (the DAVIS benchmark's definition).",
    ),
    Metric(
        "ece",
        "ECE",
        "calibration",
        lambda c: reliability(c).ece,
        "Mean gap between stated probability and what came true; 0 is best.",
        more_is_better=False,
    ),
    Metric(
        "brier",
        "Brier",
        "calibration",
        lambda c: reliability(c).brier,
        "Mean squared error of the probability; 0 is best.",
        more_is_better=False,
    ),
)

ABLATED = tuple(metric for metric in METRICS if metric.key in ("iou", "any_f1", "half_f1", "boundary_f"))
"""What an ablation table shows: UV-SAM's two figures (IoU and F1 at any overlap), and two stricter ones."""
