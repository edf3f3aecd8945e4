"""Labelled scenes for training: labels burnt once, windows read by any thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from domainsam.errors import InputError
from domainsam.protocols import Window
from domainsam.train.augment import Sample
from domainsam.train.losses import IGNORE
from domainsam.train.split import METRES_PER_DEGREE, BlockKey, count_blocks
from domainsam_urban.evaluate.evaluate import open_labels
from domainsam_urban.read.geodesy import parse_crs
from domainsam_urban.read.layers import ALL, Choice
from domainsam_urban.read.place import Place
from domainsam_urban.read.scene import RasterSource

CELL = 8
"""Pixels along a cell, the grain in which ground is shared out between training and validation."""
BAND_PIXELS = 1 << 22
"""Pixels staged at a time."""
LEARNT, JUDGED, NEITHER = 0, 1, 2
"""Whose ground a cell is: training's, validation's, or the buffer's between them."""

Ground = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
"""Whether each position ``(..., 2)``, degrees lon and lat, belongs to something."""


@dataclass(eq=False)
class LabelledScene:
    """A scene on its work grid with its truth; a :class:`domainsam.train.crops.SampleSource`.

    Parameters
    ----------
    name
        For messages.
    source
        Reads the image.
    truth
        ``(H, W)`` uint8: 1 settlement, 0 not, 255 unknown or without image.
    ratio
        Pixels of this work grid along one pixel of the model's resolution.
    sides
        ``(H / 8, W / 8)`` uint8, rounded up: :data:`LEARNT`, :data:`JUDGED` or :data:`NEITHER`.
    notes
        What was mended or assumed in reading the labels.
    """

    name: str
    source: RasterSource
    truth: NDArray[np.uint8]
    ratio: float
    sides: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.shape = (int(self.truth.shape[0]), int(self.truth.shape[1]))
        self.share_out(self.sides)

    def share_out(self, sides: NDArray[np.uint8]) -> None:
        """Say anew which ground is whose."""
        self.sides = sides
        rows, cols = (length // CELL * CELL for length in self.shape)
        grid = self.truth[:rows, :cols].reshape(rows // CELL, CELL, cols // CELL, CELL)
        own = sides[: rows // CELL, : cols // CELL] == LEARNT
        settled = (grid == 1).any(axis=(1, 3)) & own
        self.anchors = np.argwhere(settled) * CELL + CELL // 2
        self.weight = float(((grid != IGNORE).any(axis=(1, 3)) & own).sum()) / self.ratio**2

    def sample(self, window: Window) -> Sample:
        """What training may see of a window inside the scene: the rest is hidden."""
        block = self.source.read(window)
        seen = block.valid & (self._side(window) == LEARNT)
        labels = np.where(seen, self.truth[window.slices], np.uint8(IGNORE))
        return Sample(block.image * seen, labels, seen)

    def judged(self, window: Window) -> Sample:
        """All of a window's image, with labels on validation's ground alone; it may overhang the scene."""
        block = self.source.read(window)
        labels = np.full((window.height, window.width), IGNORE, np.uint8)
        rows, cols = self.shape
        inner = Window(
            window.row,
            window.col,
            min(window.height, rows - window.row),
            min(window.width, cols - window.col),
        )
        truth = np.where(self._side(inner) == JUDGED, self.truth[inner.slices], np.uint8(IGNORE))
        labels[: inner.height, : inner.width] = truth
        return Sample(block.image, np.where(block.valid, labels, np.uint8(IGNORE)), block.valid)

    def _side(self, window: Window) -> NDArray[np.uint8]:
        rows = np.arange(window.row, window.row + window.height) // CELL
        cols = np.arange(window.col, window.col + window.width) // CELL
        return np.asarray(self.sides[np.ix_(rows, cols)])

    def close(self) -> None:
        """Close the scene's files."""
        self.source.close()


def stage_scene(
    source: RasterSource,
    labels: Path,
    folder: Path,
    name: str,
    ratio: float,
    choice: Choice = ALL,
    must_touch: bool = True,
) -> LabelledScene:
    """Burn a scene's labels into a file on its work grid, once, and open both for training.

    Parameters
    ----------
    source
        The scene; the result closes it.
    labels
        Polygons in any CRS, or a mask raster.
    folder
        Existing folder for the staged truth, a byte a pixel; the file goes with the folder.
    name
        Name of the staged file, and for messages.
    ratio
        See :class:`LabelledScene`.
    choice, must_touch
        See :func:`domainsam_urban.evaluate.evaluate.open_labels`.

    Raises
    ------
    InputError
        If labels cannot be laid on the scene, or say nothing about it.
    """
    rows, cols = source.grid.shape
    place = Place((rows, cols), source.transform, source.crs)
    truth = np.memmap(folder / f"{name}.truth", np.uint8, "w+", shape=(rows, cols))
    step = max(CELL, BAND_PIXELS // cols)
    with open_labels(labels, place, choice, must_touch) as layer:
        for row in range(0, rows, step):
            window = Window(row, 0, min(step, rows - row), cols)
            truth[window.slices] = np.where(
                source.read(window).valid, np.minimum(layer.labels(window), IGNORE), np.uint8(IGNORE)
            )
        notes = layer.notes
    if not (truth != IGNORE).any():
        raise InputError(
            f"labels '{labels.name}' know nothing about scene '{source.path}': check their nodata value"
        )
    sides = np.full((-(-rows // CELL), -(-cols // CELL)), LEARNT, np.uint8)
    return LabelledScene(name, source, truth, ratio, sides, notes)


def locate_cell_corners(source: RasterSource) -> NDArray[np.float64]:
    """Degrees lon and lat of all corners of a scene's cells, ``(rows + 1, columns + 1, 2)``.

    Raises
    ------
    InputError
        If the scene has no CRS.
    """
    if source.crs is None:
        raise InputError(
            f"scene '{source.path}' has no CRS, so its ground cannot be split into blocks: "
            "give scenes for validation with --val"
        )
    rows, cols = (-(-length // CELL) for length in source.grid.shape)
    row, col = np.mgrid[: rows + 1, : cols + 1] * float(CELL)
    affine = source.transform
    x, y = affine.a * col + affine.b * row + affine.c, affine.d * col + affine.e * row + affine.f
    # One datum for all scenes, for blocks must be the same ground in each of them.
    to_degrees = Transformer.from_crs(parse_crs(source.crs), "EPSG:4326", always_xy=True)
    return np.stack(to_degrees.transform(x, y), axis=-1)


def count_scene(scene: LabelledScene, size_m: float) -> dict[BlockKey, NDArray[np.int64]]:
    """Known and settled cells of every block of ground, by the labels of the cells' first pixels."""
    corners = locate_cell_corners(scene.source)[:-1, :-1]
    return count_blocks(corners.reshape(-1, 2), np.asarray(scene.truth[::CELL, ::CELL]).ravel(), size_m)


def assign_sides(scene: LabelledScene, learnt: Ground, judged: Ground) -> NDArray[np.uint8]:
    """Whose ground each cell is: a side's only if all four corners are."""
    corners = locate_cell_corners(scene.source)

    def whole(member: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return member[:-1, :-1] & member[1:, :-1] & member[:-1, 1:] & member[1:, 1:]

    sides = np.full((corners.shape[0] - 1, corners.shape[1] - 1), NEITHER, np.uint8)
    sides[whole(learnt(corners))] = LEARNT
    sides[whole(judged(corners))] = JUDGED
    return sides


def find_outside(scenes: Sequence[LabelledScene], buffer_m: float) -> Ground:
    """Ground that none of some scenes shows, nor lies within ``buffer_m`` of them."""
    rims = []
    for scene in scenes:
        corners = locate_cell_corners(scene.source)
        ring = np.concatenate([corners[0], corners[1:, -1], corners[-1, -2::-1], corners[-2:0:-1, 0]])
        outline = shapely.Polygon(ring)
        # Degrees of longitude are shorter than those of latitude, so this reaches at least far enough.
        stretch = np.cos(np.deg2rad(min(89.0, float(np.abs(ring[:, 1]).max()))))
        rims.append(outline.buffer(buffer_m / METRES_PER_DEGREE / stretch))
    covered = shapely.union_all(rims)
    shapely.prepare(covered)
    return lambda lon_lat: ~shapely.intersects_xy(covered, lon_lat[..., 0], lon_lat[..., 1])
