"""Objects that a person marked in a scene: clicks and boxes become a map of their labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_decoder
from domainsam.grid import Grid
from domainsam.infer.blend import NODATA, clip_window, slice_within
from domainsam.infer.engine import prompt_scene
from domainsam.infer.found import UNNAMED, label_all
from domainsam.infer.objects import EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.infer.staged import Swept
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import TileGrid
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.io.marks import read_mark_files
from domainsam.machine import keep_freed_memory
from domainsam.progress import Progress, report_progress
from domainsam.prompter.clicks import Clicks
from domainsam.protocols import Block, Foundation, Source, Window
from domainsam.staging import check_targets
from domainsam_scene.job import Batch, SamplePlan, SegmentResult, plan_outputs
from domainsam_scene.model.predict import ScenePrediction
from domainsam_scene.model.sweep import CONFIDENCE, LABELS
from domainsam_scene.read.layouts.base import SampleRef, check_given, read_sample
from domainsam_scene.read.layouts.plain import PlainLayout
from domainsam_scene.read.modalities import Plane, Sample
from domainsam_scene.read.rasters import SceneSource
from domainsam_scene.segment import report_liberties, run_single, write_sample
from domainsam_scene.segment_stack import StackProducts, find_readable, plan_stack
from domainsam_scene.settings import ReadOptions, SegmentOptions

PICTURE = "rgb"
"""The sensor that is shown to the foundation, where there is one of that name; else the first."""
STAGED_BYTES = 5
"""Bytes a pixel that are staged, and that the map may take."""


@dataclass(frozen=True)
class MarkedScene:
    """In the place of a model where a person marks objects: what results tell of their making."""

    labels: tuple[str, ...]
    foundation_name: str
    name: str = "none"


class PlaneSource:
    """One sensor of a sample in memory as a :class:`~domainsam.protocols.Source`: ``rgb``, else the first."""

    def __init__(self, sample: Sample, files: Sequence[Path] = ()) -> None:
        self.sample, self.files = sample, tuple(files)
        shown = _choose_shown(sample.images)
        self._plane = Plane(sample.images[shown], sample.valid[shown])

    @property
    def grid(self) -> Grid:
        """Pixels; the image has no place on the ground."""
        return Grid(self._plane.shape, np.eye(3), "pixel")

    def read(self, window: Window) -> Block:
        """One block; parts outside the image are invalid."""
        return _block(self._plane, window)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover the image, row by row."""
        for window in TileGrid.cover(self._plane.shape, size, overlap).windows():
            yield self.read(window)


