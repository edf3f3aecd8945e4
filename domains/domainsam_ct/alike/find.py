"""Find in a scan the organs that were shown in another."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.infer.blend import LEVELS
from domainsam.infer.objects import EngineResult
from domainsam.infer.store import RawRaster
from domainsam.prompter.contrast import Contrast
from domainsam.protocols import Window
from domainsam_ct.alike.answer import Painter
from domainsam_ct.alike.describe import Describer
from domainsam_ct.alike.propagate import make_reader, spread
from domainsam_ct.alike.starts import Shown
from domainsam_ct.alike.sweep import HALF, Cells, learn_calibrated, read_cells, sweep_alike
from domainsam_ct.measure.cleanup import CleanUp, clean_up
from domainsam_ct.model.sweep import SliceRun
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.read.volume import Volume

log = logging.getLogger(__name__)

BESIDE = 8
"""Slices without the organ that are learnt from as well, spread over all there are."""
LEAST_SHARE = 0.05
"""What has less than this share of the example's volume is no such organ: a chance likeness."""
LEAST_PROBABILITY = 0.6
"""Mean probability of the voxels that are found; below it they hardly look more like the organ than not."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was learnt of a shown organ.

    ``dice`` is that of cells of slices that were left out of the learning, NaN where there is one slice
    alone; ``millilitres`` is the volume that was shown.
    """

    name: str
    contrast: Contrast
    dice: float
    millilitres: float


def learn_shown(volume: Volume, shown: Sequence[Shown], describer: Describer) -> tuple[Learnt, ...]:
    """Learn what organs look like from the scan that they were shown in; whole slices count.

    Raises
    ------
    InputError
        If nothing in the scan is outside of an organ.
    """
    voxel_ml = math.prod(volume.spacing) / 1000
    learnt = []
    for one in shown:
        contrast, dice = learn_calibrated(_read_all(volume, one, describer))
        learnt.append(Learnt(one.name, contrast, dice, one.voxels * voxel_ml))
    return tuple(learnt)


def _read_all(volume: Volume, one: Shown, describer: Describer) -> list[Cells]:
    """Cells of slices with the organ and, where it was marked on several, of some without."""
    frames = spread(one.slices)
    empty = np.zeros_like(next(iter(one.slices.values())))
    others: list[int] = []
    if len(one.slices) > 1:
        # A slice on its own says nothing of those beside it: the organ may go on there unmarked.
        others = spread({frame: None for frame in range(volume.shape[2]) if frame not in one.slices}, BESIDE)
    return [
        read_cells(volume, describer, frame, one.slices.get(frame, empty), around_mm=None)
        for frame in sorted((*frames, *others))
    ]


def find(volume: Volume, learnt: Sequence[Learnt], describer: Describer, run: SliceRun) -> EngineResult:
    """Find every organ in a scan: all slices are scored, and the largest part that scores is the organ.

    An organ that is not found is told, and is no error.

    Parameters, errors as of :func:`domainsam_ct.alike.propagate.propagate`.
    """
    swept, names = sweep_alike(volume, describer, [one.contrast for one in learnt], run, "find")
    voxel_ml = math.prod(volume.spacing) / 1000
    told: dict[str, Mapping[str, Any]] = {}
    with Painter(run.folder, swept.shape, swept.frames) as painter:
        for value, (one, name) in enumerate(zip(learnt, names, strict=True), start=1):
            with (
                swept.open(name) as staged,
                _keep_largest(staged, run.folder / f"largest-{value}.u8", volume) as mask,
            ):
                told[one.name] = _paint(mask, staged, painter, value, one, voxel_ml)
        making = {"features": describer.name, "like": told}
        return painter.finish([one.name for one in learnt], swept.resumed, making)


def _keep_largest(staged: RawRaster, path: Path, volume: Volume) -> StagedVolume:
    """Voxels above the cut, of the largest part alone and without cavities."""
    rows, columns = staged.shape
    mask = RawRaster.create(path, staged.shape, staged.frames)
    certain = RawRaster.create(path.with_suffix(".certain"), staged.shape, staged.frames)
    for frame in range(staged.frames):
        window = Window(0, 0, rows, columns, frame)
        stored = staged.read(window)
        mask.write(window, (stored > HALF).astype(np.uint8))
        certain.write(window, np.where(stored > HALF, stored, 0).astype(np.uint8))
    found = StagedVolume(mask)
    with StagedVolume(certain) as sure:
        # What is found besides is some other organ of the same tissue, however large and near.
        rule = CleanUp(
            frozenset({1}), frozenset({1}), keep_share=1.0, keep_within_mm=0.0, keep_confidence=0.0
        )
        clean_up(found, rule, volume.spacing, sure)
    return found


def _paint(
    mask: StagedVolume, staged: RawRaster, painter: Painter, value: int, one: Learnt, voxel_ml: float
) -> dict[str, Any]:
    """Paint what was found if it is an organ's, and tell of it."""
    read = make_reader(staged)
    rows, columns = staged.shape
    voxels, total = 0, 0.0
    slices = RawRaster.open(mask.path, staged.shape, staged.frames)
    with slices:
        for frame in range(staged.frames):
            inside = slices.read(Window(0, 0, rows, columns, frame)) > 0
            voxels += int(inside.sum())
            total += float(read(frame)[inside].sum())
        mean = total / max(1, voxels) / LEVELS
        likely = voxels * voxel_ml >= LEAST_SHARE * one.millilitres and mean >= LEAST_PROBABILITY
        if likely:
            for frame in range(staged.frames):
                inside = slices.read(Window(0, 0, rows, columns, frame)) > 0
                if inside.any():
                    painter.paint(frame, value, inside, read(frame))
    if not likely:
        log.warning("%s: not found, nothing in the scan looks enough like what was shown", one.name)
    return {
        "found": likely,
        "millilitres_shown": round(one.millilitres, 2),
        "score": round(mean, 3) if likely else None,
        "dice_on_the_example": None if math.isnan(one.dice) else round(one.dice, 3),
    }
