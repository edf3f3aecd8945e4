"""What finds objects in an opened scene: model, marks, an example, words, or the foundation alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from domainsam.errors import InputError
from domainsam.infer.engine import map_piece, prompt_scene
from domainsam.infer.engine import map_scene as run_engine
from domainsam.infer.executor import choose_executor
from domainsam.infer.objects import EngineResult, Planned
from domainsam.infer.options import EngineOptions
from domainsam.infer.pieces import MANY, Done, PiecePlan, Split
from domainsam.infer.spread import SpreadOptions
from domainsam.infer.tiling import ALIGN
from domainsam.io.marks import read_mark_files
from domainsam.machine import keep_freed_memory
from domainsam.progress import Progress
from domainsam_urban.alike import find_alike
from domainsam_urban.job import ScenePlan
from domainsam_urban.model.alike import AlikeObjects, load_alike
from domainsam_urban.model.asked import load_asked
from domainsam_urban.model.settlement import MarkedObjects, SettlementModel, load_marked, load_model
from domainsam_urban.model.worded import load_worded
from domainsam_urban.read.area import WantedArea
from domainsam_urban.read.overview import Overview
from domainsam_urban.read.profile import MOST_ENLARGED, MUCH_ENLARGED
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.read.workgrid import SURROUND
from domainsam_urban.settings import MapOptions, ReadOptions

log = logging.getLogger(__name__)

CONTEXT_OVERLAP = 256
"""Pixels that neighbouring tiles share; three eighths of them are margin, as far as an edge is noticed."""


def open_scene(
    plan: ScenePlan,
    read: ReadOptions,
    resolution: float | None,
    area: WantedArea | None = None,
    north_up: bool = True,
    known: Overview | None = None,
    surround: int = 0,
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
        surround=surround,
        known=known,
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


def find_split(
    plan: ScenePlan, options: MapOptions, area: WantedArea | None, known: Overview
) -> Split | None:
    """Who does the pieces of a scene that is spread by itself; None where this process maps it."""
    if not options.alone or options.spread.scheduler is None or options.marks or options.like:
        return None
    doing = replace(options, spread=SpreadOptions(), resume=True, quiet=True)
    limited = options.spread.memory_per_task is not None
    return Split(
        choose_executor(options.spread),
        partial(prepare_pieces, plan, doing, area, known, limited),
        options.spread.local_workers or MANY,
    )


def prepare_pieces(
    plan: ScenePlan,
    options: MapOptions,
    area: WantedArea | None,
    known: Overview,
    limited: bool,
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
    model = model.trimmed(options.run)
    # It stays open as long as the worker keeps the function.
    resolution = options.read.resolution or model.resolution
    source = open_scene(plan, options.read, resolution, area, known=known, surround=SURROUND)
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
