"""Run a model over a labelled folder, with all sensors and without some."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.metrics.overlap import Confusion
from domainsam.progress import Progress, report_nothing
from domainsam_scene.evaluate.missing import Variant, apply_variant, plan_variants
from domainsam_scene.evaluate.summary import Evaluation, SampleScores
from domainsam_scene.model.predict import NODATA, ScenePrediction
from domainsam_scene.model.scene import SceneModel
from domainsam_scene.read.layouts import find_layout
from domainsam_scene.read.layouts.base import IGNORE, Labels, Layout, SampleRef, read_sample
from domainsam_scene.segment import choose_sensors
from domainsam_scene.settings import ReadOptions

log = logging.getLogger(__name__)

Watcher = Callable[["Seen"], None]


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated: sensors (empty: all that layout and model share), protocols, reading, how many."""

    modalities: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    read: ReadOptions = field(default_factory=ReadOptions)
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Seen:
    """One sample as it was scored with all sensors, for whoever wants to draw it."""

    name: str
    images: dict[str, NDArray[np.float32]]
    truth: Labels
    prediction: ScenePrediction
    labels: tuple[str, ...]


def evaluate_layout(
    layout: str,
    root: Path,
    split: str | None,
    model: SceneModel,
    options: EvaluateOptions,
    watch: Watcher | None = None,
    progress: Progress = report_nothing,
) -> Evaluation:
    """Score a model on a labelled folder.

    Parameters
    ----------
    watch
        Shown every sample with its answer from all sensors.

    Raises
    ------
    InputError
        If the folder is not of the layout, its classes do not fit the model,
        or no sample can be scored.
    """
    reader = find_layout(layout)
    refs = reader.samples(root, split)[: options.limit]
    sensors = choose_sensors(reader, model, options.modalities)
    table = match_labels(reader.labels or model.labels, model.labels, root)
    variants = plan_variants(sensors, options.protocols)
    samples: list[SampleScores] = []
    skipped: list[tuple[str, str]] = []
    for index, ref in enumerate(refs):
        try:
            samples.append(_score(reader, ref, table, variants, model, options, watch))
        except InputError as error:
            if options.read.strict:
                raise
            log.error("%s: %s", ref.name, error)
            skipped.append((ref.name, str(error)))
        pixels = int(samples[-1].matrices[variants[0].name].sum()) if samples else 1
        progress("evaluate", (index + 1) * pixels, len(refs) * pixels)
    if not samples:
        raise InputError(f"{root}: not one of {len(refs)} samples could be scored: {skipped[0][1]}")
    return Evaluation(model.labels, variants, tuple(samples), tuple(skipped), reader.absent_iou, options.seed)


def match_labels(data: Sequence[str], model: Sequence[str], root: Path) -> NDArray[np.uint8]:
    """Numbers of the data's classes as the model counts them, ``(256,)``; the same names in any order.

    Raises
    ------
    InputError
        If the lists hold different names.
    """
    if sorted(data) != sorted(model):
        strange = [name for name in data if name not in model]
        lacking = [name for name in model if name not in data]
        raise InputError(
            f"{root}: its {len(data)} classes do not fit the model's {len(model)}: "
            f"only the data has {', '.join(strange[:5]) or 'none'}, "
            f"only the model {', '.join(lacking[:5]) or 'none'}; "
            "evaluate a model that was trained on these classes"
        )
    table = np.full(256, IGNORE, np.uint8)
    table[: len(data)] = [list(model).index(name) for name in data]
    return table


def _score(
    layout: Layout,
    ref: SampleRef,
    table: NDArray[np.uint8],
    variants: Sequence[Variant],
    model: SceneModel,
    options: EvaluateOptions,
    watch: Watcher | None,
) -> SampleScores:
    truth = table[layout.read_labels(ref)]
    sample = read_sample(layout, ref, variants[0].sensors, options.read)
    if truth.shape != sample.shape:
        raise InputError(
            f"{ref.name}: labels are {truth.shape[1]} x {truth.shape[0]} pixels, "
            f"sensors {sample.shape[1]} x {sample.shape[0]}: expected the same size"
        )
    for reason in sample.missing.values():
        log.warning("%s; scored with %s", reason, ", ".join(sample.images))
    matrices = {}
    for variant in variants:
        images, valid = apply_variant(variant, sample, options.seed)
        if not images:
            continue
        prediction = model.predict_sensors(images, valid)
        matrices[variant.name] = count_confusion(truth, prediction.labels, len(model.labels))
        if watch is not None and variant is variants[0]:
            watch(Seen(ref.name, images, truth, prediction, model.labels))
    return SampleScores(ref.name, ref.conditions, matrices, sample.missing, sample.notes)


def count_confusion(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Confusion matrix ``(K, K)``; a pixel that no sensor saw counts as class 0, the largest of equal shares.

    Leaving such pixels out would reward a model for sensors that see little.
    """
    answered = np.where(predicted == NODATA, np.uint8(0), predicted)
    return Confusion(classes).add(truth, answered).matrix
