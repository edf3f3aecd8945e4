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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from domainsam.errors import ConfigError, InputError, OutputError
from domainsam.grid import Grid
from domainsam.infer.blend import NODATA, find_threshold_level
from domainsam.infer.components import Component, Ints, find_components, label_bands
from domainsam.infer.decode import (
    Decoder,
    MarkDecoder,
    Outline,
    OutlineKey,
    SpecialistDecoder,
    decode_strip,
    record_outlines,
)
from domainsam.infer.found import FoundObject, gather_objects, name_objects
from domainsam.infer.journal import JOURNAL_FILE, Journal
from domainsam.infer.networks import Networks, ScenePrompter, fingerprint
from domainsam.infer.options import EngineOptions
from domainsam.infer.order import Course, Recorder, Strip, WriteBehind, group_frames, make_padded_reader
from domainsam.infer.plan import Plan, plan_marks, plan_prompts
from domainsam.infer.store import RawRaster
from domainsam.infer.sweep import AnyBlock, DenseModel, Extent, FirstLook, sweep_strip
from domainsam.infer.tiling import Lattice, TileGrid
from domainsam.infer.view import SceneView
from domainsam.progress import Progress, report_nothing
from domainsam.protocols import Block, Foundation, PromptSource, SceneObject, Source, Window

COARSE_FILE = "coarse.u8"
FINAL_FILE = "probability.u8"
LABELS_FILE = "labels.u8"
DEFAULT_FIELD = 1024
"""Cuts objects into pieces where no foundation sets the size of crops."""
SWEEP_PIXELS = 1 << 22
SWEEP, OBJECTS = "coarse", "objects"
"""Names of the two stages."""


@dataclass(frozen=True)
class Swept:
    """What a dense model's sweep leaves behind: raw files of bytes, one for each of its outputs.

    ``shape`` is rows x columns of a frame.
    """

    paths: Mapping[str, Path]
    shape: tuple[int, int]
    frames: int
    resumed: bool

    def open(self, output: str) -> RawRaster:
        """The staged bytes of an output."""
        return RawRaster.open(self.paths[output], self.shape, self.frames)

    def outputs(self, kind: str) -> tuple[str, ...]:
        """Names of all outputs of a kind: ``kind`` itself, or ``kind/...``."""
        return tuple(name for name in self.paths if name.split("/")[0] == kind)


