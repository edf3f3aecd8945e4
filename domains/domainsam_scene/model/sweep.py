"""The scene model over a stack of rasters, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.infer.blend import NODATA, store_shares
from domainsam.infer.engine import sweep_scene
from domainsam.infer.staged import Swept
from domainsam.infer.sweep import Answer
from domainsam.infer.tiling import ALIGN, TileGrid, place_tiles
from domainsam.progress import Progress, report_nothing
from domainsam.protocols import Window
from domainsam_scene.model.predict import SCALE
from domainsam_scene.model.scene import SceneModel
from domainsam_scene.read.modalities import SensorBlock
from domainsam_scene.read.rasters import SceneSource

BAND_BYTES = 512 * 2**20
"""Memory that the band of unfinished rows may take; wider maps are done in column strips."""
LABELS, CONFIDENCE, CONTRIBUTION, PROBABILITY = "labels", "confidence", "contribution", "probability"
"""Kinds of staged results; the last two are followed by a slash and a sensor or the number of a class."""


@dataclass(frozen=True)
class TileOptions:
    """Side and overlap of tiles in pixels of the map, and whether to go on with an earlier run.

    ``offset`` (rows, columns) moves the tiles; it changes the answer only by what lies around each tile.
    """

    tile: int
    overlap: int
    keep_probability: bool = False
    resume: bool = False
    offset: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.tile < ALIGN or self.tile % ALIGN:
            raise ConfigError(f"--tile {self.tile} must be a multiple of {ALIGN}, and {ALIGN} or more")
        if not 0 <= self.overlap < self.tile:
            raise ConfigError(f"--overlap {self.overlap} must lie between 0 and {self.tile - 1} (the tile)")


@dataclass(frozen=True)
class SceneSweep:
    """The scene model as a :class:`~domainsam.infer.sweep.DenseModel`.

    Its planes are the probability of every class, then every sensor's share.
    """

    model: SceneModel
    sensors: tuple[str, ...]
    keep_probability: bool
    context: int = 0

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.model.labels)

    @property
    def planes(self) -> int:
        """Classes and sensors."""
        return self.classes + len(self.sensors)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Labels, confidence, every sensor's contribution, and every class's probability if it is kept."""
        shares = tuple(f"{CONTRIBUTION}/{name}" for name in self.sensors)
        kept = tuple(f"{PROBABILITY}/{number}" for number in range(self.classes))
        return (LABELS, CONFIDENCE, *shares, *(kept if self.keep_probability else ()))

    def running(self) -> AbstractContextManager[None]:
        """The model sees to gradients and precision by itself."""
        return nullcontext()

    def answer(
        self, blocks: Sequence[SensorBlock], before: Sequence[SensorBlock], after: Sequence[SensorBlock]
    ) -> Sequence[Answer]:
        """Probabilities and shares of each tile, from the sensors that saw anything of it."""
        return [self._answer(block) for block in blocks]

    def _answer(self, block: SensorBlock) -> Answer:
        seen = {name: plane for name, plane in block.sensors.items() if plane.valid.any()}
        found = self.model.predict_sensors(
            {name: plane.image for name, plane in seen.items()},
            {name: plane.valid for name, plane in seen.items()},
        )
        nothing = np.zeros(block.valid.shape, np.float32)
        shares = [
            found.contribution[name].astype(np.float32) / np.float32(SCALE) if name in seen else nothing
            for name in self.sensors
        ]
        return Answer([*found.probability, *shares], found.labels != NODATA)

    def finish(self, means: NDArray[np.float32], seen: NDArray[np.bool_]) -> Sequence[NDArray[np.uint8]]:
        """The likeliest class and its probability, the shares, and all probabilities if they are kept."""
        probability = means[: self.classes]
        labels = np.where(seen, probability.argmax(axis=0), NODATA).astype(np.uint8)
        kept = means if self.keep_probability else means[self.classes :]
        stored = [store_shares(plane, seen) for plane in kept]
        shares = stored[-len(self.sensors) :]
        return [labels, store_shares(probability.max(axis=0), seen), *shares, *stored[: -len(self.sensors)]]


def segment_stack(
    source: SceneSource,
    model: SceneModel,
    folder: Path,
    options: TileOptions,
    progress: Progress = report_nothing,
) -> Swept:
    """Segment a stack into staged files, named as :attr:`SceneSweep.outputs`.

    Class probabilities and contributions of overlapping tiles are averaged
    in a band of rows that slides down the map, so memory follows the tile and
    not the map.

    Raises
    ------
    InputError
        If a raster turns out to be damaged, or a journal is of another run.
    OutputError
        If the disk is full.
    """
    sweep = SceneSweep(model, tuple(source.sensors), options.keep_probability)
    identity = {
        **source.fingerprint,
        "model": model.name,
        "labels": list(model.labels),
        "tile": options.tile,
        "overlap": options.overlap,
        "offset": list(options.offset),
        "probability": options.keep_probability,
    }
    return sweep_scene(
        source,
        read_sensors(source),
        sweep,
        folder,
        make_tile_grid(source.map_grid.shape, options),
        identity=identity,
        strip_width=max(options.tile, BAND_BYTES // (4 * (sweep.planes + 1) * options.tile)),
        resume=options.resume,
        progress=progress,
        stage="segment",
    )


def read_sensors(source: SceneSource) -> Callable[[Window], SensorBlock]:
    """A reader of blocks that know every sensor; for one thread at a time."""

    def read(window: Window) -> SensorBlock:
        planes = source.read_sensors(window)
        valid = np.logical_or.reduce([plane.valid for plane in planes.values()])
        return SensorBlock(window, next(iter(planes.values())).image, valid, planes)

    return read


def make_tile_grid(shape: tuple[int, int], options: TileOptions) -> TileGrid:
    """Tiles of one size everywhere, so that the network sees one scale; a small map is overhung."""
    tile = options.tile
    rows, cols = (
        place_tiles(length, tile, min(options.overlap, tile - ALIGN), offset)
        for length, offset in zip(shape, options.offset, strict=True)
    )
    return TileGrid(rows, cols, (tile, tile))
