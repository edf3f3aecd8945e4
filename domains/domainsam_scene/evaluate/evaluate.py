"""Run a model over a labelled folder, with all sensors and without some."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.metrics.overlap import Confusion
from domainsam.progress import Progress, report_nothing
from domainsam_scene.evaluate.missing import Variant, apply_variant, plan_variants
from domainsam_scene.evaluate.summary import Evaluation, SampleScores
from domainsam_scene.model.predict import MULTIPLE, NODATA, ScenePrediction
from domainsam_scene.model.scene import SceneModel
from domainsam_scene.read.layouts import find_layout
from domainsam_scene.read.layouts.base import (
    IGNORE,
    Labels,
    Layout,
    SampleRef,
    check_present,
    read_sample,
)
from domainsam_scene.read.layouts.georaster import GeorasterLayout
from domainsam_scene.read.modalities import Sample
from domainsam_scene.read.reading import settle_reading
from domainsam_scene.segment import choose_sensors
from domainsam_scene.settings import ReadOptions

log = logging.getLogger(__name__)

Watcher = Callable[["Seen"], None]


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated: sensors (empty: all that layout and model share), protocols, reading, how many.

    ``geotiff``: the folder holds georeferenced rasters. ``grid``: scenes are scored on their own pixels, or
    on the network's, as DELIVER's code does: pictures and labels are brought to it first.
    """

    modalities: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    read: ReadOptions = field(default_factory=ReadOptions)
    limit: int | None = None
    seed: int = 0
    geotiff: bool = False
    grid: Literal["scene", "network"] = "scene"


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
    reader: Layout = find_layout(layout)
    read = settle_reading(options.read, model.reading, model.modalities, options.geotiff)
    options = replace(options, read=read)
    if options.geotiff:
        reader = GeorasterLayout(model.image_size, read.bands)
    reader.dilate = read.dilate
    refs = reader.samples(root, split)[: options.limit]
    sensors = choose_sensors(reader, model, options.modalities)
    check_present(refs, options.modalities, root, "--modalities")
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
    found = Evaluation(
        model.labels, variants, tuple(samples), tuple(skipped), reader.absent_iou, options.seed, read.notes
    )
    return replace(found, notes=(*found.notes, *_told_of_truth(found, root)))


def _told_of_truth(found: Evaluation, root: Path) -> list[str]:
    """What is to be told of the labels that an evaluation met, also logged."""
    notes = []
    if len(found.absent) > len(found.labels) - 2:
        only = ", ".join(label for label in found.labels if label not in found.absent) or "no class"
        notes.append(
            f"{root}: {only} alone occurs in the labels, which leaves no mean IoU over classes; "
            f"are some pixels drawn as {IGNORE}, which means unknown?"
        )
    elif found.absent:
        notes.append(f"never in the labels, and no IoU of theirs: {', '.join(found.absent)}")
    for note in notes:
        log.warning("%s", note)
    return notes


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
    if options.grid == "network" and truth.shape == sample.shape:
        sample, truth = lay_on_network(sample, truth, model.image_size)
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


def lay_on_network(sample: Sample, truth: Labels, side: int) -> tuple[Sample, Labels]:
    """A sample and its labels as DELIVER's code scores them.

    The shorter side becomes ``side``, then both are stretched to the next
    multiple of 32: pictures bilinearly, labels by the nearest pixel.
    """
    rows, cols = truth.shape
    scale = side / min(rows, cols)
    size = tuple(-(-round(length * scale) // MULTIPLE) * MULTIPLE for length in (rows, cols))
    height, width = size[0], size[1]

    def laid(values: NDArray[Any], mode: str) -> NDArray[Any]:
        planes = torch.from_numpy(values.astype(np.float32)).reshape(1, -1, rows, cols)
        align = False if mode == "bilinear" else None
        return np.asarray(F.interpolate(planes, (height, width), mode=mode, align_corners=align)[0].numpy())

    images = {name: laid(image, "bilinear") for name, image in sample.images.items()}
    valid = {name: laid(mask, "nearest")[0] > 0 for name, mask in sample.valid.items()}
    return replace(sample, images=images, valid=valid), laid(truth, "nearest")[0].astype(np.uint8)


def count_confusion(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Confusion matrix ``(K, K)``; a pixel that no sensor saw counts as class 0, the largest of equal shares.

    Leaving such pixels out would reward a model for sensors that see little.
    """
    answered = np.where(predicted == NODATA, np.uint8(0), predicted)
    return Confusion(classes).add(truth, answered).matrix