@dataclass(frozen=True)
class EngineResult:
    """What a run over a scene's objects leaves behind.

    Parameters
    ----------
    coarse, probability
        Raw row-major files of bytes, ``frames`` of ``shape`` rows x columns, holding ``round(254 p)``
        or 255 without data: pass one alone, and the final answer.
    level
        The smallest stored value that is foreground.
    components
        Pass one's objects that were large enough; none where a prompt source gave the objects.
    found
        Objects in all.
    kept
        Objects that were decoded, or kept by the coarse method.
    labels
        Raw file of bytes beside ``probability``: an index into ``names`` counted from 1, 0 where no object
        is, 255 without data; None where all objects are of one kind.
    names
        Labels of the objects.
    objects
        What became of every object that a prompt source gave.
    """

    coarse: Path
    probability: Path
    shape: tuple[int, int]
    level: int
    components: tuple[Component, ...]
    found: int
    pixels: int
    valid_pixels: int
    object_pixels: int
    crops: int
    resumed: bool
    seconds: dict[str, float] = field(default_factory=dict)
    labels: Path | None = None
    names: tuple[str, ...] = ()
    frames: int = 1
    kept: int = 0
    objects: tuple[FoundObject, ...] = ()


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

    Raises
    ------
    InputError
        If the scene cannot be read, or the run to resume was another one.
    OutputError
        If the folder cannot be written or the disk is full.
    """
    with ExitStack() as stack:
        run = _Run(source.grid, folder, stack, identity, resume, progress)
        stores = {name: run.stage_file(f"{name.replace('/', '-')}.u8") for name in model.outputs}
        single = len(tiles.rows) == len(tiles.cols) == 1
        course = run.course(stage, tiles, strip_width, batch_size if single else 1)

        def sweep(strip: Strip, recorder: Recorder, advanced: Callable[[int], None]) -> None:
            sweep_strip(read, model, course, strip, recorder, advanced, batch_size, workers)

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
        run = _ObjectRun(source, networks, chosen, folder, stack, marks, resume, progress)
        begin = perf_counter()
        run.first_pass(FirstLook(prompter, networks), first_pass)
        run.lap("coarse", begin)
        begin = perf_counter()
        run.find_objects()
        run.lap("components", begin)
        begin = perf_counter()
        if foundation is None or chosen.method == "coarse":
            run.drop_small()
        else:
            run.decode(SpecialistDecoder(prompter, networks, foundation, run.coarse))
        run.lap("objects", begin)
        return run.result()


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
        "foundation": foundation.sha256,
        "objects": _digest_of(objects),
        "labels": list(names),
        **(identity or {}),
    }
    with ExitStack() as stack:
        run = _ObjectRun(source, networks, chosen, folder, stack, marks, resume, progress, names)
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


class _Run:
    """A folder of staged files, its journal, and the stages that fill them."""

    def __init__(
        self,
        grid: Grid,
        folder: Path,
        stack: ExitStack,
        identity: Mapping[str, Any],
        resume: bool,
        progress: Progress,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create folder {folder}: {error.strerror}") from error
        self.folder, self.progress = folder, progress
        self.shape, self.frames = grid.frame_shape, grid.frames
        marks = {"shape": list(grid.shape), **identity}
        self.journal = stack.enter_context(Journal(folder / JOURNAL_FILE, marks, resume))
        self._stack = stack

    @property
    def pixels(self) -> int:
        """Pixels of all frames."""
        return self.frames * self.shape[0] * self.shape[1]

    def stage_file(self, name: str) -> RawRaster:
        """A staged file, as an earlier run left it if this one goes on."""
        # A run killed before its first unit may have left no file, or half of one.
        make = RawRaster.open if self.journal.records else RawRaster.create
        return self._stack.enter_context(make(self.folder / name, self.shape, self.frames))

    def course(self, stage: str, tiles: TileGrid, strip_width: int, together: int = 1) -> Course:
        """A stage's way through all frames, ``together`` of them at a time."""
        frames = group_frames(range(self.frames), together)
        return Course(stage, tiles, self.shape, frames, strip_width)

    def follow(
        self,
        course: Course,
        stores: Sequence[RawRaster],
        work: Callable[[Strip, Recorder, Callable[[int], None]], None],
    ) -> None:
        """Do what is left of a stage, strip by strip."""
        counter = _Counter(course.stage, self.pixels, self.progress)
        finished = {tuple(record["unit"]) for record in self.journal.records if "unit" in record}
        with WriteBehind() as writes:
            recorder = Recorder(stores, self.journal, writes)
            for strip in course.strips(finished):
                counter.advance(strip.pixels_before)
                work(strip, recorder, counter.advance)


