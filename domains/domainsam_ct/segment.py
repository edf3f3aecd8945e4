"""Segment CT volumes and write masks, tables, previews and reports: the pack's main job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from domainsam.checkpoint import read_header
from domainsam.errors import ConfigError, InputError
from domainsam.familiar import Judgement
from domainsam.grid import Grid
from domainsam.infer.account import watching
from domainsam.infer.batch import run_batch
from domainsam.infer.executor import choose_executor
from domainsam.infer.many import Entry, Finish, WorkList
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.machine import keep_freed_memory
from domainsam.names import show
from domainsam.progress import Progress, report_progress
from domainsam.versions import content_digest
from domainsam_ct.job import (
    DICOM_KINDS,
    STRAIGHT_KINDS,
    Batch,
    CasePlan,
    CaseResult,
    Made,
    Segmented,
    name_cases,
    plan_outputs,
)
from domainsam_ct.labels import LabelMap, choose_organs, load_label_map, make_label_map
from domainsam_ct.measure.cleanup import CleanUp, clean_up
from domainsam_ct.measure.gate import judge_case
from domainsam_ct.measure.statistics import Tally
from domainsam_ct.model.organs import OrganModel, identify_model, load_model
from domainsam_ct.model.shipped import find_model
from domainsam_ct.model.sweep import STAGED_BYTES, segment_volume
from domainsam_ct.read.cohort import list_cases
from domainsam_ct.read.dicom.derived import get_series
from domainsam_ct.read.dicom.files import is_dicom_file
from domainsam_ct.read.open import open_volume
from domainsam_ct.read.staged import CHUNK, StagedVolume
from domainsam_ct.read.volume import Volume
from domainsam_ct.settings import EVERY, NOBODY, CleanOptions, SegmentOptions
from domainsam_ct.write.products import describe_making, write_products
from domainsam_ct.write.straight import straighten

log = logging.getLogger(__name__)


def segment_cases(
    inputs: Sequence[Path],
    options: SegmentOptions,
    model: OrganModel | None = None,
    told: Callable[[CaseResult], None] | None = None,
) -> Batch:
    """Segment CTs with one model, one after another or on workers.

    A case that fails among several is reported and the rest go on; with
    ``options.resume`` cases whose files are all there are passed over. Of
    several cases a table and the figures of all organs are written beside their masks.

    Parameters
    ----------
    inputs
        Volume files, DICOM folders or zips of them; tables and folders of these, see
        :func:`~domainsam_ct.read.cohort.list_cases`.
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
    work = list_work(name_entries(list_cases(inputs)), options, model)
    spread = options.spread
    with watching(spread, "cases", options.quiet) as watcher:
        batch = run_batch(
            work.plans,
            work.name,
            work.prepare,
            Batch,
            resume=work.resume,
            overwrite=work.overwrite,
            # Even a fault of our own in one case must not cost the others.
            kept=(Exception,),
            watch=told,
            executor=choose_executor(spread),
            max_failures=spread.max_failures,
            watcher=watcher,
        )
    written = work.finish((*batch.failures, *((case, f"no {kinds}") for case, kinds in batch.unmade)))
    return replace(batch, table=written.get("table"), figures=written.get("figures"))


