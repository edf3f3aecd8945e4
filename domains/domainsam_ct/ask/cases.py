"""From a scan to the files of what words mean in it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from domainsam.foundation import load_decoder
from domainsam.infer.batch import run_batch
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.machine import Precision, choose_precision, keep_freed_memory
from domainsam.progress import report_progress
from domainsam.prompter.language.speakers import load_speaker
from domainsam.prompter.language.wording import check_phrase
from domainsam.protocols import Foundation
from domainsam.staging import check_targets
from domainsam_ct.ask.settings import WINDOWS, AskJobOptions
from domainsam_ct.ask.volume import Asking, ask_volume
from domainsam_ct.job import Batch, CasePlan, CaseResult, plan_outputs
from domainsam_ct.model.organs import MarkedOrgans
from domainsam_ct.model.sweep import SliceRun
from domainsam_ct.read.open import open_volume
from domainsam_ct.segment import (
    choose_output_labels,
    format_size,
    identify_source,
    may_replace,
    vet_volume,
)
from domainsam_ct.segment_marked import write_answer

log = logging.getLogger(__name__)

STAGED_BYTES = 4
"""Bytes a voxel that are staged: label, probability, mask and confidence."""
REGIONS = (
    (r"\b(?:lungs?|bronch\w*|airways?|trachea|emphysema|pneumo\w*|ground.glass)\b", "lung"),
    (r"\b(?:bones?|ribs?|vertebra\w*|spine|skeleton|femurs?|sacrum|sternum|fractures?)\b", "bone"),
    (r"\b(?:brain|cerebell\w*|intracranial)\b", "brain"),
    (r"\b(?:heart|aort\w*|mediastin\w*|o?esophag\w*|thymus)\b", "mediastinum"),
)
"""Words that tell which window a radiologist would look at; all else is looked at as the abdomen."""


def ask_scan(scan: Path, options: AskJobOptions, told: Callable[[CaseResult], None] | None = None) -> Batch:
    """Ask a language model where in a scan something is, and write every output or none.

    Raises
    ------
    InputError
        If the scan cannot be read, or the words say nothing.
    ConfigError
        If slices would leave this machine and that was not allowed.
    DomainSamError
        If the models cannot be used, or an output exists or cannot be written.
    """
    check_phrase(options.phrase)
    job = options.job
    (plan,) = plan_outputs([scan], [options.label], job.outputs)

    def prepare() -> Callable[[CasePlan], CaseResult]:
        keep_freed_memory()
        asking, precision = load_asking(options)
        return lambda plan: _ask_case(plan, options, asking, precision)

    return run_batch(
        (plan,),
        lambda plan: plan.stem,
        prepare,
        Batch,
        resume=job.resume,
        overwrite=lambda plan: may_replace(plan, job),
        watch=told,
    )


def load_asking(options: AskJobOptions, opened: Foundation | None = None) -> tuple[Asking, Precision]:
    """Who is asked, and what; ``opened`` is a foundation that is loaded already.

    Raises
    ------
    ConfigError
        If slices would leave this machine and that was not allowed.
    WeightsError, CheckpointError, DependencyError
        If a model cannot be loaded.
    """
    job, run = options.job, options.job.run
    if options.ask.remote:
        from domainsam.prompter.language.endpoint import refuse_remote

        refuse_remote(options.ask)
    speaker = load_speaker(options.ask, run.device, run.precision)
    if opened is None:
        foundation, precision = load_decoder(job.foundation, run.device, run.precision)
    else:
        foundation, precision = opened, choose_precision(run.precision, opened.device.type)
    window = run.window or choose_window(options.phrase)
    asking = Asking(
        speaker,
        foundation,
        options.ask,
        check_phrase(options.phrase),
        options.label,
        window,
        options.every,
        options.parts,
    )
    return asking, precision


def choose_window(phrase: str) -> tuple[float, float]:
    """Hounsfield units in which a radiologist would look for what a phrase means."""
    text = phrase.lower()
    region = next((name for pattern, name in REGIONS if re.search(pattern, text)), "abdomen")
    return WINDOWS[region]


def _ask_case(plan: CasePlan, options: AskJobOptions, asking: Asking, precision: Precision) -> CaseResult:
    begin = perf_counter()
    job = options.job
    with (
        WorkRoom(plan.work, job.resume) as room,
        open_volume(plan.source, job.series_uid, room.folder) as volume,
    ):
        names = ("background", asking.label)
        labels, values = choose_output_labels(names, replace(job, organs=None))
        check_targets(plan.files, may_replace(plan, job))
        volume = vet_volume(volume, plan)
        for warning in volume.warnings:
            log.warning("%s: %s", plan.stem, warning)
        voxels = volume.shape[0] * volume.shape[1] * volume.shape[2]
        require_space(room.folder, voxels * STAGED_BYTES, f"a volume of {format_size(volume.shape)} voxels")
        with report_progress(plan.stem, job.quiet) as progress:
            run = SliceRun(room.folder, identify_source(plan.source), 1, 1, job.resume, progress)
            answer = ask_volume(volume, asking, run)
        dtype = getattr(torch, precision)
        model = MarkedOrgans(asking.foundation.name, asking.window, names, dtype, method="ask")
        return write_answer(plan, volume, answer, (labels, values), model, job, room, begin)
