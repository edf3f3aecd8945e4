"""Take organs that were marked on slices through the volume, both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.blend import LEVELS
from domainsam.infer.objects import EngineResult
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam_ct.alike.answer import Painter
from domainsam_ct.alike.describe import Describer
from domainsam_ct.alike.follow import End, follow
from domainsam_ct.alike.starts import Shown
from domainsam_ct.alike.sweep import learn, read_cells, sweep_alike
from domainsam_ct.model.sweep import SliceRun
from domainsam_ct.read.geometry import axial_grid
from domainsam_ct.read.volume import Volume

MOST_LEARNT = 16
"""Marked slices that are learnt from, spread over all: more cost time and say the same."""


def propagate(volume: Volume, shown: Sequence[Shown], describer: Describer, run: SliceRun) -> EngineResult:
    """Follow every organ from the slices that it was marked on.

    What parts it from its surroundings is learnt on these slices; every slice of the volume is scored by
    it, and what scores above the cut and goes on with the slice before is the organ.

    Parameters
    ----------
    run
        Its ``identity`` is what tells this scan from others.

    Raises
    ------
    InputError
        If the run to go on with was another one.
    OutputError
        If the disk refuses.
    """
    contrasts = [
        learn([read_cells(volume, describer, frame, one.slices[frame]) for frame in spread(one.slices)])
        for one in shown
    ]
    swept, names = sweep_alike(volume, describer, contrasts, run, "propagate")
    grid = axial_grid(volume.grid)
    told = {}
    with Painter(run.folder, swept.shape, swept.frames) as painter:
        for value, (one, name) in enumerate(zip(shown, names, strict=True), start=1):
            with swept.open(name) as staged:
                ends = _follow_one(one, staged, painter, value, volume.spacing)
            told[one.name] = tell_ends(one, ends, grid.to_world)
        making = {"features": describer.name, "propagated": told}
        return painter.finish([one.name for one in shown], swept.resumed, making)


def _follow_one(
    one: Shown, staged: RawRaster, painter: Painter, value: int, spacing: tuple[float, float, float]
) -> tuple[End, End]:
    """Follow an organ through its staged likeness, and paint it."""
    read = make_reader(staged)
    return follow(
        lambda frame: read(frame) / np.float32(LEVELS),
        one.slices,
        staged.frames,
        spacing[::-1],
        lambda frame, mask: painter.paint(frame, value, mask, read(frame)),
    )


def make_reader(staged: RawRaster) -> Callable[[int], NDArray[np.uint8]]:
    """A reader of whole slices that keeps the last few."""

    @lru_cache(maxsize=4)
    def read(frame: int) -> NDArray[np.uint8]:
        return staged.read(Window(0, 0, *staged.shape, frame))

    return read


def spread(frames: Mapping[int, Any], most: int = MOST_LEARNT) -> list[int]:
    """At most so many of some slices, evenly spread."""
    known = sorted(frames)
    chosen = np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int))
    return [known[index] for index in chosen]


def tell_ends(one: Shown, ends: tuple[End, End], to_world: Callable[[Any], Any]) -> dict[str, Any]:
    """Where an organ was marked and where it ends, in slices and in millimetres."""
    below, above = (
        end.document(float(np.ravel(to_world(np.array([[float(end.frame), 0.0, 0.0]])))[2])) for end in ends
    )
    return {"marked_slices": sorted(one.slices), "towards_feet": below, "towards_head": above}
