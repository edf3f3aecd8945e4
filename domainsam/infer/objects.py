"""A run over the objects of a scene: coarse pass, plan of crops, decoding, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from domainsam.infer.blend import NODATA, find_threshold_level
from domainsam.infer.components import Component, find_components
from domainsam.infer.decode import (
    Decoder,
    Outline,
    OutlineKey,
    decode_strip,
    record_outlines,
)
from domainsam.infer.fill import make_filled_reader
from domainsam.infer.found import FoundObject, gather_objects
from domainsam.infer.networks import Networks
from domainsam.infer.options import EngineOptions
from domainsam.infer.order import Recorder, Strip
from domainsam.infer.pieces import PiecePlan, Split
from domainsam.infer.plan import Plan, plan_marks, plan_prompts
from domainsam.infer.staged import PixelCounter, StagedRun
from domainsam.infer.store import RawRaster
from domainsam.infer.sweep import DenseModel, sweep_strip
from domainsam.infer.tiling import Lattice, TileGrid
from domainsam.progress import Progress
from domainsam.protocols import Block, SceneObject, Source

COARSE_FILE = "coarse.u8"
FINAL_FILE = "probability.u8"
LABELS_FILE = "labels.u8"
DEFAULT_FIELD = 1024
"""Cuts objects into pieces where no foundation sets the size of crops."""
SWEEP_PIXELS = 1 << 22
SWEEP, OBJECTS = "coarse", "objects"
"""Names of the two stages."""


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
        Objects that were decoded; by the coarse method those of ``min_pixels`` from the threshold on.
    labels
        Raw file of bytes beside ``probability``: an index into ``names`` counted from 1, 0 where no object
        is, 255 without data; None where all objects are of one kind.
    names
        Labels of the objects.
    objects
        What became of every object that a prompt source gave.
    told
        What else is to be told of the answer, as JSON can hold it.
    ranked
        Objects that are kept apart, each with its own mask, best first.
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
    told: Mapping[str, Any] = field(default_factory=dict)
    ranked: tuple[SceneObject, ...] = ()


Planned = tuple[Plan, list[Component], int]
"""Crops that are planned, the objects that they are planned for, and how many there were before small ones
were left out."""


class ObjectRun(StagedRun):
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
        piece: PiecePlan | None = None,
        split: Split | None = None,
    ) -> None:
        marks = {**options.fingerprint(), **identity}
        super().__init__(source.grid, folder, stack, marks, resume, progress, piece, split)
        self.networks, self.options, self.names = networks, options, names
        self.read = make_filled_reader(source)
        self.read_mirrored = make_filled_reader(source, mirrored=True)
        self.coarse = self.stage_file(COARSE_FILE)
        self.final = self.stage_file(FINAL_FILE)
        self.labels = self.stage_file(LABELS_FILE) if names else None
        self.level = find_threshold_level(options.threshold)
        self.lattice = Lattice.cover(self.shape, self._field())
        self.plan: Plan = {}
        self.components: list[Component] = []
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
            PixelCounter(SWEEP, self.pixels, self.progress).advance(self.pixels)
            return
        options = self.options
        tiles = TileGrid.cover(self.shape, options.tile, options.overlap, options.offset)
        course = self.course(SWEEP, tiles, options.strip_width)

        def sweep(strip: Strip, recorder: Recorder, advanced: Callable[[int], None]) -> None:
            sweep_strip(
                self.read_mirrored,
                model,
                course,
                strip,
                recorder,
                advanced,
                options.batch_size,
                options.workers,
                options.margin,
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

    def find_objects(self, probability: float) -> None:
        """Take what is connected from a coarse probability on as objects, frame by frame; plan crops."""
        level = find_threshold_level(probability)
        plan: dict[tuple[int, int, int], Any] = {}
        for frame in range(self.frames):
            found = find_components(self.coarse.frame(frame), level, self.lattice, self.options.min_pixels)
            before = len(self.components)
            plan.update(plan_prompts(found, self.lattice, frame, before))
            self.components += [
                replace(item, id=item.id + before, bounds=replace(item.bounds, frame=frame))
                for item in found.items
            ]
            self.found += found.found
        self.plan = plan
        self.kept = len(self.components)

    @property
    def planned(self) -> Planned:
        """What :meth:`find_objects` has found."""
        return self.plan, self.components, self.found

    @planned.setter
    def planned(self, known: Planned) -> None:
        self.plan, self.components, self.found = known
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

    def keep_coarse(self) -> None:
        """The answer without pass two: the coarse probability."""
        self.plan = {}
        counter = PixelCounter(OBJECTS, self.pixels, self.progress)
        self.final.copy_from(self.coarse)
        self.final.sync()
        counter.advance(self.pixels)

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
