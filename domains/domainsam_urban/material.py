"""What a run learns from and is judged on: labelled scenes with their ground shared out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from domainsam.errors import InputError
from domainsam.protocols import Window
from domainsam.train.cache import FixedTiles
from domainsam.train.crops import Batch, BatchStream, RandomCrops
from domainsam.train.losses import IGNORE
from domainsam.train.split import add_counts, choose_blocks
from domainsam_urban.contradictions import hide_contradictions
from domainsam_urban.labels import (
    JUDGED,
    LEARNT,
    LabelledScene,
    outside_of,
    scene_counts,
    sides_of,
    stage_scene,
)
from domainsam_urban.pairing import Scene, find_scenes, is_vector, labels_of
from domainsam_urban.raster import RasterSource
from domainsam_urban.recipe import TrainConfig, TrainOptions

log = logging.getLogger(__name__)

NEAR = 1.05
"""A scene whose pixel is this close to the asked-for one is taken as it is."""


@dataclass(frozen=True)
class Material:
    """Labelled scenes, at the finest scale that crops ask for, and at the model's scale for judging."""

    training: tuple[LabelledScene, ...]
    judged: tuple[LabelledScene, ...]
    resolution: float | None
    remarks: tuple[str, ...] = ()
    """What was noted of all scenes together."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was mended or assumed, each once."""
        own = (note for scene in self.training + self.judged for note in scene.notes)
        return tuple(dict.fromkeys((*own, *self.remarks)))

    @property
    def signature(self) -> list[Any]:
        """What tells this material from any other."""
        return [
            [
                scene.source.fingerprint["source_head"],
                hashlib.sha256(np.ascontiguousarray(scene.truth).data).hexdigest(),
                hashlib.sha256(np.ascontiguousarray(scene.sides).data).hexdigest(),
            ]
            for scene in self.training + self.judged
        ]


def gather_material(
    scenes: Sequence[Scene],
    labels: Path,
    config: TrainConfig,
    options: TrainOptions,
    staged: Path,
    stack: ExitStack,
) -> Material:
    """Open and label all scenes, and share out their ground.

    ``staged`` is an existing folder; ``stack`` closes the scenes.
    """
    resolution = config.resolution or _usual_pixel(scenes, options)
    finest = None if resolution is None else resolution / max(1.0, config.crops.scale[1])

    def opened(
        found: Sequence[Scene], where: Path, metres: float | None, part: str
    ) -> tuple[LabelledScene, ...]:
        result = []
        for number, scene in enumerate(found):
            own = _label_file(scene, where, labels)
            source = _open(scene.path, metres, options, stack)
            name = f"{part}{number:04d}-{scene.path.stem}"
            result.append(stage_scene(source, own, staged, name, _ratio(source, resolution)))
        return tuple(result)

    training = opened(scenes, labels, finest, "train")
    remarks = hide_contradictions(training)
    if options.val is None:
        judged = opened(scenes, labels, resolution, "val")
        hide_contradictions(judged)
        counts = add_counts([scene_counts(scene, config.split.size_m) for scene in judged])
        split = choose_blocks(counts, config.split)
        for scene in training + judged:
            scene.share_out(sides_of(scene, split.is_training, split.is_validation))
        return Material(training, judged, resolution, remarks)
    judged = opened(find_scenes([options.val]), options.val, resolution, "val")
    remarks += hide_contradictions(judged)
    for scene in judged:
        scene.sides[:] = JUDGED
    if all(scene.source.crs is not None for scene in training + judged):
        learnt = outside_of(judged, config.split.buffer_m)
        for scene in training:
            scene.share_out(sides_of(scene, learnt, lambda points: ~learnt(points)))
            hidden = float((scene.sides != LEARNT).mean())
            if hidden:
                log.warning(
                    "%s: %.0f %% of it lies on validation scenes and is not used", scene.name, 100 * hidden
                )
    return Material(training, judged, resolution, remarks)


def _label_file(scene: Scene, where: Path, shared: Path) -> Path:
    """A scene's labels in a folder; polygons that are given for all scenes serve where it has none."""
    try:
        return labels_of(scene, where)
    except InputError:
        if shared.is_file() and is_vector(shared):
            return shared
        raise


def _open(path: Path, metres: float | None, options: TrainOptions, stack: ExitStack) -> RasterSource:
    """A scene at a ground pixel in metres, but never finer than it is."""
    read = options.read

    def source(resolution: float | None) -> RasterSource:
        return RasterSource(
            path, read.bands, read.nodata, resolution, read.normalize, allow_no_crs=read.allow_no_crs
        )

    native = stack.enter_context(source(None))
    pixel = native.profile_info.ground_pixel
    if metres is None or pixel is None or metres < NEAR * (pixel[0] * pixel[1]) ** 0.5:
        return native
    return stack.enter_context(source(metres))


def _usual_pixel(scenes: Sequence[Scene], options: TrainOptions) -> float | None:
    """The scenes' median ground pixel in metres; None if none of them has a CRS."""
    pixels = []
    with ExitStack() as stack:
        for scene in scenes:
            pixel = _open(scene.path, None, options, stack).profile_info.ground_pixel
            pixels += [] if pixel is None else [(pixel[0] * pixel[1]) ** 0.5]
    return float(median(pixels)) if pixels else None


def _ratio(source: RasterSource, resolution: float | None) -> float:
    """Pixels of a source's work grid along one pixel of the model's resolution."""
    pixel = source.profile_info.work_pixel
    if resolution is None or pixel is None:
        return 1.0
    return float(resolution / (pixel[0] * pixel[1]) ** 0.5)


def judging_tiles(scenes: Sequence[LabelledScene], side: int) -> Iterator[Batch]:
    """Tiles that hold validation ground, each a batch of its own.

    The last tile of a row or column is pushed inside the scene, so that no
    tile shows the network more blackness than scene; ground that the tile
    before has judged already is unknown there.
    """
    for scene in scenes:
        height, width = scene.shape
        for row in range(0, height, side):
            for col in range(0, width, side):
                top, left = min(row, max(0, height - side)), min(col, max(0, width - side))
                tile = scene.judged(Window(top, left, side, side))
                tile.labels[: row - top] = IGNORE
                tile.labels[:, : col - left] = IGNORE
                if (tile.labels <= 1).any():
                    yield Batch.of([tile])


def joint_stream(config: TrainConfig, material: Material, seed: tuple[int, int, int]) -> BatchStream:
    """Batches of the joint stage: random crops, or fixed tiles where features are cached."""
    crops = replace(config.crops, size=config.joint_crop or config.crops.size)
    if config.cache_gb:
        return FixedTiles(material.training, crops.size, config.joint_batch_size, seed)
    return RandomCrops(material.training, crops, config.joint_batch_size, seed)
