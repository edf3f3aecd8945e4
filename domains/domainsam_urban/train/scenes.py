"""Training and validation material of a run: labelled scenes with their ground split."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from domainsam.errors import ConfigError, InputError
from domainsam.grid import Float64
from domainsam.io.pairing import Scene, find_labels, find_scenes, is_vector
from domainsam.protocols import Window
from domainsam.train.cache import FixedTiles
from domainsam.train.crops import Batch, BatchStream, RandomCrops
from domainsam.train.losses import IGNORE
from domainsam.train.split import add_counts, choose_blocks
from domainsam_urban.read.geodesy import apply_affine, parse_crs
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.train.labelled import (
    BAND_PIXELS,
    JUDGED,
    LEARNT,
    LabelledScene,
    assign_sides,
    count_scene,
    find_outside,
    locate_cell_corners,
    stage_scene,
)
from domainsam_urban.train.recipe import TrainConfig, TrainOptions

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

    def chances(self, shares: Sequence[float], owners: Sequence[int]) -> list[float] | None:
        """How often each training scene is drawn where inputs have shares; None without shares.

        Within an input, scenes are drawn by their ground that may be learnt from.

        Parameters
        ----------
        shares
            Of the crops, one for each input.
        owners
            For each training scene, the number of its input, see :func:`find_owners`.

        Raises
        ------
        ConfigError
            If there is not a share for each input, or an input with a share has no ground to learn from.
        """
        if not shares:
            return None
        inputs = max(owners, default=-1) + 1
        if len(shares) != inputs:
            raise ConfigError(f"there are {len(shares)} shares for {inputs} input(s): expected one for each")
        ground = np.zeros(inputs)
        np.add.at(ground, list(owners), [scene.weight for scene in self.training])
        bare = [number + 1 for number, share in enumerate(shares) if share and not ground[number]]
        if bare:
            raise ConfigError(f"input {bare[0]} has a share of the crops and no ground to learn from")
        return [
            shares[owner] * scene.weight / ground[owner] if ground[owner] else 0.0
            for owner, scene in zip(owners, self.training, strict=True)
        ]

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
                scene.source.fingerprint["source_content"],
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
            # Labels of a whole city may leave some of its scenes without settlement.
            alone = len(found) == 1 or own != where
            ratio = _ratio(source, resolution)
            result.append(stage_scene(source, own, staged, name, ratio, options.choice, alone))
        return tuple(result)

    training = opened(scenes, labels, finest, "train")
    if not any((scene.truth == 1).any() for scene in training):
        raise InputError(
            f"labels '{labels.name}' mark no settlement on any of {len(training)} scene(s): a model cannot "
            "learn what it never sees; add a scene with settlement, or check --class-value"
        )
    remarks = hide_contradictions(training)
    if options.val is None:
        judged = opened(scenes, labels, resolution, "val")
        hide_contradictions(judged)
        counts = add_counts([count_scene(scene, config.split.size_m) for scene in judged])
        split = choose_blocks(counts, config.split)
        for scene in training + judged:
            scene.share_out(assign_sides(scene, split.is_training, split.is_validation))
        return Material(training, judged, resolution, remarks)
    judged = opened(find_scenes([options.val]), options.val, resolution, "val")
    remarks += hide_contradictions(judged)
    for scene in judged:
        scene.sides[:] = JUDGED
    if all(scene.source.crs is not None for scene in training + judged):
        learnt = find_outside(judged, config.split.buffer_m)
        for scene in training:
            scene.share_out(assign_sides(scene, learnt, lambda points: ~learnt(points)))
            hidden = float((scene.sides != LEARNT).mean())
            if hidden:
                log.warning(
                    "%s: %.0f %% of it lies on validation scenes and is not used", scene.name, 100 * hidden
                )
    return Material(training, judged, resolution, remarks)


def find_owners(scenes: Sequence[Scene], inputs: Sequence[str | Path]) -> tuple[int, ...]:
    """For each scene the number of the first input, a file or a folder, that has it."""
    groups = [{scene.path for scene in find_scenes([given])} for given in inputs]
    return tuple(next(i for i, group in enumerate(groups) if scene.path in group) for scene in scenes)


def _label_file(scene: Scene, where: Path, shared: Path) -> Path:
    """A scene's labels in a folder; polygons that are given for all scenes serve where it has none."""
    try:
        return find_labels(scene, where)
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


def cut_judging_tiles(scenes: Sequence[LabelledScene], side: int) -> Iterator[Batch]:
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


def make_joint_stream(config: TrainConfig, material: Material, seed: tuple[int, int, int]) -> BatchStream:
    """Batches of the joint stage: random crops, or fixed tiles where features are cached."""
    crops = replace(config.crops, size=config.joint_crop or config.crops.size)
    if config.cache_gb:
        return FixedTiles(material.training, crops.size, config.joint_batch_size, seed)
    return RandomCrops(material.training, crops, config.joint_batch_size, seed)


