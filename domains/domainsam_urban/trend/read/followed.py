"""Outlines of one year found again in another: what lies there now that the surroundings are not."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.errors import InputError
from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.components import EIGHT
from domainsam.infer.networks import Networks
from domainsam.infer.store import RawRaster
from domainsam.infer.view import SceneView
from domainsam.io.cog import CogLayout, write_cog
from domainsam.io.marks import read_marks
from domainsam.machine import Precision
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.contrast import Contrast, learn_contrast
from domainsam.prompter.dense import CELL, average_cells, look, meets, smooth_odds
from domainsam.prompter.descriptors import lay_windows, measure_centrality
from domainsam.protocols import Foundation, SceneObject, View, Window
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.trend.read.scenes import Reading

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
AROUND = 1.5
"""Surroundings begin where an object may not reach, and are so many times as wide as that."""
LEAST_GAP = 0.4
"""Mean probability of what is found less that of its surroundings. On noise that nothing parts it is 0.15 to
0.25, for the cells above a half are chosen by it; on objects that are there 0.6 and more."""
LEVELS_TRIED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEAST_SAME = 0.2
"""Cosine of how an object differs from its surroundings with how it did in the year that it was drawn in.
Light, season and sensor move both together; what has become something else differs in another way."""


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


@dataclass(frozen=True, eq=False)
class Follower:
    """Outlines, ready to be found in any year.

    Parameters
    ----------
    outlines
        File of the outlines.
    reach_m
        How far from its outline an object may reach in another year.
    foundation, precision
        Whose features are compared.
    differed
        How every outline differed from its surroundings in the year that it was drawn in, ``(C,)``.
    level
        Where edges lie between surroundings and middle, as they were drawn; see :func:`find_again`.
    """

    outlines: Path
    reach_m: float | None
    foundation: Foundation
    precision: Precision
    differed: tuple[Float32, ...]
    level: float = 0.5

    def follow_year(
        self, path: str, reading: Reading, target: Path, progress: Progress = report_nothing
    ) -> None:
        """Write a year's probability on its work grid, 0 wherever no outline reaches.

        Raises
        ------
        InputError
            If the scene cannot be read.
        OutputError
            If the folder cannot be written or the disk is full.
        """
        folder = target.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        with reading.open(path) as source:
            regions = read_regions(self.outlines, source, self.reach_m, self.foundation, self.precision)
            height, width = (-(-side // CELL) for side in source.grid.frame_shape)
            probability = np.zeros((height, width), np.float32)
            again = find_again(regions, learn_edges(regions), self.level)
            for region, found, differed in zip(regions, again, self.differed, strict=True):
                if is_there(region, found, differed):
                    _lay(probability, region.corner, found.probability)
            with RawRaster.create(folder / "followed.u8", source.grid.frame_shape) as staged:
                stage(probability, source, staged, progress)
                layout = CogLayout("probability", source.transform, source.work_crs, 0.5)
                write_cog(staged, target, layout)
        shutil.rmtree(folder)


def learn_follower(
    path: str,
    reading: Reading,
    outlines: Path,
    reach_m: float | None,
    foundation: Foundation,
    precision: Precision,
) -> Follower:
    """See how outlines differ from their surroundings in the scene that they were drawn in.

    Raises
    ------
    MissingInputError, InputError
        If scene or outlines cannot be read, an outline lies outside of the scene, where it has no data, or
        leaves nothing around it.
    """
    with reading.open(path) as source:
        regions = read_regions(outlines, source, reach_m, foundation, precision)
    for number, region in enumerate(regions, start=1):
        if not (region.seen & (region.share > 0)).any():
            raise InputError(f"{outlines}: feature {number} lies where {Path(path).name} has no data")
        if not region.around.any():
            raise InputError(
                f"{outlines}: feature {number} leaves nothing around it in {Path(path).name}: draw an object "
                "smaller than the scene, or give a smaller --reach"
            )
    edges = learn_edges(regions)
    level = find_level(regions, edges)
    differed = []
    for region, found in zip(regions, find_again(regions, edges, level), strict=True):
        # What is drawn counts where nothing of it is found again in its own year.
        inside = found.inside if found.inside.any() else region.seen & (region.share > 0)
        differed.append(tell_apart(region, inside))
    return Follower(outlines, reach_m, foundation, precision, tuple(differed), level)


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
    return regions


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


@dataclass(frozen=True, eq=False)
class Again:
    """What was found in a region.

    ``probability`` is ``(h, w)``, 0 outside; ``gap`` is its mean less that of the surroundings.
    """

    probability: Float32
    gap: float

    @property
    def inside(self) -> Mask:
        """Cells that were found."""
        return np.asarray(self.probability > 0)

    @property
    def core(self) -> Float32:
        """1 at cells that were found and are not at the edge, or of a small object at all of its cells."""
        inner = ndimage.binary_erosion(self.inside)
        return (inner if inner.any() else self.inside).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Edges:
    """What parts all outlines from their surroundings in one year, and what was found before it was learnt.

    ``first`` is of every region; ``contrast`` is None where nothing was found, else ``around`` and ``within``
    are its mean log-odds of the surroundings and of the middle.
    """

    first: tuple[Again, ...]
    contrast: Contrast | None = None
    around: float = 0.0
    within: float = 0.0


def learn_edges(regions: Sequence[Region]) -> Edges:
    """What parts outlines from their surroundings in one year.

    What parts outlines from their surroundings is learnt anew in every year, all outlines together: cells
    of an outline that look like the surroundings now weigh less than the surroundings and fall out. It is
    learnt once more from the middle of what that finds, since an outline that fits no more blurs its edge.
    Whether anything stands out is judged by the first.
    """
    if not regions:
        return Edges(())
    contrast = learn_year(regions)
    first = tuple(keep_reached(region, contrast) for region in regions)
    if not any(found.inside.any() for found in first):
        return Edges(first)
    sure = [replace(region, share=found.core) for region, found in zip(regions, first, strict=True)]
    contrast = learn_year(sure)
    within, around = (
        float(np.mean(np.concatenate([contrast.score(one.features)[cells(one)] for one in sure])))
        for cells in (lambda one: one.seen & (one.share > 0), lambda one: one.around)
    )
    return Edges(first, contrast, around, within)


def find_again(regions: Sequence[Region], edges: Edges, level: float) -> list[Again]:
    """What goes on in every region.

    Parameters
    ----------
    edges
        As of :func:`learn_edges` of the same regions.
    level
        Where the edge lies between the surroundings' mean log-odds, 0, and those of the middle, 1.
    """
    if edges.contrast is None:
        return list(edges.first)
    moved = edges.contrast.shifted(edges.around + level * (edges.within - edges.around))
    second = [keep_reached(region, moved) for region in regions]
    return [
        replace(found, gap=min(found.gap, before.gap))
        for found, before in zip(second, edges.first, strict=True)
    ]


def find_level(regions: Sequence[Region], edges: Edges) -> float:
    """The level at which what is found agrees best (Dice) with what was drawn."""
    drawn = sum(float(region.share.sum()) for region in regions)
    agreed = []
    for level in LEVELS_TRIED:
        found = find_again(regions, edges, level)
        shared = sum(
            float(region.share[one.inside].sum()) for region, one in zip(regions, found, strict=True)
        )
        agreed.append(2 * shared / (drawn + sum(int(one.inside.sum()) for one in found)))
    return LEVELS_TRIED[int(np.argmax(agreed))]


def learn_year(regions: Sequence[Region]) -> Contrast:
    """What parts outlines from their surroundings in one year."""
    return learn_contrast(
        np.concatenate([region.features[:, region.learnt_from].T for region in regions]),
        np.concatenate([region.share[region.learnt_from] for region in regions]),
    )


def keep_reached(region: Region, contrast: Contrast) -> Again:
    """Parts of a region above a half that lie on the outline, as far as they may reach."""
    odds = np.where(region.seen, contrast.score(region.features), -np.inf).astype(np.float32)
    probability = smooth_odds(odds)
    alike = (probability > 0.5) & (region.away <= region.reach)
    kept = ndimage.binary_propagation((region.share > 0) & alike, EIGHT, mask=alike)
    gap = 0.0
    if kept.any() and region.around.any():
        gap = float(probability[kept].mean() - probability[region.around].mean())
    return Again(np.where(kept, probability, 0).astype(np.float32), gap)


def tell_apart(region: Region, inside: Mask) -> Float32:
    """How some cells differ from the surroundings: the difference of mean features, ``(C,)``, of length 1."""
    apart = region.features[:, inside].mean(axis=1) - region.features[:, region.around].mean(axis=1)
    length = float(np.linalg.norm(apart))
    return (apart / length if length else apart).astype(np.float32)


def is_there(region: Region, found: Again, differed: Float32) -> bool:
    """Whether what was found in a year is the object: it stands out, and in the way that it did."""
    if not found.inside.any() or not region.around.any():
        return False
    same = float(tell_apart(region, found.inside) @ differed)
    return same >= LEAST_SAME and found.gap >= LEAST_GAP


def _lay(probability: Float32, corner: tuple[int, int], found: Float32) -> None:
    """Lay a region's probability into the scene's; the larger one wins."""
    place = probability[corner[0] : corner[0] + found.shape[0], corner[1] : corner[1] + found.shape[1]]
    np.maximum(place, found, out=place)


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


def stage(probability: Float32, source: RasterSource, staged: RawRaster, progress: Progress) -> None:
    """Write probabilities of cells ``(h/4, w/4)`` as bytes of pixels, 255 without data, band by band."""
    rows, cols = source.grid.frame_shape
    step = 512
    for row in range(0, rows, step):
        window = Window(row, 0, min(step, rows - row), cols)
        first, last = row // CELL, min(probability.shape[0], (row + window.height) // CELL + 2)
        part = torch.from_numpy(probability[max(0, first - 1) : last])[None, None]
        size = part.shape[2] * CELL, part.shape[3] * CELL
        large = torch.nn.functional.interpolate(part, size, mode="bilinear", align_corners=False)[0, 0]
        above = row - max(0, first - 1) * CELL
        values = large[above : above + window.height, :cols].numpy()
        valid = source.read(window).valid
        staged.write(window, np.where(valid, np.rint(values * LEVELS), NODATA).astype(np.uint8))
        progress("follow", min(rows, row + step) * cols, rows * cols)
