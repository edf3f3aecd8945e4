"""From CTs to finished files: the main job, as the command line and Python call it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from domainsam.checkpoint import read_header
from domainsam.errors import ConfigError
from domainsam.infer.allocator import keep_freed_memory
from domainsam.infer.workroom import WorkRoom
from domainsam.staging import check_targets
from domainsam_cli.errors import explain
from domainsam_cli.progress import pixel_progress
from domainsam_ct.cohort import write_table
from domainsam_ct.dicom_source import series_of
from domainsam_ct.model import OrganModel, load_model, shipped_model
from domainsam_ct.outputs import DICOM_KINDS, CasePlan, is_complete, plan_outputs, was_interrupted
from domainsam_ct.products import Made, write_products
from domainsam_ct.results import Batch, CaseResult
from domainsam_ct.segment_options import SegmentOptions
from domainsam_ct.segmenting import cleaning, output_labels, segment
from domainsam_ct.volume import open_volume

log = logging.getLogger(__name__)


def segment_cases(
    inputs: Sequence[Path],
    options: SegmentOptions,
    model: OrganModel | None = None,
    told: Callable[[CaseResult], None] = lambda result: None,
) -> Batch:
    """Segment CTs one after another with one model.

    A case that fails among several is reported and the rest go on; with
    ``options.resume`` cases whose files are all there are passed over. Of
    several cases a table is written beside their masks.

    Parameters
    ----------
    inputs
        Volume files, DICOM folders or zips of them.
    model
        A model that is loaded already; otherwise ``options`` says which.
    told
        Called with every result as soon as its files are in place.

    Raises
    ------
    DomainSamError
        If outputs clash or exist, or the model cannot be used (both before any
        work); or, of a single case, whatever made it fail.
    """
    names = model.labels if model is not None else model_labels(options.model)
    labels, _ = output_labels(names, options)
    cleaning(options.clean, labels)
    plans = plan_outputs(inputs, [organ.name for organ in labels.values()], options.outputs)
    complete = [plan for plan in plans if options.resume and is_complete(plan)]
    for plan in complete:
        _tidy(plan)
    waiting = [plan for plan in plans if plan not in complete]
    for plan in waiting:
        check_targets(plan.files, may_replace(plan, options))
    if waiting:
        keep_freed_memory()
        model = prepared(model or chosen_model(options), options)
    results: list[CaseResult] = []
    failures: list[tuple[str, str]] = []
    for plan in waiting:
        assert model is not None
        try:
            results.append(segment_case(plan, options, model))
            told(results[-1])
        except Exception as error:
            # Even a fault of our own in one case must not cost the others.
            if len(plans) == 1:
                raise
            reason, _ = explain(error)
            log.error("%s: %s", plan.stem, reason)
            failures.append((plan.stem, reason))
    table = write_table(plans, failures, labels, options) if len(plans) > 1 else None
    return Batch(tuple(results), tuple(failures), tuple(plan.stem for plan in complete), table)


def segment_case(plan: CasePlan, options: SegmentOptions, model: OrganModel) -> CaseResult:
    """Segment one CT and write everything that was planned for it, or nothing.

    Raises
    ------
    DomainSamError
        If it cannot be read, the disk is full, or an output cannot be written.
    """
    begin = perf_counter()
    with (
        WorkRoom(plan.work, options.resume) as room,
        open_volume(plan.source, options.series_uid, room.folder) as volume,
    ):
        if plan.side.keys() & set(DICOM_KINDS):
            # Found out now and not after an hour's work.
            series_of(volume, "a DICOM SEG or RTSTRUCT")
        for warning in volume.warnings:
            log.warning("%s: %s", plan.stem, warning)
        with pixel_progress(plan.stem, options.quiet) as progress:
            segmented = segment(volume, model, options, room, plan.source, progress)
        with segmented.mask:
            made = Made(segmented, model, options, begin)
            return write_products(writable(plan, made), made, room, may_replace(plan, options))


def may_replace(plan: CasePlan, options: SegmentOptions) -> bool:
    """Whether files of a case may be replaced: a killed run may have left some of them in place."""
    return options.outputs.overwrite or (options.resume and was_interrupted(plan))


def writable(plan: CasePlan, made: Made) -> CasePlan:
    """The plan without what cannot be written when no organ was found."""
    if any(organ.found for organ in made.segmented.organs) or not plan.side.keys() & set(DICOM_KINDS):
        return plan
    log.warning("%s: no organ was found, so there is no DICOM SEG or RTSTRUCT", plan.stem)
    return plan.without(DICOM_KINDS)


def _tidy(plan: CasePlan) -> None:
    """Remove what a run left that was killed after a case's last file was in place."""
    if plan.work.is_dir():
        with WorkRoom(plan.work, resume=False):
            pass


def model_labels(path: Path | None) -> tuple[str, ...]:
    """Labels of a model file, read from its header alone.

    Raises
    ------
    CheckpointError
        If it is absent or damaged.
    WeightsError
        If none is named and the package has none of its own.
    """
    return read_header(path or shipped_model()).labels


def chosen_model(options: SegmentOptions) -> OrganModel:
    """The model that the options name."""
    run = options.run
    return load_model(options.model, options.foundation, run.device, run.precision, run.batch_size)


def prepared(model: OrganModel, options: SegmentOptions) -> OrganModel:
    """The model with the window that was asked for.

    Raises
    ------
    ConfigError
        If its lower value is not below its higher one.
    """
    window = options.run.window
    if window is None:
        return model
    if window[0] >= window[1]:
        raise ConfigError(f"--window {window[0]:g},{window[1]:g}: the lower value comes first")
    return replace(model, config=replace(model.config, window=window))