def name_entries(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The same cases, each with a name: those that would share one get their folders'."""
    stems = name_cases([Path(entry.source) for entry in entries])
    return tuple(replace(entry, name=entry.name or stem) for entry, stem in zip(entries, stems, strict=True))


def list_work(
    entries: Sequence[Entry],
    options: SegmentOptions,
    model: OrganModel | None = None,
    total: int | None = None,
) -> WorkList[CasePlan, CaseResult]:
    """What is done with cases that have names.

    Parameters
    ----------
    total
        How many cases the run has in all, where these are some of them.

    Raises
    ------
    DomainSamError
        If outputs clash, or the model cannot be used.
    """
    names = model.labels if model is not None else read_model_labels(options)
    labels, _ = choose_output_labels(names, options)
    choose_cleaning(options.clean, labels)
    several = (len(entries) if total is None else total) > 1
    plans = plan_outputs(
        [Path(entry.source) for entry in entries],
        [organ.name for organ in labels.values()],
        options.outputs,
        [str(entry.name) for entry in entries],
        several,
    )

    if not several:
        finish: Finish = write_nothing
    else:
        # Imported before the work, so that a missing package is told before it.
        from domainsam_ct.write.cohort import write_tables

        finish = partial(write_tables, plans, labels)

    # Workers go on with what is there: a case whose worker died is not begun again.
    doing = options if options.spread.scheduler is None else replace(options, resume=True)
    return WorkList(
        plans,
        attrgetter("stem"),
        partial(prepare_cases, doing, model),
        options.resume,
        lambda plan: may_replace(plan, options),
        finish,
    )


def write_nothing(failures: Sequence[tuple[str, str]]) -> dict[str, Path]:
    """A single case has no files about all."""
    return {}


def prepare_cases(
    options: SegmentOptions, model: OrganModel | None = None
) -> Callable[[CasePlan], CaseResult]:
    """Load the model, in the process that calls this; returns the function that segments a case.

    Raises
    ------
    DomainSamError
        If it cannot be loaded.
    """
    keep_freed_memory()
    loaded = set_window(model or load_chosen_model(options), options)
    return lambda plan: segment_case(plan, options, loaded)


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
        volume = vet_volume(volume, plan)
        for warning in volume.warnings:
            log.warning("%s: %s", plan.stem, warning)
        with report_progress(plan.stem, options.quiet) as progress:
            segmented = segment(volume, model, options, room, plan.source, progress)
        with segmented.mask:
            judgement = judge_case(volume, segmented.organs, segmented.cleaned, model.known)
            refuse_doubtful(plan, judgement, options)
            segmented = replace(segmented, judgement=judgement)
            made = Made(segmented, describe_making(model, options), options.outputs, "automatic", begin)
            return write_products(drop_unwritable(plan, made), made, room, may_replace(plan, options))


def refuse_doubtful(plan: CasePlan, judgement: Judgement, options: SegmentOptions) -> None:
    """Refuse an answer that is to be doubted, if that was asked for; nothing is written then.

    Raises
    ------
    InputError
        With ``options.strict``, if there is a doubt.
    """
    if options.strict and judgement:
        raise InputError(
            f"{plan.stem}: {judgement.line}, and --strict was given: {'; '.join(judgement.texts)}; "
            "leave out --strict to have the mask all the same"
        )


def vet_volume(volume: Volume, plan: CasePlan) -> Volume:
    """The volume with notes on what DICOM objects that are planned cannot repeat of it.

    Raises
    ------
    InputError
        If objects are planned that cannot be made: found out now and not after an hour's work.
    """
    if not plan.side.keys() & set(DICOM_KINDS):
        return volume
    from domainsam_ct.read.dicom.sources import vet_sources

    series = get_series(volume, "a DICOM SEG or RTSTRUCT")
    notes = vet_sources(series, volume.native.spacing[2])
    return replace(volume, warnings=(*volume.warnings, *notes))


def may_replace(plan: CasePlan, options: SegmentOptions) -> bool:
    """Whether files of a case may be replaced: a killed run may have left some of them in place."""
    return plan.may_replace(options.outputs.overwrite, options.resume)


def drop_unwritable(plan: CasePlan, made: Made) -> CasePlan:
    """The plan without what cannot be written when no organ was found, or no slice is shifted."""
    plan = drop_straight(plan, made.segmented.volume)
    if any(organ.found for organ in made.segmented.organs) or not plan.side.keys() & set(DICOM_KINDS):
        return plan
    log.warning("%s: no organ was found, so there is no DICOM SEG or RTSTRUCT", plan.stem)
    return plan.without(DICOM_KINDS)


def drop_straight(plan: CasePlan, volume: Volume) -> CasePlan:
    """The plan without straight masks where the scan's axes are perpendicular already."""
    if not plan.side.keys() & set(STRAIGHT_KINDS) or straighten(volume) is not None:
        return plan
    log.warning("%s: slices are not shifted against each other, so there is nothing to straighten", plan.stem)
    return plan.without(STRAIGHT_KINDS)


def read_model_labels(options: SegmentOptions) -> tuple[str, ...]:
    """Labels of the model that the options name, read from its header alone.

    Raises
    ------
    CheckpointError
        If it is absent or damaged.
    WeightsError
        If none is named and the package has none of its own.
    ConfigError
        If it is of another method than asked for.
    """
    return read_header(find_model(options.model, options.method)).labels


def load_chosen_model(options: SegmentOptions) -> OrganModel:
    """Load the model that the options name."""
    run = options.run
    return load_model(
        options.model,
        options.foundation,
        run.device,
        run.precision,
        run.batch_size,
        options.method,
        run.runtime,
    )


def set_window(model: OrganModel, options: SegmentOptions) -> OrganModel:
    """Set the Hounsfield window that was asked for on a model.

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


MASK_BYTES = 1
"""Bytes a voxel that a mask may take before it is compressed."""
CLEAN_FILE = "clean.raw"
CLEAN_BYTES = 1
"""Bytes a voxel of the cleaned mask. It is a copy: a run that is killed in its middle cleans anew."""


def choose_output_labels(names: tuple[str, ...], options: SegmentOptions) -> tuple[LabelMap, dict[int, int]]:
    """Values of the mask, and the value for each of the model's labels.

    Parameters
    ----------
    names
        The model's labels, background first.

    Raises
    ------
    ConfigError
        If an organ is unknown to the model or to the label map, or a value does not fit a byte.
    """
    own = make_label_map(names)
    wanted = own if options.organs is None else choose_organs(own, options.organs)
    if options.label_map is None:
        return wanted, {value: value for value in wanted}
    theirs = load_label_map(options.label_map)
    numbers = {organ.name: value for value, organ in theirs.items()}
    values = {}
    for value, organ in wanted.items():
        if organ.name not in numbers:
            raise ConfigError(
                f"label map '{options.label_map}' has no {organ.name}: add it, or leave it out with --organs"
            )
        if numbers[organ.name] > 255:
            raise ConfigError(f"{organ.name} = {numbers[organ.name]}: masks hold values up to 255")
        values[value] = numbers[organ.name]
    labels = {numbers[organ.name]: theirs[numbers[organ.name]] for organ in wanted.values()}
    return dict(sorted(labels.items())), values


def segment(
    volume: Volume,
    model: OrganModel,
    options: SegmentOptions,
    room: WorkRoom,
    source: Path,
    progress: Progress,
) -> Segmented:
    """Segment, clean and measure an opened CT.

    Raises
    ------
    DomainSamError
        If the disk is too small, or another run's work is to be gone on with.
    """
    labels, values = choose_output_labels(model.labels, options)
    voxels = volume.shape[0] * volume.shape[1] * volume.shape[2]
    require_space(
        room.folder,
        voxels * (STAGED_BYTES + CLEAN_BYTES + MASK_BYTES),
        f"a volume of {format_size(volume.shape)} voxels",
    )
    fingerprint = {**identify_source(source), **identify_model(model), "values": sorted(values.items())}
    found, confidence, resumed = segment_volume(
        volume, model, values, room.folder, fingerprint, options.resume, options.run.workers, progress
    )
    with closing(found), closing(confidence):
        mask = found.copy_to(room.folder / CLEAN_FILE)
        cleaned = clean_up(mask, choose_cleaning(options.clean, labels), volume.spacing, confidence)
        tally = measure(volume, mask, found, confidence, labels)
    organs = tally.statistics(get_native_grid(volume))
    return Segmented(volume, mask, labels, tally, organs, cleaned, resumed)


def measure(
    volume: Volume, mask: StagedVolume, found: StagedVolume, confidence: StagedVolume, labels: LabelMap
) -> Tally:
    """Measure the organs of a mask in one pass over the volume.

    ``confidence`` belongs to ``found``, the mask before clean-up: of cavities
    that were filled since, nothing is known.
    """
    tally = Tally(volume.grid, labels)
    for start, chunk in mask.chunks(CHUNK):
        if chunk.any():
            stop = start + len(chunk)
            hu = volume.slices(start, stop).transpose(2, 0, 1)
            certain = np.where(found.read(start, stop) == chunk, confidence.read(start, stop), 0)
            tally.add(start, chunk, hu, certain.astype(np.uint8))
    return tally


def choose_cleaning(options: CleanOptions, labels: LabelMap) -> CleanUp:
    """Organs that are cleaned, by value.

    Raises
    ------
    ConfigError
        If a name is not among the organs.
    """

    def values(names: tuple[str, ...]) -> frozenset[int]:
        if EVERY in names:
            return frozenset(labels)
        return frozenset(choose_organs(labels, [name for name in names if name != NOBODY]))

    return CleanUp(
        values(options.parts),
        values(options.holes),
        options.keep_share,
        options.keep_within_mm,
        options.keep_confidence,
        frozenset(value for value, organ in labels.items() if organ.thin),
    )


def get_native_grid(volume: Volume) -> Grid:
    """The grid of the file's own axes."""
    return Grid(volume.native.shape, volume.native.affine, "RAS")


def identify_source(source: Path) -> dict[str, Any]:
    """What tells one input from another: name, size, time and samples of its content."""
    if source.is_file() and is_dicom_file(source):
        # Its neighbours are slices of the same series.
        files = sorted(path for path in source.parent.iterdir() if path.is_file())
    else:
        files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    facts = [path.stat() for path in files]
    return {
        # The journal lies beside the outputs: it tells no more of a patient than they do.
        "input": show(source.name),
        "bytes": sum(fact.st_size for fact in facts),
        "changed": max((fact.st_mtime_ns for fact in facts), default=0),
        "content": content_digest(files),
    }


def format_size(shape: tuple[int, ...]) -> str:
    """A size as people write it, ``512 x 512 x 120``."""
    return " x ".join(str(count) for count in shape)
