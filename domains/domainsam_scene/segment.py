"""Segment multi-sensor scenes and write maps: the pack's main job."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from domainsam.errors import ConfigError, InputError
from domainsam.infer.batch import run_batch
from domainsam.machine import keep_freed_memory
from domainsam.staging import Staging
from domainsam_scene.job import Batch, Maker, SamplePlan, SegmentResult, plan_outputs
from domainsam_scene.model.predict import NODATA, SCALE, ScenePrediction
from domainsam_scene.model.scene import SceneModel, load_model
from domainsam_scene.read.layouts import find_layout
from domainsam_scene.read.layouts.base import Layout, SampleRef, check_given, check_present, read_sample
from domainsam_scene.read.layouts.plain import PlainLayout
from domainsam_scene.read.modalities import Sample
from domainsam_scene.read.reading import settle_reading
from domainsam_scene.settings import SegmentOptions
from domainsam_scene.write.maps import Answer, write_answer
from domainsam_scene.write.preview import Picture, draw_preview

log = logging.getLogger(__name__)

Watcher = Callable[[SegmentResult], None]
"""Shown every result as soon as it is there."""


def segment_files(
    files: Mapping[str, Path], options: SegmentOptions, model: SceneModel | None = None
) -> Batch:
    """Segment one scene from one file a sensor.

    Parameters
    ----------
    files
        By sensor.
    model
        A model that is loaded already; otherwise ``options`` says which.

    Raises
    ------
    DomainSamError
        If nothing can be read, sizes cannot be brought together, the model
        does not know a sensor, or an output cannot be written.
    """
    if not files:
        raise InputError("no sensor was given: name one or more, for example --rgb a.png --depth a_depth.png")
    first = next(iter(files.values()))
    (plan,) = plan_outputs([first.stem], options.outputs, tuple(files.values()))
    check_given(files)

    def prepare() -> Callable[[SamplePlan], SegmentResult]:
        loaded = model or load_chosen_model(options)
        check_known(tuple(files), loaded)
        settled = replace(options, read=settle_reading(options.read, loaded.reading, tuple(files)))
        ref = SampleRef(plan.name, {name: (path,) for name, path in files.items()})
        return lambda plan: segment_sample(PlainLayout(), ref, tuple(files), plan, settled, loaded)

    return run_single(plan, prepare, options)


def run_single(
    plan: SamplePlan, prepare: Callable[[], Callable[[SamplePlan], SegmentResult]], options: SegmentOptions
) -> Batch:
    """Run one plan, as :func:`~domainsam.infer.batch.run_batch` runs many."""
    resume = options.resume
    overwrite = plan.may_replace(options.outputs.overwrite, resume)
    return run_batch([plan], _name, prepare, Batch, resume=resume, overwrite=overwrite)


def _name(plan: SamplePlan) -> str:
    return plan.name


def load_chosen_model(options: SegmentOptions) -> SceneModel:
    """Load the model that the options name, and keep freed memory from then on."""
    keep_freed_memory()
    run = options.run
    return load_model(options.model, options.foundation, run.device, run.precision)


def segment_layout(
    layout: str,
    root: Path,
    split: str | None,
    options: SegmentOptions,
    model: SceneModel | None = None,
    watch: Watcher | None = None,
) -> Batch:
    """Segment every sample of a folder; one that fails is reported and the rest go on.

    ``watch`` is shown every result as soon as it is there.

    Raises
    ------
    DomainSamError
        If the folder is not of the layout, outputs clash or exist, or the
        model cannot be used; all before any work.
    """
    reader = find_layout(layout)
    refs = reader.samples(root, split)
    plans = plan_outputs([ref.name for ref in refs], options.outputs)
    samples = {plan.name: ref for plan, ref in zip(plans, refs, strict=True)}

    def prepare() -> Callable[[SamplePlan], SegmentResult]:
        loaded = model or load_chosen_model(options)
        sensors = choose_sensors(reader, loaded, options.modalities)
        check_present(refs, options.modalities, root, "--modalities")
        settled = replace(options, read=settle_reading(options.read, loaded.reading, sensors))
        reader.dilate = settled.read.dilate

        def segment(plan: SamplePlan) -> SegmentResult:
            return segment_sample(reader, samples[plan.name], sensors, plan, settled, loaded)

        return segment

    batch = run_batch(
        plans,
        _name,
        prepare,
        Batch,
        resume=options.resume,
        overwrite=lambda plan: plan.may_replace(options.outputs.overwrite, options.resume),
        raise_single=False,
        watch=watch,
    )
    failures = batch.failures
    if failures and not batch.results and not batch.complete:
        raise InputError(f"{root}: not one of {len(failures)} samples could be segmented: {failures[0][1]}")
    return replace(batch, complete=tuple(sorted(batch.complete)))


def segment_sample(
    layout: Layout,
    ref: SampleRef,
    sensors: Sequence[str],
    plan: SamplePlan,
    options: SegmentOptions,
    model: SceneModel,
) -> SegmentResult:
    """Segment one sample and write everything that was planned for it, or nothing.

    Raises
    ------
    DomainSamError
        If no sensor can be read, or an output cannot be written.
    """
    begin = perf_counter()
    sample = read_sample(layout, ref, sensors, options.read)
    report_liberties(sample)
    prediction = model.predict_sensors(sample.images, sample.valid)
    return write_sample(sample, prediction, plan, options, model, begin)


def report_liberties(sample: Sample) -> None:
    """Warn of sensors that are missing, and of what was changed in reading the others."""
    for reason in sample.missing.values():
        log.warning("%s; going on with %s", reason, ", ".join(sample.images))
    for note in sample.notes:
        log.warning("%s: %s", sample.name, note)


def write_sample(
    sample: Sample,
    prediction: ScenePrediction,
    plan: SamplePlan,
    options: SegmentOptions,
    model: Maker,
    begin: float,
) -> SegmentResult:
    """Write everything that was planned for a sample, or nothing; ``begin`` is when it was opened.

    Raises
    ------
    OutputError
        If an output cannot be written.
    """
    overwrite = plan.may_replace(options.outputs.overwrite, options.resume)
    with Staging(plan.files, overwrite=overwrite) as staging:
        for kind, path in plan.paths.items():
            if kind == "preview":
                facts = f"{', '.join(sample.images)}; model {model.name}"
                picture = Picture(sample.name, facts, sample.images, prediction, model.labels)
                draw_preview(staging[path], picture)
            elif kind != "summary":
                write_answer(kind, staging[path], Answer(prediction, model.labels))
        sample = replace(sample, notes=(*options.read.notes, *sample.notes))
        result = summarise_prediction(sample, prediction, plan, model, begin)
        if "summary" in plan.paths:
            staging.write_text(plan.paths["summary"], json.dumps(result.document(), indent=2) + "\n")
    return result


def summarise_prediction(
    sample: Sample, prediction: ScenePrediction, plan: SamplePlan, model: Maker, begin: float
) -> SegmentResult:
    """Summarise a prediction: share of each class, mean confidence, contribution of each sensor."""
    judged = prediction.labels != NODATA
    count = max(1, int(judged.sum()))
    pixels = np.bincount(prediction.labels[judged], minlength=len(model.labels))
    return SegmentResult(
        name=sample.name,
        paths=plan.paths,
        shape=sample.shape,
        sensors=tuple(sample.images),
        missing=sample.missing,
        notes=sample.notes,
        shares={
            label: float(number / count) for label, number in zip(model.labels, pixels, strict=True) if number
        },
        contribution={
            name: float(part[judged].mean() / SCALE) if judged.any() else 0.0
            for name, part in prediction.contribution.items()
        },
        confidence=float(prediction.confidence[judged].mean() / SCALE) if judged.any() else 0.0,
        valid_share=float(judged.mean()),
        seconds=perf_counter() - begin,
        model=model.name,
        foundation=model.foundation_name,
    )


def choose_sensors(layout: Layout, model: SceneModel, wanted: Sequence[str]) -> tuple[str, ...]:
    """The sensors to use: those asked for, else all that both the layout and the model know.

    Raises
    ------
    ConfigError
        If the layout does not know one that was asked for.
    InputError
        If the model does not know one that was asked for, or none of the layout's.
    """
    unknown = [name for name in wanted if layout.modalities and name not in layout.modalities]
    if unknown:
        raise ConfigError(
            f"--modalities: {', '.join(unknown)} is not in layout {layout.name}; "
            f"it has: {', '.join(layout.modalities)}"
        )
    if wanted:
        check_known(wanted, model)
        return tuple(wanted)
    shared = tuple(name for name in model.modalities if name in layout.modalities)
    if not shared:
        raise InputError(
            f"the model was trained on {', '.join(model.modalities)}; the data has "
            f"{', '.join(layout.modalities)}: no sensor in common"
        )
    return shared


def check_known(names: Sequence[str], model: SceneModel) -> None:
    """Refuse sensors that the model was not trained on.

    Raises
    ------
    InputError
        If there are any.
    """
    strangers = [name for name in names if name not in model.modalities]
    if strangers:
        raise InputError(
            f"the model {model.name} was not trained on {', '.join(strangers)}; it knows: "
            f"{', '.join(model.modalities)}; leave it out, or train a model that has it"
        )
