"""Mapping a whole scene: pass one, the scene's objects, pass two.

The engine knows no file format. It reads blocks from a
:class:`~domainsam.protocols.Source` and leaves raw bytes on disk, which a
pack turns into its own outputs. Everything in its folder is staging: an
interrupted run continues from it, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from domainsam.errors import ConfigError, OutputError
from domainsam.infer import decode as pass_two
from domainsam.infer import sweep as pass_one
from domainsam.infer.blend import NODATA, threshold_level
from domainsam.infer.components import Component, Components, find_components, labelled_bands
from domainsam.infer.journal import JOURNAL_FILE, Journal
from domainsam.infer.networks import Networks, ScenePrompter, fingerprint
from domainsam.infer.options import EngineOptions
from domainsam.infer.order import Recorder, WriteBehind, plan_strips
from domainsam.infer.plan import plan_prompts
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import Lattice, TileGrid
from domainsam.progress import Progress, silent
from domainsam.protocols import Foundation, Source, Window

COARSE_FILE = "coarse.u8"
FINAL_FILE = "probability.u8"
DEFAULT_FIELD = 1024
"""Cuts objects into pieces where no foundation sets the size of crops."""
SWEEP_PIXELS = 1 << 22


@dataclass(frozen=True)
class EngineResult:
    """What a run leaves behind.

    ``coarse`` and ``probability`` are raw row-major files of bytes, ``shape``
    rows x columns, holding ``round(254 p)`` or 255 without data: pass one
    alone, and the final answer. ``level`` is the smallest stored value that is
    foreground. ``components`` are pass one's objects that were large enough,
    of ``found`` in all.
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
    progress: Progress = silent,
    first_pass: Path | None = None,
) -> EngineResult:
    """Map a scene.

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
    where = torch.device(device or (foundation.device if foundation is not None else "cpu"))
    networks = Networks(prompter, foundation, where, chosen.dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create folder {folder}: {error.strerror}") from error
    marks = {
        "shape": source.grid.shape,
        "device": where.type,
        **fingerprint(prompter, foundation),
        **chosen.fingerprint(),
        **(identity or {}),
    }
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(folder / JOURNAL_FILE, marks, resume))
        run = _Run(source, networks, chosen, folder, journal, progress, stack, first_pass)
        return run.all()


class _Run:
    """The stages of one run and what they share."""

    def __init__(
        self,
        source: Source,
        networks: Networks,
        options: EngineOptions,
        folder: Path,
        journal: Journal,
        progress: Progress,
        stack: ExitStack,
        first_pass: Path | None,
    ) -> None:
        rows, cols = source.grid.shape
        self.source, self.networks, self.options = source, networks, options
        self.journal, self.progress = journal, progress
        self.first_pass = first_pass
        self.shape = (rows, cols)
        # A run killed before its first unit may have left no store, or half of one.
        open_store = RawRaster.open if journal.records else RawRaster.create
        self.coarse = stack.enter_context(open_store(folder / COARSE_FILE, self.shape))
        self.final = stack.enter_context(open_store(folder / FINAL_FILE, self.shape))
        self.level = threshold_level(options.threshold)
        self.lattice = Lattice.cover(self.shape, self._field())
        self.seconds: dict[str, float] = {}

    def _field(self) -> int:
        if self.options.field is not None:
            return self.options.field
        foundation = self.networks.foundation
        return foundation.image_size if foundation is not None else DEFAULT_FIELD

    def all(self) -> EngineResult:
        """Run every stage that is not done yet."""
        start = perf_counter()
        if self.first_pass is not None and self.first_pass.exists():
            self._take(self.first_pass)
        else:
            self._pass_one()
            if self.first_pass is not None:
                self._keep(self.first_pass)
        between = perf_counter()
        components = find_components(self.coarse, self.level, self.lattice, self.options.min_pixels)
        self.seconds = {"coarse": between - start, "components": perf_counter() - between}
        between = perf_counter()
        crops = 0
        outlines: dict[pass_two.OutlineKey, pass_two.Outline] = {}
        if self.options.method == "coarse":
            self._drop_small(components)
        else:
            crops, outlines = self._pass_two(components)
        self.seconds["objects"] = perf_counter() - between
        valid, inside = self._count()
        return EngineResult(
            coarse=self.coarse.path,
            probability=self.final.path,
            shape=self.shape,
            level=self.level,
            components=with_confidence(components.items, outlines),
            found=components.found,
            pixels=self.shape[0] * self.shape[1],
            valid_pixels=valid,
            object_pixels=inside,
            crops=crops,
            resumed=self.journal.resumed,
            seconds=self.seconds,
        )

    def _pass_one(self) -> None:
        options = self.options
        grid = TileGrid.cover(self.shape, options.tile, options.overlap, options.offset)
        counter = _Counter(pass_one.STAGE, self.shape, self.progress)
        with WriteBehind() as writes:
            recorder = Recorder(self.coarse, self.journal, writes)
            for strip in plan_strips(pass_one.STAGE, grid, self.shape, options.strip_width, self._finished()):
                counter.advance(strip.top * (strip.columns[1] - strip.columns[0]))
                pass_one.map_coarse(
                    self.source, self.networks, grid, strip, options, recorder, counter.advance
                )

    def _take(self, first_pass: Path) -> None:
        """Use what an earlier run found."""
        with RawRaster.open(first_pass, self.shape) as found:
            self.coarse.copy_from(found)
        _Counter(pass_one.STAGE, self.shape, self.progress).advance(self.shape[0] * self.shape[1])

    def _keep(self, first_pass: Path) -> None:
        """Leave pass one's answer for later runs; it appears when it is complete."""
        making = first_pass.with_name(f".{first_pass.name}.part")
        with RawRaster.create(making, self.shape) as kept:
            kept.copy_from(self.coarse)
        making.replace(first_pass)

    def _pass_two(self, components: Components) -> tuple[int, dict[pass_two.OutlineKey, pass_two.Outline]]:
        options = self.options
        plan = plan_prompts(components, self.lattice)
        outlines: dict[pass_two.OutlineKey, pass_two.Outline] = {}
        for record in self.journal.records:
            outlines.update(pass_two.outlines_of(record))
        counter = _Counter(pass_two.STAGE, self.shape, self.progress)
        grid = self.lattice.grid
        with WriteBehind() as writes:
            recorder = Recorder(self.final, self.journal, writes)
            for strip in plan_strips(pass_two.STAGE, grid, self.shape, options.strip_width, self._finished()):
                counter.advance(strip.top * (strip.columns[1] - strip.columns[0]))
                outlines.update(
                    pass_two.map_objects(
                        self.source,
                        self.networks,
                        self.lattice,
                        plan,
                        self.coarse,
                        strip,
                        self.level,
                        options,
                        recorder,
                        counter.advance,
                    )
                )
        return len(plan), outlines

    def _drop_small(self, components: Components) -> None:
        """The answer without pass two: the coarse probability, small objects just below the threshold."""
        counter = _Counter(pass_two.STAGE, self.shape, self.progress)
        for row, values, labels in labelled_bands(self.coarse, self.level):
            small = (labels > 0) & (components.lookup[labels] == 0)
            kept = np.where(small, np.uint8(self.level - 1), values)
            self.final.write(Window(row, 0, *values.shape), kept)
            counter.advance(values.size)
        self.final.sync()

    def _finished(self) -> set[tuple[Any, ...]]:
        return {tuple(record["unit"]) for record in self.journal.records if "unit" in record}

    def _count(self) -> tuple[int, int]:
        """Pixels with data, and pixels of objects."""
        rows, cols = self.shape
        height = max(1, SWEEP_PIXELS // cols)
        valid = inside = 0
        for row in range(0, rows, height):
            values = self.final.read(Window(row, 0, min(height, rows - row), cols))
            seen = values != NODATA
            valid += int(seen.sum())
            inside += int((seen & (values >= self.level)).sum())
        return valid, inside


class _Counter:
    """Adds up finished pixels and tells the progress."""

    def __init__(self, stage: str, shape: tuple[int, int], progress: Progress) -> None:
        self._stage, self._progress = stage, progress
        self._done, self._total = 0, shape[0] * shape[1]
        progress(stage, 0, self._total)

    def advance(self, pixels: int) -> None:
        self._done += pixels
        self._progress(self._stage, self._done, self._total)


def with_confidence(
    components: Iterable[Component], outlines: Mapping[pass_two.OutlineKey, pass_two.Outline]
) -> tuple[Component, ...]:
    """Components with their mean probability times the expected IoU of their outline.

    The IoU of an object decoded in several crops is the mean over them,
    weighted by the object's pixels in each.
    """
    weighted: dict[int, float] = {}
    weight: dict[int, int] = {}
    for (number, _, _), outline in sorted(outlines.items()):
        weighted[number] = weighted.get(number, 0.0) + outline.iou * outline.area
        weight[number] = weight.get(number, 0) + outline.area
    return tuple(
        replace(item, confidence=item.mean_probability * weighted[item.id] / weight[item.id])
        if item.id in weight
        else item
        for item in components
    )
