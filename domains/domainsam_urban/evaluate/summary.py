"""Scores of all scenes together, with confidence intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from domainsam.io.pairing import Scene
from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.metrics.overlap import score_overlap
from domainsam.metrics.tables import clean_row, csv_text, interval_document, without_repeats
from domainsam_urban.evaluate.scores import METRICS, Counts, Metric, ScoringOptions
from domainsam_urban.read.layers import ALL, Choice
from domainsam_urban.read.place import Place

MIN_SCENES = 10
"""With fewer scenes than this, resampling scenes says little: three scenes have only ten different draws."""

SHOWN = 2
"""The model and its coarse stage; more columns would not be read."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How an evaluation is made.

    Parameters
    ----------
    scoring
        How one scene is compared with its labels.
    units
        What is resampled: ``"scenes"``, ``"blocks"``, or ``"auto"``, which
        takes scenes where there are at least :data:`MIN_SCENES`.
    level, resamples, seed
        See :func:`domainsam.metrics.bootstrap.bootstrap`.
    labels
        Which features of label files are settlements.
    """

    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    units: str = "auto"
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    labels: Choice = ALL


@dataclass(frozen=True, eq=False)
class SceneScores:
    """One scene: where its files are, and the counts of its blocks for every variant."""

    scene: Scene
    labels: Path
    answers: Mapping[str, Path]
    place: Place
    tolerance_px: float
    counts: Mapping[str, Counts]
    notes: tuple[str, ...]
    choice: Choice = ALL

    def value(self, variant: str, metric: Metric) -> float:
        """One score of this scene alone."""
        pooled = self.counts[variant].pooled()
        return float(metric.score(np.asarray(getattr(pooled, metric.counts), np.float64))[0])


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of all scenes together.

    Parameters
    ----------
    table
        Interval by variant and metric key, in the order in which to show them.
    lead
        By how much the main variant's IoU exceeds that of each other one, both
        taken on the same resamples.
    scenes
        What was scored, in order.
    skipped
        Name of a scene that could not be scored, and why.
    units
        What was resampled, as a sentence.
    options
        What was asked for.
    """

    table: Mapping[str, Mapping[str, Interval]]
    lead: Mapping[str, Interval]
    scenes: tuple[SceneScores, ...]
    skipped: tuple[tuple[str, str], ...]
    units: str
    options: EvaluationOptions

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, the main one first."""
        return tuple(self.table)

    @property
    def shown(self) -> tuple[str, ...]:
        """The variants that get all scores and a place in charts; the rest is an ablation."""
        return self.variants[:SHOWN]

    def pooled(self, variant: str) -> Counts:
        """Counts of all scenes as one unit."""
        return Counts.concatenate([scene.counts[variant] for scene in self.scenes]).pooled()

    def notes(self) -> tuple[str, ...]:
        """List the notes on reading the files of all scenes, without repeats."""
        return without_repeats(note for scene in self.scenes for note in scene.notes)

    def document(self) -> dict[str, Any]:
        """The evaluation as plain values for JSON; undefined scores are null."""
        scoring = self.options.scoring
        return {
            "threshold": scoring.threshold,
            "min_area_m2": scoring.min_area_m2,
            "confidence_level": self.options.level,
            "resampled": self.units,
            "scores": {
                variant: {key: interval_document(interval) for key, interval in row.items()}
                for variant, row in self.table.items()
            },
            "iou_lead": {variant: interval_document(interval) for variant, interval in self.lead.items()},
            "scenes": [clean_row(row) for row in self.rows()],
            "skipped": [{"scene": name, "reason": reason} for name, reason in self.skipped],
            "notes": list(self.notes()),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for every scene and variant: scores and the counts behind them."""
        for scene in self.scenes:
            for variant in self.variants:
                pooled = scene.counts[variant].pooled()
                (true_negative, false_positive), (false_negative, true_positive) = pooled.confusion[
                    0
                ].tolist()
                found, alarms, missed = pooled.found_half[0].tolist()
                yield {
                    "scene": scene.scene.name,
                    "variant": variant,
                    **{metric.key: scene.value(variant, metric) for metric in METRICS},
                    "true_positive_px": true_positive,
                    "false_positive_px": false_positive,
                    "false_negative_px": false_negative,
                    "true_negative_px": true_negative,
                    "true_objects": found + missed,
                    "predicted_objects": found + alarms,
                    "pixel_m": scene.place.pixel_metres(),
                    "boundary_tolerance_px": scene.tolerance_px,
                }

    def csv_text(self) -> str:
        """Rows of all scenes; an undefined score is an empty cell."""
        return csv_text([clean_row(row) for row in self.rows()])


def summarise(
    scenes: list[SceneScores], skipped: list[tuple[str, str]], options: EvaluationOptions
) -> Evaluation:
    """Pool scenes and put an interval to every score; variants are those that all scenes have."""
    by_scene = options.units == "scenes" or (options.units == "auto" and len(scenes) >= MIN_SCENES)
    variants = [name for name in scenes[0].counts if all(name in scene.counts for scene in scenes)]
    units = {name: _units(scenes, name, by_scene) for name in variants}
    resample = partial(bootstrap, level=options.level, resamples=options.resamples, seed=options.seed)
    table = {
        name: {
            metric.key: widen(resample(getattr(counts.occupied(), metric.counts), metric.score), counts)
            for metric in METRICS
        }
        for name, counts in units.items()
    }
    main = units[variants[0]].confusion
    lead = {}
    for name in variants[1:]:
        pair = np.stack([main, units[name].confusion], axis=1)
        lead[name] = resample(pair[pair.any(axis=(1, 2, 3))], _iou_lead)
    count = len(units[variants[0]].occupied().confusion)
    sentence = _units_sentence(by_scene, count, len(scenes), options)
    return Evaluation(table, lead, tuple(scenes), tuple(skipped), sentence, options)


def widen(interval: Interval, counts: Counts) -> Interval:
    """The interval, or one that holds for few objects in the place of one without width.

    Resampling what is all right, or all wrong, gives nothing but itself, be it
    one object or a thousand. Wilson's interval (Wilson 1927) of as many
    successes or failures is given then. Pixels of one object are right or
    wrong together, so that objects count, and no more of them than units.
    """
    if interval.low != interval.high or not np.isfinite(interval.low):
        return interval
    objects = int(counts.found_any.sum())
    number = min(objects, interval.units)
    if number < 1 or interval.value not in (0.0, 1.0):
        return replace(interval, low=np.nan, high=np.nan)
    away = float(ndtri((1 + interval.level) / 2)) ** 2
    if interval.value == 1:
        return replace(interval, low=number / (number + away))
    return replace(interval, high=away / (number + away))


def _units(scenes: list[SceneScores], variant: str, by_scene: bool) -> Counts:
    parts = [scene.counts[variant] for scene in scenes]
    return Counts.concatenate([part.pooled() for part in parts] if by_scene else parts)


def _iou_lead(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of the first confusion matrix minus that of the second, ``(R, 2, 2, 2)`` to ``(R,)``."""
    iou = score_overlap(pairs).iou[..., 1]
    return np.asarray(iou[:, 0] - iou[:, 1])


def _units_sentence(by_scene: bool, units: int, scenes: int, options: EvaluationOptions) -> str:
    if by_scene:
        return f"{units} scenes, drawn whole"
    return (
        f"{units} blocks of {options.scoring.block_m:g} m in {scenes} scene{'s' * (scenes > 1)}; "
        "neighbouring blocks resemble each other, so the true uncertainty is larger"
    )
