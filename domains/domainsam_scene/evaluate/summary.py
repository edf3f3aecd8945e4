"""Scores of all samples: mean IoU by variant, class and condition, with intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.metrics.overlap import score_overlap
from domainsam.metrics.tables import finite_or_none
from domainsam.names import as_cell
from domainsam_scene.evaluate.missing import Variant

Matrix = NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class SampleScores:
    """One sample: confusion matrices ``(K, K)`` by variant, rows the truth; and what went wrong."""

    name: str
    conditions: Mapping[str, str]
    matrices: Mapping[str, Matrix]
    missing: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of all samples together.

    Parameters
    ----------
    labels
        Class names.
    variants
        What was looked at, all sensors first.
    samples
        What was scored, in order.
    skipped
        Name of a sample that could not be scored, and why.
    absent_iou
        What a class without any pixel counts in the published mean; None: nothing.
    seed
        Seed of resampling.
    notes
        What is to be told of how scenes were read and what their labels hold.
    """

    labels: tuple[str, ...]
    variants: tuple[Variant, ...]
    samples: tuple[SampleScores, ...]
    skipped: tuple[tuple[str, str], ...]
    absent_iou: float | None
    seed: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def absent(self) -> tuple[str, ...]:
        """Classes that the labels never hold."""
        true = self.matrix(self.variants[0].name).sum(axis=1)
        return tuple(label for label, pixels in zip(self.labels, true, strict=True) if not pixels)

    def matrix(self, variant: str, samples: Sequence[SampleScores] | None = None) -> Matrix:
        """Summed confusion matrix ``(K, K)`` of a variant."""
        size = len(self.labels)
        parts = [sample.matrices[variant] for sample in samples or self.samples if variant in sample.matrices]
        return np.sum(parts, axis=0) if parts else np.zeros((size, size), np.int64)

    def class_iou(self, variant: str) -> NDArray[np.float64]:
        """IoU by class ``(K,)``, NaN for classes without any pixel."""
        return score_overlap(self.matrix(variant)).iou

    def published_miou(self, variant: str) -> float:
        """Mean IoU as the data set's papers count it; NaN if :attr:`unscored`."""
        if variant in self.unscored:
            return float("nan")
        return float(compute_mean_iou(self.matrix(variant)[None].astype(np.float64), self.absent_iou)[0])

    def interval(self, variant: str) -> Interval:
        """Mean IoU of the classes that occur, with its interval over samples."""
        return self._intervals[variant]

    def published_interval(self, variant: str) -> Interval:
        """Mean IoU as published, with its interval over samples."""
        return self._score(variant, partial(compute_mean_iou, absent=self.absent_iou))

    def accuracy(self, variant: str) -> float:
        """Share of pixels with the right class."""
        return float(score_overlap(self.matrix(variant)).accuracy)

    def accuracy_interval(self, variant: str) -> Interval:
        """Share of pixels with the right class, with its interval over samples."""
        return self._score(variant, lambda sums: score_overlap(sums).accuracy)

    @cached_property
    def _intervals(self) -> dict[str, Interval]:
        """Mean IoU by variant; resampling takes a moment and is asked for often."""
        score = partial(compute_mean_iou, absent=None)
        return {variant.name: self._score(variant.name, score) for variant in self.variants}

    def _score(self, variant: str, score: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Interval:
        parts = [sample.matrices[variant] for sample in self.samples if variant in sample.matrices]
        if not parts:
            return Interval(float("nan"), float("nan"), float("nan"), 0, LEVEL)
        return bootstrap(np.stack(parts), score, level=LEVEL, resamples=RESAMPLES, seed=self.seed)

    def by_condition(self, variant: str) -> dict[str, dict[str, tuple[float, int]]]:
        """Mean IoU of the classes that occur and number of samples, by condition and its value."""
        found: dict[str, dict[str, tuple[float, int]]] = {}
        for kind, values in self._conditions.items():
            for value, some in values.items():
                matrix = self.matrix(variant, some)[None].astype(np.float64)
                found.setdefault(kind, {})[value] = float(compute_mean_iou(matrix, None)[0]), len(some)
        return found

    @cached_property
    def unscored(self) -> tuple[str, ...]:
        """Names of variants that no sample could be scored with: all lack every sensor of theirs."""
        scored = {name for sample in self.samples for name in sample.matrices}
        return tuple(variant.name for variant in self.variants if variant.name not in scored)

    def protocol_means(self) -> dict[str, float]:
        """Mean over a protocol's variants of the mean IoU; that of ``subsets`` takes all sensors in.

        :attr:`unscored` variants take no part; a protocol with no others is left out.
        """
        names = {
            kind: [
                variant.name
                for variant in self.variants
                if variant.kind == kind and variant.name not in self.unscored
            ]
            for kind in ("subsets", "drops", "noise")
        }
        if names["subsets"]:
            names["subsets"].append(self.variants[0].name)
        return {
            kind: float(np.mean([self.interval(name).value for name in some]))
            for kind, some in names.items()
            if some
        }

    def sensor_value(self) -> dict[str, float]:
        """By sensor, how much mean IoU falls when it alone is missing; empty without subsets."""
        whole = self.variants[0]
        best = self.interval(whole.name).value
        by_sensors = {variant.sensors: variant.name for variant in self.variants if variant.kind == "subsets"}
        found = {}
        for sensor in whole.sensors:
            rest = tuple(name for name in whole.sensors if name != sensor)
            if rest in by_sensors and by_sensors[rest] not in self.unscored:
                found[sensor] = best - self.interval(by_sensors[rest]).value
        return found

    def document(self) -> dict[str, Any]:
        """The evaluation as plain values for JSON; undefined scores are null."""
        return {
            "labels": list(self.labels),
            "samples": len(self.samples),
            "skipped": [{"sample": name, "reason": reason} for name, reason in self.skipped],
            "variants": [
                {**self._variant_document(variant), "conditions": self._condition_scores(variant)}
                for variant in self.variants
            ],
            "conditions": {
                kind: {
                    value: {"miou": finite_or_none(score), "samples": count}
                    for value, (score, count) in rows.items()
                }
                for kind, rows in self.by_condition(self.variants[0].name).items()
            },
            "protocol_means": {kind: finite_or_none(mean) for kind, mean in self.protocol_means().items()},
            "unscored": list(self.unscored),
            "fall_without_sensor": self.sensor_value(),
            "never_in_labels": list(self.absent),
            "notes": list(self.notes),
        }

    def _variant_document(self, variant: Variant) -> dict[str, Any]:
        interval = self.interval(variant.name)
        return {
            "name": variant.name,
            "kind": variant.kind,
            "sensors": list(variant.sensors),
            "miou": finite_or_none(interval.value),
            "miou_low": finite_or_none(interval.low),
            "miou_high": finite_or_none(interval.high),
            "miou_published": finite_or_none(self.published_miou(variant.name)),
            "accuracy": finite_or_none(self.accuracy(variant.name)),
            "class_iou": [finite_or_none(value) for value in self.class_iou(variant.name)],
        }

    def _condition_scores(self, variant: Variant) -> dict[str, dict[str, float | None]]:
        return {
            kind: {value: finite_or_none(score) for value, (score, _) in rows.items()}
            for kind, rows in self.by_condition(variant.name).items()
        }

    def csv_text(self) -> str:
        """One line a variant, then one for each condition that samples were taken in.

        Mean IoU, its interval, the published mean, accuracy, number of samples, IoU of every class.
        """
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        scores = ("miou", "miou_low", "miou_high", "miou_published", "accuracy")
        head = ["variant", "kind", "sensors", "condition", "value", "samples", *scores, *self.labels]
        writer.writerow(map(as_cell, head))
        parts = self._parts()
        for variant in self.variants:
            begin = [variant.name, variant.kind, " ".join(variant.sensors)]
            for condition, value, part in parts:
                row = part._variant_document(variant)
                count = sum(variant.name in sample.matrices for sample in part.samples)
                values = [*(row[score] for score in scores), *row["class_iou"]]
                cells = ["" if score is None else f"{score:.4f}" for score in values]
                writer.writerow(map(as_cell, [*begin, condition, value, count, *cells]))
        return file.getvalue()

    def _parts(self) -> list[tuple[str, str, Evaluation]]:
        """The whole, then the samples of every value of every condition."""
        found = [("", "", self)]
        for kind, values in self._conditions.items():
            for value, some in values.items():
                found.append((kind, value, replace(self, samples=some)))
        return found

    @cached_property
    def _conditions(self) -> dict[str, dict[str, tuple[SampleScores, ...]]]:
        """The samples of every value of every condition."""
        found: dict[str, dict[str, tuple[SampleScores, ...]]] = {}
        for kind in dict.fromkeys(kind for sample in self.samples for kind in sample.conditions):
            values = sorted({sample.conditions.get(kind, "unknown") for sample in self.samples})
            for value in values:
                some = (sample for sample in self.samples if sample.conditions.get(kind, "unknown") == value)
                found.setdefault(kind, {})[value] = tuple(some)
        return found


def compute_mean_iou(matrices: NDArray[np.float64], absent: float | None) -> NDArray[np.float64]:
    """Mean IoU ``(R,)`` of confusion matrices ``(R, K, K)``.

    A class without a pixel in truth and prediction counts ``absent``, or takes
    no part where that is None. The papers on DELIVER and MCubeS count it 0.
    Where it takes none and a single class is left, nothing was told apart, and there is no mean (NaN).
    """
    iou = score_overlap(matrices).iou
    if absent is not None:
        return np.asarray(np.nan_to_num(iou, nan=absent).mean(axis=-1))
    defined = np.isfinite(iou)
    count = defined.sum(axis=-1)
    total = np.where(defined, iou, 0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 1)
