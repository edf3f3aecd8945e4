"""Outlines of one year found again in another: what lies there now that the surroundings are not."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from domainsam.errors import InputError
from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.store import RawRaster
from domainsam.io.cog import CogLayout, write_cog
from domainsam.machine import Precision
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.dense import CELL
from domainsam.protocols import Foundation, Window
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.trend.read.again import find_groups, find_level, is_there, learn_groups, tell_apart
from domainsam_urban.trend.read.regions import Float32, Region, read_regions
from domainsam_urban.trend.read.scenes import Reading


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
    years
        Scenes in the order of time, each with how it is read.
    start
        Index of the year that the outlines were drawn in.
    differed
        How every outline differed from its surroundings in that year, ``(C,)``.
    level
        Where edges lie between surroundings and middle, as they were drawn; see
        :func:`domainsam_urban.trend.read.again.find_again`.
    """

    outlines: Path
    reach_m: float | None
    foundation: Foundation
    precision: Precision
    years: tuple[tuple[str, Reading], ...]
    start: int
    differed: tuple[Float32, ...]
    level: float = 0.5
    _last: dict[int, tuple[Float32, ...]] = field(default_factory=dict, init=False, repr=False)
    """By year, how every outline differed when it was last seen on the way there."""

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
        index = [known for known, _ in self.years].index(path)
        before = self._look_back(index)
        with reading.open(path) as source:
            regions, there = self._find(source, before)
            self._note(index, regions, there, before)
            height, width = (-(-side // CELL) for side in source.grid.frame_shape)
            probability = np.zeros((height, width), np.float32)
            for region, found in zip(regions, there, strict=True):
                if found is not None:
                    # Where two meet, the larger wins.
                    np.maximum(probability[region.place], found, out=probability[region.place])
            with RawRaster.create(folder / "followed.u8", source.grid.frame_shape) as staged:
                stage(probability, source, staged, progress)
                layout = CogLayout("probability", source.transform, source.work_crs, 0.5)
                write_cog(staged, target, layout)
        shutil.rmtree(folder)

    def _find(
        self, source: RasterSource, before: Sequence[Float32]
    ) -> tuple[list[Region], list[Float32 | None]]:
        """Regions of a scene, and what goes on in each, None where the object is not there."""
        regions = read_regions(self.outlines, source, self.reach_m, self.foundation, self.precision)
        again = find_groups(regions, learn_groups(regions), self.level)
        there: list[Float32 | None] = []
        for region, found, drawn, last in zip(regions, again, self.differed, before, strict=True):
            there.append(found.probability if is_there(region, found, drawn, last) else None)
        return regions, there

    def _look_back(self, index: int) -> tuple[Float32, ...]:
        """How every outline differed when it was last seen before a year, coming from where it was drawn.

        A lake that is clear in one year and green in another is the same if it changed from year to year.
        Years on the way are looked at again where this is a run that goes on.
        """
        if index == self.start:
            return self.differed
        if index not in self._last:
            previous = index - 1 if index > self.start else index + 1
            before = self._look_back(previous)
            path, reading = self.years[previous]
            if previous == self.start:
                return before
            with reading.open(path) as source:
                self._note(previous, *self._find(source, before), before)
        return self._last[index]

    def _note(
        self,
        index: int,
        regions: Sequence[Region],
        there: Sequence[Float32 | None],
        before: Sequence[Float32],
    ) -> None:
        """Note how outlines differ in a year for the next one away from where they were drawn."""
        if index != self.start:
            self._last[index + 1 if index > self.start else index - 1] = tuple(
                last if found is None else tell_apart(region, found > 0)
                for region, found, last in zip(regions, there, before, strict=True)
            )


def learn_follower(
    years: Sequence[tuple[str, Reading]],
    start: int,
    outlines: Path,
    reach_m: float | None,
    foundation: Foundation,
    precision: Precision,
) -> Follower:
    """See how outlines differ from their surroundings in the scene that they were drawn in.

    Parameters
    ----------
    years
        Scenes in the order of time, each with how it is read.
    start
        Which of them the outlines were drawn in.

    Raises
    ------
    MissingInputError, InputError
        If scene or outlines cannot be read, an outline lies outside of the scene, where it has no data, or
        leaves nothing around it.
    """
    path, reading = years[start]
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
    groups = learn_groups(regions)
    level = find_level(regions, groups)
    differed = []
    for region, found in zip(regions, find_groups(regions, groups, level), strict=True):
        # What is drawn counts where nothing of it is found again in its own year.
        inside = found.inside if found.inside.any() else region.seen & (region.share > 0)
        differed.append(tell_apart(region, inside))
    return Follower(outlines, reach_m, foundation, precision, tuple(years), start, tuple(differed), level)


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
