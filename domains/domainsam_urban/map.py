"""Map settlements in scenes and write every output: the pack's main job."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from domainsam.errors import ConfigError, InputError
from domainsam.infer.account import watching
from domainsam.infer.batch import run_batch
from domainsam.infer.engine import map_piece, prompt_scene
from domainsam.infer.engine import map_scene as run_engine
from domainsam.infer.executor import InProcess, choose_executor
from domainsam.infer.many import Entry, WorkList
from domainsam.infer.objects import EngineResult, Planned
from domainsam.infer.options import EngineOptions
from domainsam.infer.pieces import Done, PiecePlan, Split
from domainsam.infer.spread import SpreadOptions
from domainsam.infer.tiling import ALIGN
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.io.marks import read_mark_files
from domainsam.machine import keep_freed_memory
from domainsam.progress import Progress, report_progress
from domainsam.protocols import Foundation
from domainsam.staging import check_targets
from domainsam_urban.alike import find_alike
from domainsam_urban.ask import find_asked
from domainsam_urban.everything import find_everything, settle_least_area
from domainsam_urban.job import (
    Batch,
    ScenePlan,
    SceneResult,
    make_scene_stem,
    plan_outputs,
)
from domainsam_urban.model.alike import AlikeObjects, load_alike
from domainsam_urban.model.asked import AskedObjects, load_asked
from domainsam_urban.model.settlement import (
    MarkedObjects,
    SettlementModel,
    find_resolution,
    load_marked,
    load_model,
    marked_shape,
)
from domainsam_urban.model.worded import WordedObjects, load_worded
from domainsam_urban.read.area import MOST_ENLARGED, MUCH_ENLARGED, WantedArea, find_wanted_area
from domainsam_urban.read.catalogue import list_scenes, settle_area
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.remote import RemotePlan, find_remote, map_into_store
from domainsam_urban.settings import MapOptions, ReadOptions
from domainsam_urban.worded import find_worded
from domainsam_urban.write.collection import write_collection
from domainsam_urban.write.merge import check_merge, write_merged
from domainsam_urban.write.products import Mapped, write_products

log = logging.getLogger(__name__)

CONTEXT_OVERLAP = 256
"""Pixels that neighbouring tiles share; three eighths of them are margin, as far as an edge is noticed."""
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
    if isinstance(model, SettlementModel) and options.run.method == "coarse":
        # Outputs name the foundation that took part.
        model = replace(model, foundation=None)
    # Marks in pixels are counted as the file has them.
    with open_scene(plan, read, read.resolution or model.resolution, area, not options.marks) as source:
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
                    split = find_split(plan, options, area)
                    answer = find_settlements(
                        source, model, options, room.folder, progress, first_pass, split
                    )
            return write_products(plan, Mapped(source, answer, model, options, begin), room)


def open_scene(
    plan: ScenePlan,
    read: ReadOptions,
    resolution: float | None,
    area: WantedArea | None = None,
    north_up: bool = True,
) -> RasterSource:
    """A planned scene as the options read it; parameters as of :class:`RasterSource`."""
    return RasterSource(
        plan.source,
        bands=read.bands,
        nodata=read.nodata,
        resolution=resolution,
        normalize=read.normalize,
        allow_no_crs=read.allow_no_crs,
        area=area,
        north_up=north_up,
        on_ground=True,
    )


def load_finder(options: MapOptions) -> SettlementModel | MarkedObjects:
    """Who says what is in a scene: a person's marks, an example, words, the foundation alone, or the model.

    Raises
    ------
    DomainSamError
        If what it takes cannot be loaded.
    """
    if options.ask is not None:
        return load_asked(options)
    if options.like is not None:
        return load_alike(options)
    if options.words is not None:
        return load_worded(options)
    by_foundation = options.marks or options.everything is not None
    return load_marked(options) if by_foundation else load_model(options)


def find_like(
    source: RasterSource,
    plan: ScenePlan,
    options: MapOptions,
    model: AlikeObjects,
    folder: Path,
    progress: Progress,
) -> EngineResult:
    """What looks like an example in a scene; the example may lie beside the part that is searched."""
    if source.window is None:
        return find_alike(source, source, model, folder, progress)
    with open_scene(plan, options.read, options.read.resolution) as whole:
        return find_alike(source, whole, model, folder, progress)


def check_enlarged(source: RasterSource, read: ReadOptions, learnt: float | None) -> None:
    """Refuse before any work to enlarge a scene so much that nothing of a settlement can be seen in it.

    Raises
    ------
    InputError
        If its pixels are :data:`MOST_ENLARGED` times as coarse as what the model has learnt, and nobody
        asked for a resolution.
    """
    ground = source.profile_info.ground_pixel
    if ground is None or learnt is None or read.resolution is not None:
        return
    native, (rows, cols) = math.sqrt(ground[0] * ground[1]), source.find_shape_at(learnt)
    if native > MOST_ENLARGED * learnt:
        raise InputError(
            f"{source.path}: its pixels are {native:.3g} m, the model has learnt {learnt:.3g} m: enlarged to "
            f"{cols} x {rows} pixels it would show nothing new; give a finer scene, or say how far to "
            f"enlarge it, for example --resolution {native:.3g}"
        )
    if native > MUCH_ENLARGED * learnt:
        log.warning(
            "%s: its pixels of %.3g m are enlarged to %.3g m, %d x %d pixels: what is found is uncertain; "
            "--resolution %.3g is quicker",
            source.path,
            native,
            learnt,
            cols,
            rows,
            native,
        )


def find_settlements(
    source: RasterSource,
    model: SettlementModel,
    options: MapOptions,
    folder: Path,
    progress: Progress,
    first_pass: Path | None,
    split: Split | None = None,
) -> EngineResult:
    """What the model finds in a scene, staged in ``folder``."""
    if options.run.disabled:
        model = model.without(options.run.disabled)
    return run_engine(
        source,
        model.specialist,
        model.foundation,
        folder,
        make_engine_options(options, model, source.profile_info.work_pixel, source.work.anchor),
        device=model.device,
        identity=source.fingerprint,
        resume=options.resume,
        progress=progress,
        first_pass=first_pass,
        split=split,
    )


def find_split(plan: ScenePlan, options: MapOptions, area: WantedArea | None) -> Split | None:
    """Who does the pieces of a scene that is spread by itself; None where this process maps it."""
    if not options.alone or options.spread.scheduler is None or options.marks or options.like:
        return None
    doing = replace(options, spread=SpreadOptions(), resume=True, quiet=True)
    limited = options.spread.memory_per_task is not None
    return Split(choose_executor(options.spread), partial(prepare_pieces, plan, doing, area, limited))


def prepare_pieces(
    plan: ScenePlan, options: MapOptions, area: WantedArea | None, limited: bool = False
) -> Callable[[PiecePlan], Done]:
    """Open a scene and load the model, in the process that calls this; returns what does a piece.

    Where memory is ``limited`` the allocator is left as it is: slower, and without gaps between buffers.

    Raises
    ------
    DomainSamError
        If either cannot be done.
    """
    if not limited:
        keep_freed_memory()
    model = load_finder(options)
    assert isinstance(model, SettlementModel)
    if options.run.method == "coarse":
        model = replace(model, foundation=None)
    if options.run.disabled:
        model = model.without(options.run.disabled)
    # It stays open as long as the worker keeps the function.
    source = open_scene(plan, options.read, options.read.resolution or model.resolution, area)
    engine = make_engine_options(options, model, source.profile_info.work_pixel, source.work.anchor)
    planned: dict[Path, Planned] = {}

    def do(piece: PiecePlan) -> Done:
        return map_piece(
            source,
            model.specialist,
            model.foundation,
            piece,
            engine,
            device=model.device,
            identity=source.fingerprint,
            planned=planned,
        )

    return do


def find_marked(
    source: RasterSource, model: MarkedObjects, options: MapOptions, folder: Path, progress: Progress
) -> EngineResult:
    """What a person marked in a scene, staged in ``folder``."""
    run = options.run
    tile = run.tile or EngineOptions.tile
    return prompt_scene(
        source,
        read_mark_files(model.files, source.grid),
        model.foundation,
        folder,
        EngineOptions(
            tile=tile,
            overlap=0,
            batch_size=run.batch_size,
            workers=run.workers,
            threshold=options.shape.threshold,
            dtype=model.precision,
        ),
        identity=source.fingerprint,
        resume=options.resume,
        progress=progress,
    )


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


def make_engine_options(
    options: MapOptions,
    model: SettlementModel,
    pixel: tuple[float, float] | None,
    anchor: tuple[int, int] = (0, 0),
) -> EngineOptions:
    """What the engine is told.

    Parameters
    ----------
    pixel
        The work grid's, height and width in metres.
    anchor
        Rows and columns from the origin of the ground's lattice to the work
        grid's first pixel: tiles begin at whole strides from that origin, so that
        the same tiles show the same ground of any file.
    """
    run = options.run
    # Half of what is asked for, because pass two may still enlarge an object.
    least = options.shape.min_area / 2 / (pixel[0] * pixel[1] if pixel else 1.0)
    asked = model.tile if run.tile is None else run.tile
    tile = max(asked, model.least_tile)
    # Half a tile, as far as a network looks: with a quarter, tiles of other sizes answer otherwise.
    overlap = max(model.overlap if run.tile is None else 0, min(CONTEXT_OVERLAP, tile // 2 // ALIGN * ALIGN))
    return EngineOptions(
        tile=tile,
        overlap=overlap if run.overlap is None else run.overlap,
        # As many pixels at a time as were asked for.
        batch_size=max(1, run.batch_size * asked**2 // tile**2),
        workers=run.workers,
        threshold=options.shape.threshold,
        min_pixels=max(1, model.speck_pixels, int(least)),
        views=run.views,
        offset=anchor,
        method="coarse" if run.method == "coarse" else "objects",
        dtype=model.precision,
    )
