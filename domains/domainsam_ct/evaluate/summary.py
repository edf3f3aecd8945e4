"""Scores of all cases: by case and organ, and their means with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.metrics.tables import clean_row, csv_text, interval_document, without_repeats
from domainsam_ct.evaluate.scores import OrganScores, ScoreOptions


@dataclass(frozen=True)
class Metric:
    """One score: its key in :class:`OrganScores`, its title and what it says."""

    key: str
    title: str
    meaning: str


METRICS = (
    Metric("dice", "Dice", "Overlap: twice the common volume over the sum of both, 1 at best."),
    Metric(
        "hd95",
        "HD95",
        "How far surfaces are apart: 95 % of each lie nearer to the other than this.",
    ),
    Metric("surface_dice", "Surface Dice", "Share of both surfaces within the tolerance, 1 at best."),
)


@dataclass(frozen=True)
class EvaluationOptions:
    """How masks are compared and means are judged; see :func:`domainsam.metrics.bootstrap.bootstrap`."""

    scoring: ScoreOptions = field(default_factory=ScoreOptions)
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The scores there are; the papers knew no surface Dice."""
        return METRICS[:2] if self.scoring.paper else METRICS

    @property
    def distance_unit(self) -> str:
        """Unit of HD95."""
        return "voxels" if self.scoring.paper else "mm"


@dataclass(frozen=True, eq=False)
class CaseScores:
    """One case: scores by organ, the volume of a voxel, and what should be known of the comparison."""

    case: str
    organs: Mapping[str, OrganScores]
    voxel_ml: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of all cases.

    Parameters
    ----------
    organs
        Names, in the order in which to show them.
    table
        Mean over cases by organ and metric key.
    overall
        Mean over organs of those means, by metric key.
    skipped
        Name of a case that could not be compared, and why.
    """

    organs: tuple[str, ...]
    table: Mapping[str, Mapping[str, Interval]]
    overall: Mapping[str, Interval]
    cases: tuple[CaseScores, ...]
    skipped: tuple[tuple[str, str], ...]
    options: EvaluationOptions

    def notes(self) -> tuple[str, ...]:
        """List the notes on all comparisons, without repeats."""
        return without_repeats(note for case in self.cases for note in case.notes)

    def document(self) -> dict[str, Any]:
        """The evaluation as plain values for JSON; undefined scores are null."""
        scoring = self.options.scoring
        return {
            "definitions": scoring.definition,
            "hd95_unit": self.options.distance_unit,
            "surface_tolerance_mm": None if scoring.paper else scoring.tolerance_mm,
            "empty_masks": scoring.policy,
            "confidence_level": self.options.level,
            "resampled": f"{len(self.cases)} cases",
            "organs": {
                organ: {key: interval_document(interval) for key, interval in row.items()}
                for organ, row in self.table.items()
            },
            "mean_of_organs": {key: interval_document(interval) for key, interval in self.overall.items()},
            "cases": [clean_row(row) for row in self.rows()],
            "skipped": [{"case": case, "reason": reason} for case, reason in self.skipped],
            "notes": list(self.notes()),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for every case and organ."""
        for case in self.cases:
            for organ in self.organs:
                scores = case.organs.get(organ)
                if scores is None:
                    continue
                yield {
                    "case": case.case,
                    "organ": organ,
                    **{metric.key: getattr(scores, metric.key) for metric in self.options.metrics},
                    "truth_ml": scores.truth_voxels * case.voxel_ml,
                    "predicted_ml": scores.predicted_voxels * case.voxel_ml,
                    "truth_voxels": scores.truth_voxels,
                    "predicted_voxels": scores.predicted_voxels,
                }

    def csv_text(self) -> str:
        """Rows of all cases; an undefined score is an empty cell."""
        return csv_text([clean_row(row) for row in self.rows()])


def summarise(
    cases: list[CaseScores],
    skipped: list[tuple[str, str]],
    organs: tuple[str, ...],
    options: EvaluationOptions,
) -> Evaluation:
    """Means over cases and then over organs, as the papers take them, with intervals from resampled cases."""
    resample = partial(bootstrap, level=options.level, resamples=options.resamples, seed=options.seed)
    table: dict[str, dict[str, Interval]] = {organ: {} for organ in organs}
    overall = {}
    for metric in options.metrics:
        values = np.array(
            [[_value(case, organ, metric.key) for organ in organs] for case in cases], np.float64
        )
        known = np.isfinite(values)
        sums = np.stack([np.where(known, values, 0), known], axis=-1)
        for column, organ in enumerate(organs):
            # Cases without this score are no units of it: one case alone gives no interval.
            own = known[:, column] if known[:, column].any() else slice(None)
            table[organ][metric.key] = resample(sums[own, column], _mean)
        overall[metric.key] = resample(sums, _mean_of_organs)
    return Evaluation(organs, table, overall, tuple(cases), tuple(skipped), options)


def _value(case: CaseScores, organ: str, key: str) -> float:
    scores = case.organs.get(organ)
    return math.nan if scores is None else float(getattr(scores, key))


def _mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of sums and counts ``(..., 2)``, NaN where nothing was counted."""
    total, count = sums[..., 0], sums[..., 1]
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _mean_of_organs(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over organs ``(R, K, 2)`` of their means; organs without a score take no part."""
    means = _mean(sums)
    known = np.isfinite(means)
    return _mean(np.stack([np.where(known, means, 0).sum(axis=1), known.sum(axis=1)], axis=-1))