class SensorSource:
    """One sensor of a stack of rasters as a :class:`~domainsam.protocols.Source`: ``rgb``, else the first.

    ``missing`` says of rasters that were left out why. One thread at a time may read it.
    """

    def __init__(self, stack: SceneSource, missing: Mapping[str, str]) -> None:
        self.stack, self.missing = stack, missing
        self._sensor = _choose_shown(stack.sensors)

    @property
    def grid(self) -> Grid:
        """The map's grid."""
        return self.stack.grid

    def read(self, window: Window) -> Block:
        """One block; parts outside the map are invalid."""
        plane = self.stack.sensors[self._sensor].read(window, self.stack.map_grid)
        return Block(window, plane.image, plane.valid)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover the map, row by row."""
        for window in TileGrid.cover(self.grid.frame_shape, size, overlap).windows():
            yield self.read(window)

    def close(self) -> None:
        """Close all files."""
        self.stack.close()


def _choose_shown(sensors: Collection[str]) -> str:
    """The sensor whose picture the foundation sees."""
    return PICTURE if PICTURE in sensors else next(iter(sensors))


def _block(plane: Plane, window: Window) -> Block:
    part = clip_window(window, (0, plane.shape[0]), (0, plane.shape[1]))
    image = np.zeros((3, window.height, window.width), np.float32)
    valid = np.zeros((window.height, window.width), np.bool_)
    into = slice_within(part, (window.row, window.col))
    image[:, *into] = plane.image[:, *part.slices]
    valid[into] = plane.valid[part.slices]
    return Block(window, image, valid)


def segment_marked_files(files: Mapping[str, Path], options: SegmentOptions) -> Batch:
    """Map what files mark in one scene of one file a sensor; pixels without an object are 255.

    Raises
    ------
    DomainSamError
        If a sensor's file or a mark cannot be read, a mark lies outside, or an output cannot be written.
    """
    begin = perf_counter()
    if not files:
        raise InputError("no picture was given: name one, for example --rgb a.png")
    (plan,) = plan_outputs([next(iter(files.values())).stem], options.outputs, tuple(files.values()))
    _check(plan, options)

    def prepare() -> Callable[[SamplePlan], SegmentResult]:
        decoder = Decoder.load(options)
        return lambda plan: _segment_files(files, plan, options, decoder, begin)

    return run_single(plan, prepare, options)


def _segment_files(
    files: Mapping[str, Path], plan: SamplePlan, options: SegmentOptions, decoder: Decoder, begin: float
) -> SegmentResult:
    source = open_pictures(files, options.read)
    with WorkRoom(plan.work, options.resume) as room, report_progress(plan.name, options.quiet) as progress:
        answer = decoder.decode(source, options, room.folder, progress, {"input": plan.name})
        model = MarkedScene(answer.names, decoder.foundation.name)
        return write_sample(source.sample, read_answer(answer), plan, options, model, begin)


def open_pictures(files: Mapping[str, Path], options: ReadOptions) -> PlaneSource:
    """Read one scene of one picture a sensor.

    Raises
    ------
    InputError
        If no sensor can be read, or sizes cannot be brought together.
    """
    check_given(files)
    name = next(iter(files.values())).stem
    ref = SampleRef(name, {name: (path,) for name, path in files.items()})
    sample = read_sample(PlainLayout(), ref, tuple(files), options)
    report_liberties(sample)
    return PlaneSource(sample, tuple(files.values()))


def read_answer(answer: EngineResult) -> ScenePrediction:
    """The answer in memory, as a model's for one scene."""
    with open_answer(answer) as (labels, confidence):
        whole = Window(0, 0, *answer.shape)
        found = class_numbers(labels.read(whole))
        sure = np.where(found == NODATA, np.uint8(NODATA), confidence.read(whole))
    return ScenePrediction(found, np.zeros((0, 1, 1), np.float16), sure, {})


def write_found(
    source: PlaneSource | SensorSource, answer: EngineResult, options: SegmentOptions, foundation: Foundation
) -> SegmentResult:
    """Write what was found in opened pictures or rasters, as the command does for marks.

    Raises
    ------
    ConfigError
        If an output's ending is unknown.
    OutputError
        If an output exists or cannot be written.
    """
    begin = perf_counter()
    if isinstance(source, PlaneSource):
        stem, files = source.sample.name, source.files
    else:
        files = tuple(Path(sensor.path) for sensor in source.stack.sensors.values())
        stem = files[0].stem
    geo = isinstance(source, SensorSource)
    (plan,) = plan_outputs([stem], options.outputs, files, geo=geo)
    check_targets(plan.files, options.outputs.overwrite)
    with WorkRoom(plan.work, resume=False) as room:
        answer = label_all(answer, room.folder)
        model = MarkedScene(answer.names, foundation.name)
        if isinstance(source, PlaneSource):
            return write_sample(source.sample, read_answer(answer), plan, options, model, begin)
        swept = stage_map(answer, room.folder)
        products = StackProducts(plan, source.stack, swept, model, source.missing, options.made_by)
        return products.write(options.outputs.overwrite, room, begin)


def segment_marked_rasters(
    paths: Mapping[str, Path | str],
    options: SegmentOptions,
    bands: Mapping[str, tuple[int, ...]] | None = None,
) -> Batch:
    """Map what files mark in a stack of georeferenced rasters; pixels without an object are 255.

    Raises
    ------
    DomainSamError
        If no raster or a mark cannot be read, a mark lies outside, or an output cannot be written.
    """
    begin = perf_counter()
    plan = plan_stack(paths, options)
    _check(plan, options)

    def prepare() -> Callable[[SamplePlan], SegmentResult]:
        decoder = Decoder.load(options)
        return lambda plan: _segment_rasters(paths, plan, options, bands, decoder, begin)

    return run_single(plan, prepare, options)


