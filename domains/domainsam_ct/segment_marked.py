"""Organs that a person marked: clicks and boxes on slices become masks on the scan's own grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from domainsam.checkpoint import NO_FOUNDATION
from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_decoder
from domainsam.infer.batch import run_batch
from domainsam.infer.blend import LEVELS
from domainsam.infer.engine import prompt_scene
from domainsam.infer.found import UNNAMED, label_all
from domainsam.infer.objects import EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.infer.store import RawRaster
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.io.marks import read_mark_files
from domainsam.machine import keep_freed_memory
from domainsam.progress import report_progress
from domainsam.prompter.clicks import Clicks
from domainsam.protocols import Foundation
from domainsam.staging import check_targets
from domainsam_ct.job import Batch, CasePlan, CaseResult, Made, Segmented, plan_outputs
from domainsam_ct.labels import LabelMap, check_name
from domainsam_ct.measure.cleanup import Cleaned
from domainsam_ct.model.organs import MarkedOrgans
from domainsam_ct.read.open import VolumeSource, open_volume
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.read.volume import ABDOMEN_WINDOW, Volume
from domainsam_ct.segment import (
    choose_output_labels,
    drop_unwritable,
    format_size,
    get_native_grid,
    identify_source,
    may_replace,
    measure,
    segment_cases,
    vet_volume,
)
from domainsam_ct.settings import SegmentOptions
from domainsam_ct.write.products import describe_making, write_products

log = logging.getLogger(__name__)

STAGED_BYTES = 5
"""Bytes a voxel that are staged: where there are slices, probability and label, and mask and confidence."""


def segment_inputs(
    inputs: Sequence[Path], options: SegmentOptions, told: Callable[[CaseResult], None] | None = None
) -> Batch:
    """Segment CTs by the model, or what files mark in one of them, as the options say.

    Raises
    ------
    DomainSamError
        As :func:`~domainsam_ct.segment.segment_cases` and :func:`segment_marked`.
    """
    if options.marks:
        return segment_marked(inputs, options, told)
    return segment_cases(inputs, options, told=told)


def segment_marked(
    inputs: Sequence[Path], options: SegmentOptions, told: Callable[[CaseResult], None] | None = None
) -> Batch:
    """Segment what files mark in one CT: each mark on its slice, nothing elsewhere.

    Clean-up takes no part: what was marked stays. ``told`` is called with the result.

    Raises
    ------
    ConfigError
        If there is more than one CT, or the label map lacks a label.
    MissingInputError, InputError
        If the CT or the marks cannot be read, or a mark lies outside.
    DomainSamError
        If the foundation cannot be used, or an output exists or cannot be written.
    """
    if len(inputs) != 1:
        raise ConfigError(f"marks belong to one scan, but {len(inputs)} were given: one at a time, please")
    options.marks.check()
    (plan,) = plan_outputs(inputs, (), options.outputs)

    def prepare() -> Callable[[CasePlan], CaseResult]:
        keep_freed_memory()
        run = options.run
        foundation, precision = load_decoder(options.foundation, run.device, run.precision, run.runtime)
        return lambda plan: _segment_case(plan, options, foundation, EngineOptions(dtype=precision))

    return run_batch(
        (plan,),
        lambda plan: plan.stem,
        prepare,
        Batch,
        # Which files there will be is known only once the marks are read.
        resume=options.resume and not options.outputs.per_organ,
        overwrite=may_replace(plan, options),
        watch=told,
    )


def _segment_case(
    plan: CasePlan, options: SegmentOptions, foundation: Foundation, engine: EngineOptions
) -> CaseResult:
    begin = perf_counter()
    with (
        WorkRoom(plan.work, options.resume) as room,
        open_volume(plan.source, options.series_uid, room.folder) as volume,
    ):
        source = VolumeSource(volume, options.run.window or ABDOMEN_WINDOW)
        marks = named(read_mark_files(options.marks, source.grid, volume.native.native_grid()))
        names = ("background", *dict.fromkeys(mark.label or UNNAMED for mark in marks.objects))
        labels, values = choose_output_labels(names, options)
        (plan,) = plan_outputs([plan.source], [organ.name for organ in labels.values()], options.outputs)
        check_targets(plan.files, may_replace(plan, options))
        volume = vet_volume(volume, plan)
        for warning in volume.warnings:
            log.warning("%s: %s", plan.stem, warning)
        voxels = volume.shape[0] * volume.shape[1] * volume.shape[2]
        require_space(room.folder, voxels * STAGED_BYTES, f"a volume of {format_size(volume.shape)} voxels")
        with report_progress(plan.stem, options.quiet) as progress:
            answer = prompt_scene(
                source,
                marks,
                foundation,
                room.folder,
                replace(engine, batch_size=options.run.batch_size, workers=options.run.workers),
                labels=names[1:],
                identity={**identify_source(plan.source), "window": list(source.window)},
                resume=options.resume,
                progress=progress,
            )
        model = MarkedOrgans(foundation.name, source.window, names, getattr(torch, engine.dtype))
        return write_answer(plan, volume, answer, (labels, values), model, options, room, begin)


def write_found(
    source: VolumeSource, answer: EngineResult, options: SegmentOptions, foundation: Foundation | None
) -> CaseResult:
    """Write what was found in an opened CT, as :func:`segment_marked` does for marks.

    ``foundation`` is None where none took part.

    Raises
    ------
    ConfigError
        If the label map lacks a label.
    InputError
        If a label cannot stand in a file's name.
    OutputError
        If an output exists or cannot be written.
    """
    begin = perf_counter()
    for label in answer.names:
        _check_label("an object is", label)
    names = ("background", *(answer.names or (UNNAMED,)))
    labels, values = choose_output_labels(names, options)
    scan = source.path or Path(source.volume.source_name)
    (plan,) = plan_outputs([scan], [organ.name for organ in labels.values()], options.outputs)
    check_targets(plan.files, may_replace(plan, options))
    volume = vet_volume(source.volume, plan)
    with WorkRoom(plan.work, resume=False) as room:
        labelled = label_all(answer, room.folder)
        name = NO_FOUNDATION if foundation is None else foundation.name
        model = MarkedOrgans(name, source.window, names, torch.float32)
        return write_answer(plan, volume, labelled, (labels, values), model, options, room, begin)


def write_answer(
    plan: CasePlan,
    volume: Volume,
    answer: EngineResult,
    numbers: tuple[LabelMap, Mapping[int, int]],
    model: MarkedOrgans,
    options: SegmentOptions,
    room: WorkRoom,
    begin: float,
) -> CaseResult:
    """Measure what was marked, and write everything that was planned, or nothing."""
    labels, values = numbers
    mask, confidence = stage_marked(answer, values, volume, room.folder)
    with mask, confidence:
        tally = measure(volume, mask, mask, confidence, labels)
        organs = tally.statistics(get_native_grid(volume))
        segmented = Segmented(volume, mask, labels, tally, organs, Cleaned({}, {}), answer.resumed)
        making = {**describe_making(model, options), **answer.told}
        made = Made(segmented, making, options.outputs, "semiautomatic", begin)
        return write_products(drop_unwritable(plan, made), made, room, may_replace(plan, options))


def named(marks: Clicks) -> Clicks:
    """The same marks, each with a label that can stand in a mask's header and in a file's name.

    Raises
    ------
    InputError
        If a label holds anything but letters, digits, ``_``, ``-`` and ``.``.
    """
    objects = [replace(mark, label=mark.label or UNNAMED) for mark in marks.objects]
    for number, mark in enumerate(objects, start=1):
        _check_label(f"{marks.origin}: object {number} is", mark.label or UNNAMED)
    return Clicks(objects, marks.origin)


def _check_label(what: str, label: str) -> None:
    if not check_name(label):
        raise InputError(f"{what} labelled {label!r}; expected letters, digits, '_', '-' and '.' alone")


def stage_marked(
    answer: EngineResult, values: Mapping[int, int], volume: Volume, folder: Path
) -> tuple[StagedVolume, StagedVolume]:
    """The mask with its values, and its confidence (255 times the probability, 0 outside), staged.

    Parameters
    ----------
    values
        Value to write for each of the answer's labels; labels that are absent become background.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    assert answer.labels is not None
    lookup = np.zeros(256, np.uint8)
    lookup[list(values)] = list(values.values())
    rows = RawRaster.create(folder / "mask.u8", answer.shape, answer.frames)
    sure = RawRaster.create(folder / "confidence.u8", answer.shape, answer.frames)
    with (
        RawRaster.open(answer.labels, answer.shape, answer.frames) as labels,
        RawRaster.open(answer.probability, answer.shape, answer.frames) as probability,
    ):
        for window in labels.bands(answer.shape[0] * answer.shape[1]):
            found = lookup[labels.read(window)]
            share = np.rint(probability.read(window) * np.float32(255 / LEVELS)).astype(np.uint8)
            rows.write(window, found)
            sure.write(window, np.where(found > 0, share, 0).astype(np.uint8))
    return StagedVolume(rows), StagedVolume(sure)
