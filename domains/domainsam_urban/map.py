"""Map settlements in scenes and write every output: the pack's main job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from domainsam.errors import ConfigError
from domainsam.infer.account import watching
from domainsam.infer.batch import run_batch
from domainsam.infer.executor import InProcess, choose_executor
from domainsam.infer.many import Entry, WorkList
from domainsam.infer.objects import EngineResult
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.machine import keep_freed_memory
from domainsam.progress import report_progress
from domainsam.protocols import Foundation
from domainsam.staging import check_targets
from domainsam_urban.ask import find_asked
from domainsam_urban.everything import find_everything, settle_least_area
from domainsam_urban.finders import (
    check_enlarged,
    find_like,
    find_marked,
    find_settlements,
    find_split,
    load_finder,
    open_scene,
)
from domainsam_urban.job import (
    Batch,
    ScenePlan,
    SceneResult,
    make_scene_stem,
    plan_outputs,
)
from domainsam_urban.model.alike import AlikeObjects
from domainsam_urban.model.asked import AskedObjects
from domainsam_urban.model.settlement import (
    MarkedObjects,
    SettlementModel,
    find_resolution,
    marked_shape,
)
from domainsam_urban.model.worded import WordedObjects
from domainsam_urban.read.area import WantedArea, find_wanted_area
from domainsam_urban.read.catalogue import list_scenes, settle_area
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.read.workgrid import SURROUND
from domainsam_urban.remote import RemotePlan, find_remote, map_into_store
from domainsam_urban.settings import MapOptions
from domainsam_urban.worded import find_worded
from domainsam_urban.write.collection import write_collection
from domainsam_urban.write.merge import check_merge, write_merged
from domainsam_urban.write.products import Mapped, write_products

log = logging.getLogger(__name__)

STAGED_BYTES = 3
"""Bytes a pixel that are staged: coarse and final probability, and the answer without its specks."""
WRITTEN_BYTES = 2
"""Bytes a pixel that mask and probability may take before they are compressed."""


def map_scenes(
    inputs: Sequence[str],
    options: MapOptions,
    model: SettlementModel | None = None,
    first_pass: Path | None = None,
) -> Batch:
    """Map scenes with one model, one after another or on workers.

    A scene that fails among several is reported and the rest go on; with
    ``options.resume`` scenes whose files are all there are passed over.

    Parameters
    ----------
    inputs
        Paths, ``/vsi`` paths or anything else GDAL opens, and catalogues and folders of them, see
        :func:`~domainsam_urban.read.catalogue.list_scenes`.
    model
        A model that is loaded already; otherwise ``options`` says which.
    first_pass
        Of a single scene: the file that keeps pass one's answer, see
        :func:`domainsam.infer.engine.map_scene`.

    Raises
    ------
    DomainSamError
        If outputs clash or exist, or the model cannot be used (both before any
        work); or, of a single scene, whatever made it fail.
    """
    options = replace(options, read=settle_area(inputs, options.read))
    entries = list_scenes(inputs, options.read)
    # A scene by itself is cut into pieces; of several, each is a task.
    options = replace(options, alone=len(entries) == 1)
    work = list_work(entries, options, model, first_pass)
    spread = options.spread
    with watching(spread, "scenes", options.quiet) as watcher:
        batch = run_batch(
            work.plans,
            work.name,
            work.prepare,
            Batch,
            resume=work.resume,
            overwrite=work.overwrite,
            executor=InProcess() if options.alone else choose_executor(spread),
            max_failures=spread.max_failures,
            watcher=watcher,
        )
    return replace(batch, about=work.finish(batch.failures))


def list_work(
    entries: Sequence[Entry],
    options: MapOptions,
    model: SettlementModel | None = None,
    first_pass: Path | None = None,
) -> WorkList[Any, SceneResult]:
    """What is done with scenes; parameters as of :func:`map_scenes`.

    Raises
    ------
    DomainSamError
        If outputs clash, or the wanted area cannot be read.
    """
    area = find_wanted_area(options.read)
    plans = find_remote(plan_outputs(entries, options.outputs))
    folder = options.outputs.collection
    if folder is not None and any(isinstance(plan, RemotePlan) or not plan.vectors for plan in plans):
        raise ConfigError("--collection is made of polygons in folders: name some with -o")

    merge = options.outputs.merge
    if merge:
        check_merge(plans, merge, options.outputs.overwrite or options.resume)

    def finish(failures: Sequence[tuple[str, str]]) -> Mapping[str, Path]:
        local = [plan for plan in plans if isinstance(plan, ScenePlan)]
        about = {} if folder is None else write_collection(local, folder)
        if merge:
            drawn, least = options.read.resolution or find_resolution(options), options.shape.min_area
            about |= write_merged(local, merge, resolution=drawn, min_area=least)
        return about

    # Workers go on with what is there: a scene whose worker died is not begun again.
    spread = options.spread.scheduler is not None and not options.alone
    doing = replace(options, resume=True) if spread else options
    return WorkList(
        plans,
        attrgetter("source"),
        partial(prepare_maps, doing, model, area, first_pass),
        options.resume,
        lambda plan: plan.may_replace(options.outputs.overwrite, options.resume),
        finish,
    )


def prepare_maps(
    options: MapOptions,
    model: SettlementModel | None = None,
    area: WantedArea | None = None,
    first_pass: Path | None = None,
) -> Callable[[ScenePlan | RemotePlan], SceneResult]:
    """Load what finds objects, in the process that calls this; returns the function that maps a scene.

    Raises
    ------
    DomainSamError
        If it cannot be loaded.
    """
    # Of one scene it is the pieces that limited workers do, and not this process.
    if options.spread.memory_per_task is None or options.alone:
        keep_freed_memory()
    loaded = model or load_finder(options)

    def run(plan: ScenePlan | RemotePlan) -> SceneResult:
        if isinstance(plan, RemotePlan):
            return map_into_store(plan, lambda local: map_scene(local, options, loaded, area, first_pass))
        return map_scene(plan, options, loaded, area, first_pass)

    return run


def map_scene(
    plan: ScenePlan,
    options: MapOptions,
    model: SettlementModel | MarkedObjects,
    area: WantedArea | None = None,
    first_pass: Path | None = None,
) -> SceneResult:
    """Map one scene, or an area of it, and write everything that was planned for it, or nothing.

    Raises
    ------
    DomainSamError
        If the scene cannot be read, the disk is full, or an output cannot be written.
    """
    begin = perf_counter()
    read = options.read
    if plan.when is not None and options.outputs.datetime is None:
        options = replace(options, outputs=replace(options.outputs, datetime=plan.when))
    surround = 0
    if isinstance(model, SettlementModel):
        # Outputs name the foundation that took part.
        model, surround = model.trimmed(options.run), SURROUND
    resolution = read.resolution or model.resolution
    # Marks in pixels are counted as the file has them.
    with open_scene(plan, read, resolution, area, not options.marks, surround=surround) as source:
        if source.crs is None:
            log.warning("%s: no CRS, so sizes are in pixels and there are no areas", plan.source)
        for note in source.notes:
            log.warning(note)
        check_enlarged(source, read, model.resolution)
        rows, cols = source.grid.shape
        purpose = f"a scene of {cols} x {rows} pixels"
        needed = rows * cols * (STAGED_BYTES + WRITTEN_BYTES)
        if not source.on_own_grid and (plan.mask or plan.probability):
            needed += source.scene_shape[0] * source.scene_shape[1] * (1 + WRITTEN_BYTES)
        require_space(plan.work.parent, needed, purpose)
        with WorkRoom(plan.work, options.resume) as room:
            with report_progress(make_scene_stem(plan.source), options.quiet) as progress:
                if options.everything is not None and isinstance(model, MarkedObjects):
                    options, keep = settle_least_area(options, options.everything, source)
                    answer = find_everything(source, model, keep, room.folder, options.resume, progress)
                elif isinstance(model, AskedObjects):
                    answer = find_asked(source, model, room.folder, options.resume, progress)
                elif isinstance(model, AlikeObjects):
                    answer = find_like(source, plan, options, model, room.folder, progress)
                elif isinstance(model, WordedObjects):
                    answer = find_worded(source, model, room.folder, progress)
                elif isinstance(model, MarkedObjects):
                    answer = find_marked(source, model, options, room.folder, progress)
                else:
                    split = find_split(plan, options, area, source.overview)
                    answer = find_settlements(
                        source, model, options, room.folder, progress, first_pass, split
                    )
            return write_products(plan, Mapped(source, answer, model, options, begin), room)


def write_marked(
    source: RasterSource,
    answer: EngineResult,
    options: MapOptions,
    shape: Mapping[str, float | None],
    foundation: Foundation,
) -> SceneResult:
    """Write what was found in an opened scene, as :func:`map_scene` does for marks.

    ``shape`` says how objects become polygons, None where the default counts.

    Raises
    ------
    ConfigError
        If an output's ending is unknown.
    OutputError
        If an output exists or cannot be written.
    """
    begin = perf_counter()
    options = replace(options, shape=marked_shape(shape))
    (plan,) = plan_outputs([source.path], options.outputs)
    check_targets(plan.files, options.outputs.overwrite)
    device = torch.device(foundation.device)
    maker = MarkedObjects(options.marks, foundation, device, "float32")
    with WorkRoom(plan.work, resume=False) as room:
        return write_products(plan, Mapped(source, answer, maker, options, begin), room)