class _ObjectRun(_Run):
    """The stages of a run over objects, and what they share."""

    def __init__(
        self,
        source: Source,
        networks: Networks,
        options: EngineOptions,
        folder: Path,
        stack: ExitStack,
        identity: Mapping[str, Any],
        resume: bool,
        progress: Progress,
        names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(source.grid, folder, stack, {**options.fingerprint(), **identity}, resume, progress)
        self.networks, self.options, self.names = networks, options, names
        self.read = make_padded_reader(source)
        self.coarse = self.stage_file(COARSE_FILE)
        self.final = self.stage_file(FINAL_FILE)
        self.labels = self.stage_file(LABELS_FILE) if names else None
        self.level = find_threshold_level(options.threshold)
        self.lattice = Lattice.cover(self.shape, self._field())
        self.plan: Plan = {}
        self.components: list[Component] = []
        self.lookups: list[Ints] = []
        self.found = self.kept = 0
        self.marks: tuple[SceneObject, ...] = ()
        self.outlines: dict[OutlineKey, Outline] = {}
        self.seconds: dict[str, float] = {}

    def _field(self) -> int:
        if self.options.field is not None:
            return self.options.field
        foundation = self.networks.foundation
        return foundation.image_size if foundation is not None else DEFAULT_FIELD

    def lap(self, name: str, begin: float) -> None:
        """Note the seconds since ``begin``."""
        self.seconds[name] = perf_counter() - begin

    def first_pass(self, model: DenseModel[Block], kept: Path | None = None) -> None:
        """Sweep a dense model into the coarse probability; or take what ``kept`` holds, or leave it there."""
        if kept is not None and kept.exists():
            with RawRaster.open(kept, self.shape, self.frames) as found:
                self.coarse.copy_from(found)
            _Counter(SWEEP, self.pixels, self.progress).advance(self.pixels)
            return
        options = self.options
        tiles = TileGrid.cover(self.shape, options.tile, options.overlap, options.offset)
        course = self.course(SWEEP, tiles, options.strip_width)

        def sweep(strip: Strip, recorder: Recorder, advanced: Callable[[int], None]) -> None:
            sweep_strip(
                self.read, model, course, strip, recorder, advanced, options.batch_size, options.workers
            )

        self.follow(course, (self.coarse,), sweep)
        if kept is not None:
            self._keep(kept)

    def _keep(self, kept: Path) -> None:
        """Leave pass one's answer for later runs; it appears when it is complete."""
        making = kept.with_name(f".{kept.name}.part")
        with RawRaster.create(making, self.shape, self.frames) as copy:
            copy.copy_from(self.coarse)
        making.replace(kept)

    def find_objects(self) -> None:
        """Take the connected objects of the coarse probability, frame by frame, and plan their crops."""
        plan: dict[tuple[int, int, int], Any] = {}
        for frame in range(self.frames):
            found = find_components(
                self.coarse.frame(frame), self.level, self.lattice, self.options.min_pixels
            )
            before = len(self.components)
            plan.update(plan_prompts(found, self.lattice, frame, before))
            self.components += [
                replace(item, id=item.id + before, bounds=replace(item.bounds, frame=frame))
                for item in found.items
            ]
            self.found += found.found
            self.lookups.append(found.lookup)
        self.plan = plan
        self.kept = len(self.components)

    def plan_marks(self, objects: Sequence[SceneObject]) -> None:
        """Plan the crops of objects that somebody marked."""
        self.plan = plan_marks(objects, self.names, self.lattice)
        self.marks = tuple(objects)
        self.found = self.kept = len(objects)

    def decode(self, decoder: Decoder) -> None:
        """Decode every planned object into the final probability."""
        for record in self.journal.records:
            self.outlines.update(record_outlines(record))
        options = self.options
        course = self.course(OBJECTS, self.lattice.grid, options.strip_width)

        def work(strip: Strip, recorder: Recorder, advanced: Callable[[int], None]) -> None:
            decoded = decode_strip(
                self.read,
                self.networks,
                decoder,
                course,
                self.plan,
                self.coarse,
                strip,
                options,
                recorder,
                advanced,
                labelled=self.labels is not None,
            )
            self.outlines.update(decoded)

        stores = (self.final,) if self.labels is None else (self.final, self.labels)
        self.follow(course, stores, work)

    def drop_small(self) -> None:
        """The answer without pass two: the coarse probability, small objects just below the threshold."""
        self.plan = {}
        counter = _Counter(OBJECTS, self.pixels, self.progress)
        for frame in range(self.frames):
            for row, values, labels in label_bands(self.coarse.frame(frame), self.level):
                small = (labels > 0) & (self.lookups[frame][labels] == 0)
                kept = np.where(small, np.uint8(self.level - 1), values)
                self.final.write(Window(row, 0, len(values), self.shape[1], frame), kept)
                counter.advance(values.size)
        self.final.sync()

    def result(self) -> EngineResult:
        """What the run leaves behind."""
        valid = inside = 0
        for window in self.final.bands(SWEEP_PIXELS):
            values = self.final.read(window)
            seen = values != NODATA
            valid += int(seen.sum())
            inside += int((seen & (values >= self.level)).sum())
        return EngineResult(
            coarse=self.coarse.path,
            probability=self.final.path,
            shape=self.shape,
            level=self.level,
            components=weigh_by_iou(self.components, self.outlines),
            found=self.found,
            pixels=self.pixels,
            valid_pixels=valid,
            object_pixels=inside,
            crops=len(self.plan),
            resumed=self.journal.resumed,
            seconds=self.seconds,
            labels=None if self.labels is None else self.labels.path,
            names=self.names,
            frames=self.frames,
            kept=self.kept,
            objects=gather_objects(self.marks, self.outlines),
        )


class _Counter:
    """Adds up finished pixels and tells the progress."""

    def __init__(self, stage: str, pixels: int, progress: Progress) -> None:
        self._stage, self._progress = stage, progress
        self._done, self._total = 0, pixels
        progress(stage, 0, self._total)

    def advance(self, pixels: int) -> None:
        self._done += pixels
        self._progress(self._stage, self._done, self._total)


def weigh_by_iou(
    components: Iterable[Component], outlines: Mapping[OutlineKey, Outline]
) -> tuple[Component, ...]:
    """Weigh the mean probability of components by the expected IoU of their outline.

    The IoU of an object decoded in several crops is the mean over them,
    weighted by the object's pixels in each.
    """
    weighted: dict[int, float] = {}
    weight: dict[int, int] = {}
    for (number, *_), outline in sorted(outlines.items()):
        weighted[number] = weighted.get(number, 0.0) + outline.iou * outline.area
        weight[number] = weight.get(number, 0) + outline.area
    return tuple(
        replace(item, confidence=item.mean_probability * weighted[item.id] / weight[item.id])
        if item.id in weight
        else item
        for item in components
    )