DOUBT = 250
"""Added to a contradicted label until all scenes are compared, so that their order does not matter."""
RIM_PARTS = 32
"""Pieces of a scene's side, which bends in another scene's CRS."""


def hide_contradictions(scenes: Sequence[LabelledScene]) -> tuple[str, ...]:
    """Make the ground unknown on which two scenes' labels differ; returns a note if there is any.

    A pixel is compared with the pixel of the other scene that its centre lies
    in, where both are known. Scenes without CRS have no place to compare.
    """
    placed = [scene for scene in scenes if scene.source.crs is not None]
    shared = contradicted = 0
    worst, names = 0.0, ""
    boxes = [_bounds(scene) for scene in placed]
    for (one, box), (other, another) in combinations(zip(placed, boxes, strict=True), 2):
        if not box.intersects(another):
            continue
        counts = _compare(one, other) + _compare(other, one)
        shared, contradicted = shared + int(counts[0]), contradicted + int(counts[1])
        if counts[0] and counts[1] / counts[0] > worst:
            worst, names = (
                counts[1] / counts[0],
                f"{Path(one.source.path).name} and {Path(other.source.path).name}",
            )
    if not contradicted:
        return ()
    for scene in placed:
        scene.truth[(scene.truth >= DOUBT) & (scene.truth < IGNORE)] = IGNORE
        scene.share_out(scene.sides)
    return (
        f"labels of overlapping scenes contradict each other on {100 * contradicted / shared:.1f} % of their "
        f"common ground, which is treated as unknown; most ({100 * worst:.1f} %) between {names}",
    )


def _bounds(scene: LabelledScene) -> Any:
    """The box around a scene in degrees, a little wider than it is."""
    corners = locate_cell_corners(scene.source)
    ring = np.concatenate([corners[0], corners[-1], corners[:, 0], corners[:, -1]])
    (west, south), (east, north) = ring.min(0), ring.max(0)
    # An edge is no straight line in another CRS; a scene that winds around the Earth is compared with all.
    wide = 0.05 * max(east - west, north - south)
    return shapely.box(west - wide, south - wide, east + wide, north + wide)


def _compare(one: LabelledScene, other: LabelledScene) -> NDArray[np.int64]:
    """Mark the labels of one scene that the other contradicts; pixels that both know, and those marked."""
    forth = _points(one, other)
    window = _common_window(one, other)
    counts = np.zeros(2, np.int64)
    step = max(1, BAND_PIXELS // max(1, window.width))
    for first in range(window.row, window.row + window.height, step):
        end = min(first + step, window.row + window.height)
        rows, cols = np.mgrid[first:end, window.col : window.col + window.width]
        spots = np.floor(forth(np.stack([cols.ravel(), rows.ravel()], axis=1) + 0.5))
        col, row = spots.T
        inside = (row >= 0) & (row < other.shape[0]) & (col >= 0) & (col < other.shape[1])
        theirs: NDArray[np.uint8] = np.full(len(spots), IGNORE, np.uint8)
        theirs[inside] = _first(other.truth[row[inside].astype(np.int64), col[inside].astype(np.int64)])
        part = one.truth[first:end, window.col : window.col + window.width]
        theirs, ours = theirs.reshape(part.shape), _first(part)
        known = (ours <= 1) & (theirs <= 1)
        wrong = known & (ours != theirs)
        part[wrong] = ours[wrong] + DOUBT
        counts += (known.sum(), wrong.sum())
    return counts


def _first(truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels as they were before any was marked."""
    return np.where((truth >= DOUBT) & (truth < IGNORE), truth - np.uint8(DOUBT), truth)


def _points(one: LabelledScene, other: LabelledScene) -> Callable[[Float64], Float64]:
    """A function from pixel corners ``(N, 2)`` of one scene, column and row, to those of another."""
    first, second = one.source, other.source
    start, end = parse_crs(first.crs), parse_crs(second.crs)
    transformer = None if start == end else Transformer.from_crs(start, end, always_xy=True)

    def forth(points: Float64) -> Float64:
        ground = apply_affine(first.transform, points)
        if transformer is not None:
            ground = np.stack(transformer.transform(ground[:, 0], ground[:, 1]), axis=1)
        return apply_affine(~second.transform, ground)

    return forth


def _common_window(one: LabelledScene, other: LabelledScene) -> Window:
    """The pixels of one scene within the box around the other."""
    height, width = other.shape
    rim = shapely.segmentize(shapely.box(0, 0, width, height).exterior, max(height, width) / RIM_PARTS)
    points = _points(other, one)(shapely.get_coordinates(rim))
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return Window(0, 0, 0, 0)
    (left, top), (right, bottom) = (
        np.floor(points.min(0)).astype(int) - 1,
        np.ceil(points.max(0)).astype(int) + 1,
    )
    rows = max(0, int(top)), min(one.shape[0], int(bottom))
    cols = max(0, int(left)), min(one.shape[1], int(right))
    return Window(rows[0], cols[0], max(0, rows[1] - rows[0]), max(0, cols[1] - cols[0]))
