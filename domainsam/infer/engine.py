"""One run over a scene, a volume or a film, the same in every pack.

A dense model sweeps the blocks of every frame (:func:`sweep_scene`). Objects,
found in a specialist's sweep (:func:`map_scene`) or by any prompt source
(:func:`prompt_scene`), are planned into crops, decoded there by the
foundation, and blended.

The engine knows no file format. It reads blocks from a
:class:`~domainsam.protocols.Source` and leaves raw bytes on disk, which a
pack turns into its own outputs. Everything in its folder is staging: an
interrupted run continues from it, byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from domainsam.errors import ConfigError, InputError
from domainsam.infer.decoders import MarkDecoder, SpecialistDecoder
from domainsam.infer.found import name_objects
from domainsam.infer.networks import Networks, ScenePrompter, fingerprint, identify
from domainsam.infer.objects import SWEEP, EngineResult, ObjectRun, Planned
from domainsam.infer.options import EngineOptions
from domainsam.infer.order import Recorder, Strip
from domainsam.infer.pieces import Done, PiecePlan, Split, write_records
from domainsam.infer.staged import StagedRun, Swept
from domainsam.infer.sweep import AnyBlock, DenseModel, Extent, FirstLook, sweep_strip
from domainsam.infer.tiling import TileGrid
from domainsam.infer.view import SceneView
from domainsam.infer.workroom import WorkRoom
from domainsam.progress import Progress, report_nothing
from domainsam.protocols import Foundation, PromptSource, SceneObject, Source, Window


def sweep_scene(
    source: Source,
    read: Callable[[Window], AnyBlock],
    model: DenseModel[AnyBlock],
    folder: Path,
    tiles: TileGrid,
    *,
    identity: Mapping[str, Any],
    batch_size: int = 1,
    workers: int = 1,
    strip_width: int = 8192,
    resume: bool = False,
    progress: Progress = report_nothing,
    stage: str = SWEEP,
    margin: int = 0,
) -> Swept:
    """Sweep a dense model over every frame of a scene.

    Parameters
    ----------
    source
        The scene, for its grid.
    read
        Gives the block of a window, the source's own or one that knows more; called from ``workers`` threads.
    tiles
        The blocks of a frame.
    identity
        Everything that decides the answer, as far as JSON can hold it; a run is only resumed with the same.
    batch_size
        Blocks that go through the network together. Where one tile covers a
        frame these are neighbouring frames, and what they make is journalled
        together.
    resume
        Continue the run whose journal is in ``folder``; starts anew without one.
    margin
        Pixels along a block's edges from which no answer is taken where a
        neighbour has one; less than half of what neighbours share.

    Raises
    ------
    InputError
        If the scene cannot be read, or the run to resume was another one.
    OutputError
        If the folder cannot be written or the disk is full.
    """
    with ExitStack() as stack:
        run = StagedRun(source.grid, folder, stack, identity, resume, progress)
        stores = {name: run.stage_file(f"{name.replace('/', '-')}.u8") for name in model.outputs}
        single = len(tiles.rows) == len(tiles.cols) == 1
        course = run.course(stage, tiles, strip_width, batch_size if single else 1)

        def sweep(strip: Strip, recorder: Recorder, advanced: Callable[[int], None]) -> None:
            sweep_strip(read, model, course, strip, recorder, advanced, batch_size, workers, margin)

        run.follow(course, tuple(stores.values()), sweep)
        paths = {name: store.path for name, store in stores.items()}
        return Swept(paths, run.shape, run.frames, bool(run.journal.records))


def map_scene(
    source: Source,
    prompter: ScenePrompter,
    foundation: Foundation | None,
    folder: Path,
    options: EngineOptions | None = None,
    *,
    device: torch.device | str | None = None,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress = report_nothing,
    first_pass: Path | None = None,
    split: Split | None = None,
) -> EngineResult:
    """Map the objects that a specialist finds in a scene.

    Parameters
    ----------
    source
        The scene; blocks of 3-channel images in 0 to 1.
    prompter, foundation
        The networks. ``foundation`` may be None for ``method="coarse"``.
    folder
        Where the staged files and the journal go; made if need be.
    device
        Where to compute; the foundation's device, or the CPU, if not given.
    identity
        What tells this source from others (its fingerprint, say), as far as
        JSON can hold it; a run is only resumed with the same.
    resume
        Continue the run whose journal is in ``folder``; starts anew without one.
    first_pass
        File that keeps pass one's answer for further runs that differ in pass
        two alone: taken where it exists, made where it does not. That the
        source, the specialist and the tiles are the same is the caller's care.
    split
        Who does the pieces of the stages; None for this process. ``folder`` has to be seen by them.

    Raises
    ------
    ConfigError
        If the method needs a foundation and there is none.
    InputError
        If the scene cannot be read, or the run to resume was another one.
    OutputError
        If the folder cannot be written or the disk is full.
    """
    chosen = options or EngineOptions()
    if foundation is None and chosen.method != "coarse":
        raise ConfigError("method 'objects' needs a foundation; name one or choose method 'coarse'")
    networks = _networks(foundation, device, chosen)
    marks = {"device": networks.device.type, **fingerprint(prompter, foundation), **(identity or {})}
    with ExitStack() as stack:
        run = ObjectRun(source, networks, chosen, folder, stack, marks, resume, progress, split=split)
        begin = perf_counter()
        run.first_pass(FirstLook(prompter, networks, views=chosen.views), first_pass)
        run.lap("coarse", begin)
        begin = perf_counter()
        deciding = None if chosen.method == "coarse" else foundation
        run.find_objects(chosen.threshold if deciding is None else chosen.proposal)
        run.lap("components", begin)
        begin = perf_counter()
        if deciding is None:
            run.keep_coarse()
        else:
            run.decode(SpecialistDecoder(prompter, networks, deciding, run.coarse))
        run.lap("objects", begin)
        return run.result()


def map_piece(
    source: Source,
    prompter: ScenePrompter,
    foundation: Foundation | None,
    plan: PiecePlan,
    options: EngineOptions,
    *,
    device: torch.device | str | None = None,
    identity: Mapping[str, Any] | None = None,
    planned: dict[Path, Planned] | None = None,
) -> Done:
    """Do a piece of a stage of a run of :func:`map_scene` that is at work elsewhere.

    Parameters
    ----------
    plan
        Which piece, and the folder of the run that it belongs to.
    source, prompter, foundation, options, device, identity
        As of that run.
    planned
        Takes what was found in the whole scene before pass two, which the next piece need not find again.

    Raises
    ------
    TakenError
        If another process is at the piece.
    InputError
        If the scene cannot be read, or the piece was begun by a run with other options.
    OutputError
        If the folder is not there, or cannot be written.
    """
    networks = _networks(foundation, device, options)
    marks = {"device": networks.device.type, **fingerprint(prompter, foundation), **(identity or {})}
    with WorkRoom(plan.work, resume=True), ExitStack() as stack:
        run = ObjectRun(
            source, networks, options, plan.folder, stack, marks, True, report_nothing, piece=plan
        )
        if plan.stage == SWEEP:
            run.first_pass(FirstLook(prompter, networks, views=options.views))
        else:
            assert foundation is not None
            known = None if planned is None else planned.get(plan.records)
            if known is None:
                run.find_objects(options.proposal)
            else:
                run.planned = known
            if planned is not None:
                planned.clear()
                planned[plan.records] = run.planned
            run.decode(SpecialistDecoder(prompter, networks, foundation, run.coarse))
        return write_records(plan, run.journal.read_all())


def prompt_scene(
    source: Source,
    prompts: PromptSource,
    foundation: Foundation,
    folder: Path,
    options: EngineOptions | None = None,
    *,
    labels: Sequence[str] = (),
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress = report_nothing,
) -> EngineResult:
    """Map the objects that a prompt source says are in a scene, a volume or a film.

    Parameters
    ----------
    source
        The scene; blocks of 3-channel images in 0 to 1.
    prompts
        Who says where objects are.
    foundation
        Decodes them.
    labels
        Names that objects may bear, in the order of their numbers; if none are
        given, those that occur, in the order in which they do, objects without one
        being called ``object`` if others bear one.
    folder, identity, resume
        As of :func:`map_scene`.

    Raises
    ------
    InputError
        If an object lies outside the scene, bears another label than the given ones, or there is none; if the
        scene cannot be read, or the run to resume was another one.
    OutputError
        If the folder cannot be written or the disk is full.
    """
    chosen = options or EngineOptions()
    networks = _networks(foundation, None, chosen)
    objects = name_objects(tuple(prompts.find(SceneView(source, networks, foundation))), labels)
    if not objects:
        raise InputError("no object was found or marked; expected at least one")
    names = _names_of(objects, labels)
    marks = {
        "device": networks.device.type,
        "foundation": identify(foundation),
        "objects": _digest_of(objects),
        "labels": list(names),
        **(identity or {}),
    }
    with ExitStack() as stack:
        run = ObjectRun(source, networks, chosen, folder, stack, marks, resume, progress, names)
        begin = perf_counter()
        run.first_pass(Extent())
        run.lap("coarse", begin)
        begin = perf_counter()
        run.plan_marks(objects)
        run.decode(MarkDecoder(networks, foundation))
        run.lap("objects", begin)
        return run.result()


def _networks(
    foundation: Foundation | None, device: torch.device | str | None, options: EngineOptions
) -> Networks:
    where = torch.device(device or (foundation.device if foundation is not None else "cpu"))
    return Networks(foundation, where, options.dtype)


def _names_of(objects: Sequence[SceneObject], labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that objects may bear; empty where none bears any and none are given."""
    borne = tuple(dict.fromkeys(mark.label for mark in objects if mark.label is not None))
    strangers = [name for name in borne if labels and name not in labels]
    if strangers:
        raise InputError(f"objects are labelled {', '.join(strangers)}; expected one of: {', '.join(labels)}")
    return tuple(labels) or borne


def _digest_of(objects: Sequence[SceneObject]) -> str:
    """SHA-256 of everything that decides how objects are decoded."""
    digest = hashlib.sha256()
    for mark in objects:
        digest.update(repr((mark.bounds, mark.label, mark.points, mark.box)).encode())
        if mark.mask is not None:
            digest.update(np.packbits(mark.mask).tobytes())
    return digest.hexdigest()