def _segment_rasters(
    paths: Mapping[str, Path | str],
    plan: SamplePlan,
    options: SegmentOptions,
    bands: Mapping[str, tuple[int, ...]] | None,
    decoder: Decoder,
    begin: float,
) -> SegmentResult:
    readable, missing = find_readable(paths, options.read.strict)
    with SceneSource(readable, bands, options.read.ranges) as stack:
        rows, cols = stack.map_grid.shape
        require_space(plan.work.parent, STAGED_BYTES * rows * cols, f"a map of {cols} x {rows} pixels")
        with WorkRoom(plan.work, options.resume) as room:
            with report_progress(plan.name, options.quiet) as progress:
                source = SensorSource(stack, missing)
                answer = decoder.decode(source, options, room.folder, progress, stack.fingerprint)
            swept = stage_map(answer, room.folder)
            model = MarkedScene(answer.names, decoder.foundation.name)
            products = StackProducts(plan, stack, swept, model, missing, options.made_by)
            return products.write(options.outputs.overwrite, room, begin)


def _check(plan: SamplePlan, options: SegmentOptions) -> None:
    for kind in ("probability", "contribution"):
        if kind in plan.paths:
            raise ConfigError(f"--{kind} tells of a trained model, and marks take none: leave it out")
    options.marks.check()


@dataclass(frozen=True)
class Decoder:
    """The foundation that decodes marks, and how it computes."""

    foundation: Foundation
    engine: EngineOptions

    @classmethod
    def load(cls, options: SegmentOptions) -> Decoder:
        """The foundation that the options name, by default the embedded one."""
        keep_freed_memory()
        run = options.run
        foundation, precision = load_decoder(options.foundation, run.device, run.precision, run.runtime)
        return cls(foundation, EngineOptions(overlap=0, workers=1, dtype=precision))

    def decode(
        self,
        source: Source,
        options: SegmentOptions,
        folder: Path,
        progress: Progress,
        identity: Mapping[str, object],
    ) -> EngineResult:
        """What the marks of the options are of, staged in ``folder``."""
        marks = read_mark_files(options.marks, source.grid)
        named = [replace(mark, label=mark.label or UNNAMED) for mark in marks.objects]
        return prompt_scene(
            source,
            Clicks(named, marks.origin),
            self.foundation,
            folder,
            self.engine,
            identity=identity,
            resume=options.resume,
            progress=progress,
        )


def class_numbers(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels counted from 1, 0 for none, as class numbers from 0, 255 for none."""
    return np.where((labels == 0) | (labels == NODATA), np.uint8(NODATA), labels - np.uint8(1))


@contextmanager
def open_answer(answer: EngineResult) -> Iterator[tuple[RawRaster, RawRaster]]:
    """Labels and probability of an answer, open for as long as the ``with`` block lasts."""
    assert answer.labels is not None
    with (
        RawRaster.open(answer.labels, answer.shape) as labels,
        RawRaster.open(answer.probability, answer.shape) as probability,
    ):
        yield labels, probability


def stage_map(answer: EngineResult, folder: Path) -> Swept:
    """The answer as class numbers and confidence, staged as a model's sweep stages them."""
    paths = {name: folder / f"map-{name}.u8" for name in (LABELS, CONFIDENCE)}
    with (
        open_answer(answer) as (labels, probability),
        RawRaster.create(paths[LABELS], answer.shape) as numbers,
        RawRaster.create(paths[CONFIDENCE], answer.shape) as confidence,
    ):
        for window in labels.bands(1 << 22):
            found = class_numbers(labels.read(window))
            numbers.write(window, found)
            sure = np.where(found == NODATA, np.uint8(NODATA), probability.read(window))
            confidence.write(window, sure)
    return Swept(paths, answer.shape, 1, answer.resumed)
