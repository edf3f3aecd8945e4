"""Ranked objects in the place of an engine's answer, for the writers that take one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.found import FoundObject
from domainsam.infer.objects import EngineResult
from domainsam.infer.store import RawRaster
from domainsam.protocols import Block, SceneObject, Window
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.write.ranked import Layers

PROBABILITY_FILE = "probability.u8"
LABELS_FILE = "labels.u8"
BAND_ROWS = 512


def stage_found(
    source: RasterSource,
    found: Sequence[SceneObject],
    labels: Sequence[str],
    folder: Path,
    told: dict[str, Any],
    seconds: dict[str, float],
    smaller_first: bool = False,
) -> EngineResult:
    """Objects as the engine answers: every pixel has the score of the object that has it, or 0.

    Parameters
    ----------
    found
        The best first.
    labels
        What they may be called; with several, every pixel also has the number of its object's label.
    smaller_first
        As of :class:`~domainsam_urban.write.ranked.Layers`.

    Raises
    ------
    OutputError
        If the folder cannot be written or the disk is full.
    """
    shape = source.grid.frame_shape
    valid = inside = 0
    path, layers = folder / PROBABILITY_FILE, Layers(found, smaller_first)
    scores = np.array([0.0, *(one.score for one in found)])
    stored = np.rint(np.clip(scores, 1 / LEVELS, 1.0) * LEVELS).astype(np.uint8)
    stored[0] = 0
    numbers = np.array([0, *(labels.index(one.label) + 1 if one.label in labels else 1 for one in found)])
    several = folder / LABELS_FILE if len(labels) > 1 else None
    with ExitStack() as stack:
        raster = stack.enter_context(RawRaster.create(path, shape))
        named = None if several is None else stack.enter_context(RawRaster.create(several, shape))
        for row in range(0, shape[0], BAND_ROWS):
            window = Window(row, 0, min(BAND_ROWS, shape[0] - row), shape[1])
            block: Block = source.read(window)
            ranks = layers.paint(window)
            values = np.where(block.valid, stored[ranks], np.uint8(NODATA))
            raster.write(window, values)
            if named is not None:
                named.write(window, np.where(block.valid, numbers[ranks].astype(np.uint8), np.uint8(NODATA)))
            valid += int(block.valid.sum())
            inside += int(((ranks > 0) & block.valid).sum())
    return EngineResult(
        coarse=path,
        probability=path,
        shape=shape,
        level=1,
        components=(),
        found=len(found),
        pixels=shape[0] * shape[1],
        valid_pixels=valid,
        object_pixels=inside,
        crops=0,
        resumed=False,
        seconds=seconds,
        names=tuple(labels),
        labels=several,
        kept=len(found),
        objects=tuple(FoundObject(one.label or labels[0], one.score, one.bounds) for one in found),
        told=told,
        ranked=tuple(found),
    )
