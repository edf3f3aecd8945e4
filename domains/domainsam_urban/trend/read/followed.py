"""Outlines of one year found again in another: what looks like them, where they lay and around it."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.errors import InputError
from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.networks import Networks
from domainsam.infer.store import RawRaster
from domainsam.infer.view import SceneView
from domainsam.io.cog import CogLayout, write_cog
from domainsam.io.marks import read_marks
from domainsam.machine import Precision
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.dense import CELL, DenseTarget, average_cells, learn_dense, map_odds, smooth_odds
from domainsam.protocols import Foundation, SceneObject, View, Window
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.trend.read.scenes import Reading

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
AROUND = 2.0
"""Beyond reach so many times it is looked at as well, for what the surroundings look like."""


@dataclass(frozen=True, eq=False)
class Follower:
    """What outlines look like in the year that they were drawn in, ready to be found in others.

    Parameters
    ----------
    outlines
        File of the outlines.
    reach_m
        How far from its outline an object may reach in another year.
    foundation, precision
        Whose features are compared.
    target
        What was learnt.
    mean, spread
        Of the log-odds around the outlines in the year that was learnt from: another year's are brought to
        the same, since light, season and sensor move all of them together.
    """

    outlines: Path
    reach_m: float | None
    foundation: Foundation
    precision: Precision
    target: DenseTarget
    mean: float
    spread: float

    # A year's own pixel is what is looked at: there is no resolution that was learnt.
    resolution: float | None = None

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
            view = make_view(source, self.foundation, self.precision)
            outlines = draw_outlines(self.outlines, source)
            odds = read_odds(view, self.target, outlines, self._reach(source, outlines), self.foundation)
            seen = np.isfinite(odds)
            if seen.any():
                scale = self.spread / max(1e-6, float(odds[seen].std()))
                odds[seen] = (odds[seen] - odds[seen].mean()) * scale + self.mean
            probability = keep_reached(smooth_odds(odds), outlines, self._reach(source, outlines))
            with RawRaster.create(folder / "followed.u8", source.grid.frame_shape) as staged:
                stage(probability, source, staged, progress)
                layout = CogLayout("probability", source.transform, source.work_crs, 0.5)
                write_cog(staged, target, layout)
        shutil.rmtree(folder)

    def _reach(self, source: RasterSource, outlines: list[SceneObject]) -> list[float]:
        """How far each object may reach, in cells."""
        return [find_reach(one, source, self.reach_m) for one in outlines]


def learn_follower(
    path: str,
    reading: Reading,
    outlines: Path,
    reach_m: float | None,
    foundation: Foundation,
    precision: Precision,
) -> Follower:
    """Learn what outlines look like in the scene that they were drawn in.

    Raises
    ------
    MissingInputError, InputError
        If scene or outlines cannot be read, an outline lies outside of the scene, where it has no data, or
        covers everything.
    """
    with reading.open(path) as source:
        view = make_view(source, foundation, precision)
        drawn = draw_outlines(outlines, source)
        try:
            target = learn_dense([(view, one) for one in drawn], foundation)
        except InputError as error:
            raise InputError(f"{outlines.name}: {error}") from error
        reach = [find_reach(one, source, reach_m) for one in drawn]
        odds = read_odds(view, target, drawn, reach, foundation)
        seen = odds[np.isfinite(odds)]
        mean, spread = float(seen.mean()), float(seen.std())
    return Follower(outlines, reach_m, foundation, precision, target, mean, spread)


def make_view(source: RasterSource, foundation: Foundation, precision: Precision) -> SceneView:
    """A scene as the foundation sees it."""
    return SceneView(source, Networks(foundation, torch.device(foundation.device), precision), foundation)


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


def read_odds(
    view: View,
    target: DenseTarget,
    outlines: list[SceneObject],
    reach: list[float],
    foundation: Foundation,
) -> Float32:
    """Log-odds ``(h/4, w/4)`` of cells on outlines and around them; -inf elsewhere and without data."""
    boxes = [
        _widen(one.bounds, math.ceil((1 + AROUND) * cells) * CELL)
        for one, cells in zip(outlines, reach, strict=True)
    ]

    def wanted(window: Window) -> bool:
        return any(_meet(window, box) for box in boxes)

    odds = map_odds(view, target.contrast, foundation.image_size, wanted=wanted)
    near = np.zeros(odds.shape, bool)
    for box in boxes:
        near[max(0, box.row // CELL) : -(-(box.row + box.height) // CELL)][
            :, max(0, box.col // CELL) : -(-(box.col + box.width) // CELL)
        ] = True
    odds[~near] = -np.inf
    return odds


def _widen(bounds: Window, by: int) -> Window:
    return Window(
        bounds.row - by, bounds.col - by, bounds.height + 2 * by, bounds.width + 2 * by, bounds.frame
    )


def _meet(one: Window, other: Window) -> bool:
    return (
        one.row < other.row + other.height
        and other.row < one.row + one.height
        and one.col < other.col + other.width
        and other.col < one.col + one.width
    )


def keep_reached(probability: Float32, outlines: list[SceneObject], reach: list[float]) -> Float32:
    """The same, 0 but for parts above a half that lie on an outline, as far as they may reach."""
    kept = np.zeros(probability.shape, bool)
    for one, cells in zip(outlines, reach, strict=True):
        assert one.mask is not None
        edge = math.ceil(cells) + 1
        bounds = one.bounds
        rows = slice(max(0, bounds.row // CELL - edge), (bounds.row + bounds.height) // CELL + edge + 1)
        cols = slice(max(0, bounds.col // CELL - edge), (bounds.col + bounds.width) // CELL + edge + 1)
        place = np.zeros_like(probability[rows, cols], dtype=bool)
        share = _share(one, (rows, cols), probability.shape)
        near = ndimage.distance_transform_edt(share < 0.5) <= cells if (share >= 0.5).any() else share > 0
        alike = (probability[rows, cols] > 0.5) & near
        parts, _ = ndimage.label(alike, np.ones((3, 3), int))
        touched = np.unique(parts[(share > 0) & alike])
        place |= np.isin(parts, touched[touched > 0])
        kept[rows, cols] |= place
    return np.where(kept, probability, 0).astype(np.float32)


def _share(one: SceneObject, place: tuple[slice, slice], shape: tuple[int, ...]) -> Float32:
    """Share of some cells that an outline covers."""
    assert one.mask is not None
    rows, cols = place
    height = (min(rows.stop, shape[0]) - rows.start) * CELL
    width = (min(cols.stop, shape[1]) - cols.start) * CELL
    mask = np.zeros((height, width), np.float32)
    top, left = one.bounds.row - rows.start * CELL, one.bounds.col - cols.start * CELL
    part = one.mask[: height - top, : width - left]
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return average_cells(mask)


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
