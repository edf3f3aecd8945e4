"""From files to files: organs taken through a scan, or found in others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch

from domainsam.errors import ConfigError
from domainsam.foundation import load_decoder
from domainsam.infer.batch import run_batch
from domainsam.infer.objects import EngineResult
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.machine import Precision, choose_precision, keep_freed_memory
from domainsam.progress import report_progress
from domainsam.protocols import Foundation
from domainsam.staging import check_targets
from domainsam_ct.alike.describe import Describer, FoundationDescriber, OrganDescriber
from domainsam_ct.alike.find import Learnt, find, learn_shown
from domainsam_ct.alike.propagate import propagate
from domainsam_ct.alike.settings import FindOptions, Kind, PropagateOptions
from domainsam_ct.alike.starts import Shown, read_shown_marks, read_shown_mask
from domainsam_ct.job import Batch, CasePlan, CaseResult, plan_outputs
from domainsam_ct.labels import check_name, load_label_map
from domainsam_ct.model.organs import MarkedOrgans, load_model
from domainsam_ct.model.sweep import SliceRun
from domainsam_ct.read.open import VolumeSource, open_volume
from domainsam_ct.read.volume import ABDOMEN_WINDOW, Volume
from domainsam_ct.segment import (
    choose_output_labels,
    format_size,
    identify_source,
    may_replace,
    set_window,
    vet_volume,
)
from domainsam_ct.segment_marked import write_answer
from domainsam_ct.settings import SegmentOptions

log = logging.getLogger(__name__)

STAGED_BYTES = 6
"""Bytes a voxel that are staged: likeness, parts, label, probability, mask and confidence."""
Way = Literal["propagated", "like"]


@dataclass(frozen=True)
class Seeker:
    """Who looks: features to compare by, and a foundation where marks have to be decoded."""

    describer: Describer
    foundation: Foundation | None
    precision: Precision

    @property
    def foundation_name(self) -> str:
        """The foundation that took part, or ``none``."""
        return "none" if self.foundation is None else self.foundation.name


def load_seeker(
    job: SegmentOptions, features: Kind, decodes: bool, opened: Callable[[], Foundation] | None = None
) -> Seeker:
    """Load the model or the foundation whose features are compared, and the foundation if it ``decodes``.

    Parameters
    ----------
    opened
        Gives the foundation of a scan that was opened in Python; by default the options name it.

    Raises
    ------
    CheckpointError, WeightsError
        If one of them cannot be loaded.
    ConfigError
        If the model has no features of its own, or a foundation is named that has no part in it.
    """
    run = job.run
    if features == "foundation" and job.model is not None:
        raise ConfigError("--model has no part in it with --features foundation: leave one of them out")
    foundation, precision = None, None
    if features == "foundation" or decodes:
        if opened is None:
            foundation, precision = load_decoder(job.foundation, run.device, run.precision)
        else:
            foundation = opened()
            precision = choose_precision(run.precision, foundation.device.type)
    elif job.foundation is not None:
        raise ConfigError("--foundation has no part in it: give clicks or boxes, or --features foundation")
    if features == "foundation":
        assert foundation is not None
        assert precision is not None
        describer: Describer = FoundationDescriber(foundation, run.window or ABDOMEN_WINDOW, precision)
        return Seeker(describer, foundation, precision)
    model = set_window(load_model(job.model, None, run.device, run.precision, run.batch_size), job)
    return Seeker(OrganDescriber(model), foundation, precision or "float32")


def propagate_scan(
    scan: Path, options: PropagateOptions, told: Callable[[CaseResult], None] | None = None
) -> Batch:
    """Take what was marked on slices of a scan through it, and write every output or none.

    Raises
    ------
    ConfigError
        If nothing is marked, or in two ways.
    MissingInputError, InputError
        If scan or marks cannot be read, or do not belong together.
    DomainSamError
        If the networks cannot be used, or an output exists or cannot be written.
    """
    job = options.job
    if bool(job.marks) == (options.mask is not None):
        raise ConfigError("mark the organ in one way: --points and --boxes, or --mask")
    job.marks.check()
    (plan,) = plan_outputs([scan], (), job.outputs)

    def prepare() -> Callable[[CasePlan], CaseResult]:
        keep_freed_memory()
        seeker = load_seeker(job, options.features, bool(job.marks))
        return lambda plan: _propagate_case(plan, options, seeker)

    return _run((plan,), prepare, job, told)


def find_in_scans(
    scans: Sequence[Path], options: FindOptions, told: Callable[[CaseResult], None] | None = None
) -> Batch:
    """Find in scans what a mask shows in another one, and write every output of each or none.

    Raises
    ------
    MissingInputError, InputError
        If a scan or the example cannot be read, or scan and mask of the example do not belong together.
    DomainSamError
        If the networks cannot be used, or an output exists or cannot be written.
    """
    job = options.job
    plans = plan_outputs(scans, (), job.outputs)

    def prepare() -> Callable[[CasePlan], CaseResult]:
        keep_freed_memory()
        seeker = load_seeker(job, options.features, decodes=False)
        learnt = learn_example(options, seeker)
        # Now that the organs' names are known, so are all files.
        named = plan_outputs(scans, [one.name for one in learnt], job.outputs)
        final = {plan.source: plan for plan in named}
        return lambda plan: _find_case(final[plan.source], options, seeker, learnt)

    return _run(plans, prepare, job, told)


def _run(
    plans: tuple[CasePlan, ...],
    prepare: Callable[[], Callable[[CasePlan], CaseResult]],
    job: SegmentOptions,
    told: Callable[[CaseResult], None] | None,
) -> Batch:
    return run_batch(
        plans,
        lambda plan: plan.stem,
        prepare,
        Batch,
        # Which files there will be is known only once the masks are read.
        resume=job.resume and not job.outputs.per_organ,
        overwrite=lambda plan: may_replace(plan, job),
        watch=told,
    )


def learn_example(options: FindOptions, seeker: Seeker) -> tuple[Learnt, ...]:
    """What the example's organs look like.

    Raises
    ------
    MissingInputError, InputError
        If scan or mask cannot be read, do not belong together, or show nothing.
    """
    job = options.job
    labels = None if job.label_map is None else load_label_map(job.label_map)
    with open_volume(options.scan) as volume:
        shown = read_shown_mask(options.mask, volume, job.organs, labels)
        return learn_shown(volume, shown, seeker.describer)


def _propagate_case(plan: CasePlan, options: PropagateOptions, seeker: Seeker) -> CaseResult:
    job = options.job

    def read(volume: Volume) -> tuple[Shown, ...]:
        if options.mask is not None:
            labels = None if job.label_map is None else load_label_map(job.label_map)
            return read_shown_mask(options.mask, volume, job.organs, labels)
        assert seeker.foundation is not None
        source = VolumeSource(volume, job.run.window or ABDOMEN_WINDOW)
        return read_shown_marks(job.marks, source, seeker.foundation)

    def seek(volume: Volume, shown: Sequence[Shown], run: SliceRun) -> EngineResult:
        return propagate(volume, shown, seeker.describer, run)

    def plan_again(names: Sequence[str]) -> CasePlan:
        return plan_outputs([plan.source], names, job.outputs)[0]

    return _seek_case(plan, job, seeker, "propagated", read, seek, plan_again)


def _find_case(plan: CasePlan, options: FindOptions, seeker: Seeker, learnt: Sequence[Learnt]) -> CaseResult:
    def seek(volume: Volume, known: Sequence[Learnt], run: SliceRun) -> EngineResult:
        return find(volume, known, seeker.describer, run)

    return _seek_case(plan, options.job, seeker, "like", lambda volume: learnt, seek, lambda names: plan)


def _seek_case(
    plan: CasePlan,
    job: SegmentOptions,
    seeker: Seeker,
    way: Way,
    read: Callable[[Volume], Sequence[Shown] | Sequence[Learnt]],
    seek: Callable[..., EngineResult],
    plan_again: Callable[[Sequence[str]], CasePlan],
) -> CaseResult:
    """Look for organs in one scan, and write everything that was planned, or nothing.

    ``plan_again`` gives the plan once the organs' names are known.
    """
    begin = perf_counter()
    with (
        WorkRoom(plan.work, job.resume) as room,
        open_volume(plan.source, job.series_uid, room.folder) as volume,
    ):
        wanted = read(volume)
        names = ("background", *check_labels([one.name for one in wanted]))
        # Chosen among the example's organs already; a label map has named them.
        labels, values = choose_output_labels(names, replace(job, organs=None, label_map=None))
        plan = plan_again(names[1:])
        check_targets(plan.files, may_replace(plan, job))
        volume = vet_volume(volume, plan)
        for warning in volume.warnings:
            log.warning("%s: %s", plan.stem, warning)
        voxels = volume.shape[0] * volume.shape[1] * volume.shape[2]
        needed = voxels * (STAGED_BYTES + len(wanted))
        require_space(room.folder, needed, f"a volume of {format_size(volume.shape)} voxels")
        with report_progress(plan.stem, job.quiet) as progress:
            pace = job.run.batch_size, job.run.workers, job.resume
            run = SliceRun(room.folder, identify_source(plan.source), *pace, progress)
            answer = seek(volume, wanted, run)
        window = job.run.window or ABDOMEN_WINDOW
        dtype = getattr(torch, seeker.precision)
        model = MarkedOrgans(seeker.foundation_name, window, names, dtype, method=way)
        return write_answer(plan, volume, answer, (labels, values), model, job, room, begin)


def check_labels(names: Sequence[str]) -> Sequence[str]:
    """The same names, if each can stand in a mask's header and in a file's name.

    Raises
    ------
    ConfigError
        If one cannot.
    """
    for name in names:
        if not check_name(name):
            raise ConfigError(
                f"an organ is called {name!r}; expected letters, digits, '_', '-' and '.' alone"
            )
    return names
