"""Outlines and what lies around them in one year, as features of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.errors import InputError
from domainsam.infer.networks import Networks
from domainsam.infer.view import SceneView
from domainsam.io.marks import read_marks
from domainsam.machine import Precision
from domainsam.prompter.dense import CELL, average_cells, look, meets
from domainsam.prompter.descriptors import lay_windows, measure_centrality
from domainsam.protocols import Foundation, SceneObject, View, Window
from domainsam_urban.read.scene import RasterSource

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
AROUND = 1.5
"""Surroundings begin where an object may not reach, and are so many times as wide as that."""
BLURRED = 2
"""Cells beside another outline that its edge may have spoilt."""


@dataclass(frozen=True, eq=False)
class Region:
    """An outline and what lies around it in one year, by cells ``(h, w)`` that begin at ``corner``.

    ``reach`` is in cells; ``features`` ``(C, h, w)``; ``share`` is how much of a cell the outline covers.
    """

    corner: tuple[int, int]
    reach: float
    features: Float32
    share: Float32
    seen: Mask

    @property
    def place(self) -> tuple[slice, slice]:
        """Its cells among those of the scene."""
        (row, col), (height, width) = self.corner, self.share.shape
        return slice(row, row + height), slice(col, col + width)

    @cached_property
    def away(self) -> NDArray[np.float64]:
        """Distance from the outline in cells."""
        if not self.share.any():
            return np.full(self.share.shape, np.inf)
        inside = self.share >= min(0.5, float(self.share.max()))
        away: NDArray[np.float64] = ndimage.distance_transform_edt(~inside)
        return away

    @cached_property
    def around(self) -> Mask:
        """Cells of the surroundings, where the object may not reach."""
        return np.asarray(self.seen & (self.away > self.reach))

    @property
    def learnt_from(self) -> Mask:
        """Cells of outline and surroundings; what lies between may have become either."""
        return self.around | (self.seen & (self.share > 0))


def read_regions(
    path: Path, source: RasterSource, reach_m: float | None, foundation: Foundation, precision: Precision
) -> list[Region]:
    """Outlines and what lies around them in a scene, in the order of their file.

    Raises
    ------
    MissingInputError, InputError
        If the file cannot be read, holds points alone, or an outline lies outside.
    """
    view = SceneView(source, Networks(foundation, torch.device(foundation.device), precision), foundation)
    regions = []
    for one in draw_outlines(path, source):
        reach = find_reach(one, source, reach_m)
        regions.append(read_region(view, one, reach, foundation.image_size))
    return without_others(regions)


def without_others(regions: Sequence[Region]) -> list[Region]:
    """Regions that do not see each other's outlines: what is followed too is nobody's surroundings."""
    if not regions:
        return []
    rows, cols = (max(one.corner[axis] + one.share.shape[axis] for one in regions) for axis in (0, 1))
    owners = np.zeros((rows, cols), np.int32)
    for one in regions:
        owners[one.place][one.share > 0] += 1
    cut = []
    for one in regions:
        own = one.share > 0
        others = ndimage.binary_dilation(owners[one.place] > own, iterations=BLURRED)
        cut.append(replace(one, seen=one.seen & (own | ~others)))
    return cut


def read_region(view: View, one: SceneObject, reach: float, side: int) -> Region:
    """An outline's cells and those around it; where windows overlap the more central counts."""
    edge = math.ceil((1 + AROUND) * reach) + 1
    bounds = one.bounds
    rows = (max(0, bounds.row // CELL - edge), -(-(bounds.row + bounds.height) // CELL) + edge)
    cols = (max(0, bounds.col // CELL - edge), -(-(bounds.col + bounds.width) // CELL) + edge)
    rows = rows[0], min(rows[1], -(-view.shape[0] // CELL))
    cols = cols[0], min(cols[1], -(-view.shape[1] // CELL))
    height, width = rows[1] - rows[0], cols[1] - cols[0]
    box = Window(rows[0] * CELL, cols[0] * CELL, height * CELL, width * CELL, bounds.frame)
    features: Float32 | None = None
    weights = np.zeros((height, width), np.float32)
    for window in lay_windows(view.shape, side, bounds.frame):
        if not meets(window, box):
            continue
        part, valid = look(view, window)
        features = np.zeros((len(part), height, width), np.float32) if features is None else features
        there, here = _shared(window, (rows, cols))
        own = np.where(valid, measure_centrality(valid.shape), 0)[here]
        better = own > weights[there]
        features[:, *there][:, better] = part[:, *here][:, better]
        weights[there][better] = own[better]
    assert features is not None
    return Region((rows[0], cols[0]), reach, features, _share(one, (rows, cols)), weights > 0)


Pair = tuple[slice, slice]


def _shared(window: Window, region: tuple[tuple[int, int], tuple[int, int]]) -> tuple[Pair, Pair]:
    """Cells that a window and a region share: among the region's, and among the window's."""
    there, here = [], []
    for start, length, (first, last) in zip(
        (window.row // CELL, window.col // CELL),
        (window.height // CELL, window.width // CELL),
        region,
        strict=True,
    ):
        begin, end = max(start, first), min(start + length, last)
        there.append(slice(begin - first, end - first))
        here.append(slice(begin - start, end - start))
    return (there[0], there[1]), (here[0], here[1])


def _share(one: SceneObject, region: tuple[tuple[int, int], tuple[int, int]]) -> Float32:
    """Share of a region's cells that an outline covers."""
    assert one.mask is not None
    (top, bottom), (left, right) = region
    mask = np.zeros(((bottom - top) * CELL, (right - left) * CELL), np.float32)
    row, col = one.bounds.row - top * CELL, one.bounds.col - left * CELL
    mask[row : row + one.bounds.height, col : col + one.bounds.width] = one.mask
    return average_cells(mask)


def draw_outlines(path: Path, source: RasterSource) -> list[SceneObject]:
    """Outlines as masks in pixels of a scene's work grid.

    Raises
    ------
    InputError
        If the file holds points or boxes alone, or an outline lies outside.
    """
    drawn = []
    for number, one in enumerate(read_marks(path, source.grid), start=1):
        if one.mask is None:
            raise InputError(f"{path}: feature {number} has no outline that holds a pixel; draw polygons")
        drawn.append(one)
    return drawn


def find_reach(one: SceneObject, source: RasterSource, reach_m: float | None) -> float:
    """How far from its outline an object may reach, in cells: as told, else half the diameter of its area."""
    pixel = source.profile_info.work_pixel
    if reach_m is not None and pixel is not None:
        return max(1.0, reach_m / math.sqrt(pixel[0] * pixel[1]) / CELL)
    assert one.mask is not None
    return max(2.0, math.sqrt(float(one.mask.sum()) / math.pi) / CELL)
