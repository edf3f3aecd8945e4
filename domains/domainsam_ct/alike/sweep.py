"""How much every voxel of a volume looks like what was shown, staged slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.blend import LEVELS
from domainsam.infer.staged import Swept
from domainsam.infer.sweep import Answer
from domainsam.prompter.contrast import Contrast, find_best_cut, learn_contrast
from domainsam.protocols import Block
from domainsam_ct.alike.describe import Describer, score_slice, share_cells
from domainsam_ct.model.sweep import SliceRun, WholeSlices, join_slices, sweep_slices
from domainsam_ct.read.geometry import to_axial
from domainsam_ct.read.volume import Volume

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
HALF = LEVELS // 2
"""Stored probability from which a voxel belongs: log-odds of 0."""
AROUND_MM = 24.0
"""Beside an organ so much of a slice is learnt from: eight cells of the organ model."""
MOST_ODDS = 15.0
"""Log-odds beyond this are as good as certain, and exponentials of them would overflow."""


@dataclass(frozen=True)
class Cells:
    """Cells of one slice: features ``(N, C)``, the share that the object covers ``(N,)``."""

    features: Float32
    share: Float32


def read_cells(
    volume: Volume, describer: Describer, frame: int, mask: Mask, around_mm: float | None = AROUND_MM
) -> Cells:
    """Cells of a slice and how much of each an object's mask ``(H, W)`` covers.

    Parameters
    ----------
    around_mm
        How far from the object cells count; None for the whole slice.
    """
    height, width = mask.shape
    spacing = volume.spacing[1], volume.spacing[0]
    grid = describer.grid((height, width), spacing)
    features = describer.describe(*read_with_neighbours(volume, frame, describer.context, grid))[0].numpy()
    stride = grid.network[0] // features.shape[1]
    share, used = share_cells(mask, grid, stride)
    if around_mm is not None and mask.any():
        used &= _near(share > 0, around_mm, grid.step, stride, spacing)
    return Cells(np.ascontiguousarray(features[:, used].T), share[used])


def read_with_neighbours(
    volume: Volume, frame: int, context: int, grid: Any
) -> tuple[Float32, Any, Float32 | None, Float32 | None]:
    """A slice ``(1, H, W)``, its grid, and its neighbours where the network looks at them."""
    depth = volume.shape[2]

    def read(start: int, stop: int) -> Float32 | None:
        start, stop = max(0, start), min(depth, stop)
        return to_axial(volume.slices(start, stop)) if start < stop and context else None

    own = to_axial(volume.slices(frame, frame + 1))
    return own, grid, read(frame - context, frame), read(frame + 1, frame + 1 + context)


def _near(
    inside: Mask, around_mm: float, step: tuple[float, float], stride: int, spacing: tuple[float, float]
) -> Mask:
    from scipy import ndimage

    cell = tuple(part * stride * mm for part, mm in zip(step, spacing, strict=True))
    near: Mask = ndimage.distance_transform_edt(~inside, sampling=cell) <= around_mm
    return near


def learn(cells: Sequence[Cells]) -> Contrast:
    """What parts an object from what lies around it, from the cells of slices that it was shown on.

    Raises
    ------
    InputError
        If there is nothing inside, or nothing outside.
    """
    return learn_contrast(
        np.concatenate([part.features for part in cells]), np.concatenate([part.share for part in cells])
    )


def learn_calibrated(cells: Sequence[Cells]) -> tuple[Contrast, float]:
    """The same with its cut where slices that were left out agree best, and Dice there.

    With a single slice nothing can be left out; Dice is then not known, NaN.
    """
    contrast = learn(cells)
    if len(cells) < 2:
        return contrast, float("nan")
    halves = [(cells[0::2], cells[1::2]), (cells[1::2], cells[0::2])]
    odds, share = [], []
    for kept, left_out in halves:
        part = learn(kept)
        odds += [part.score(np.ascontiguousarray(one.features.T)) for one in left_out]
        share += [one.share for one in left_out]
    cut, dice = find_best_cut(odds, share)
    return contrast.shifted(cut), dice


@dataclass(frozen=True)
class AlikeSweep(WholeSlices):
    """Probabilities of what was shown as a :class:`~domainsam.infer.sweep.DenseModel`; planes are bytes.

    ``contrasts`` are by the name of the file that their plane is staged in.
    """

    describer: Describer
    contrasts: Mapping[str, Contrast]
    spacing_mm: tuple[float, float]

    @property
    def planes(self) -> int:
        """One for each object."""
        return len(self.contrasts)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the staged files."""
        return tuple(self.contrasts)

    @property
    def context(self) -> int:
        """Slices on either side that the network looks at."""
        return self.describer.context

    def answer(
        self, blocks: Sequence[Block], before: Sequence[Block], after: Sequence[Block]
    ) -> Sequence[Answer]:
        """Stored probability of each object in whole slices."""
        slices = join_slices(blocks)
        assert slices is not None
        grid = self.describer.grid((slices.shape[1], slices.shape[2]), self.spacing_mm)
        features = self.describer.describe(slices, grid, join_slices(before), join_slices(after))
        return [
            Answer([self._bytes(one, contrast, grid) for contrast in self.contrasts.values()], block.valid)
            for one, block in zip(features, blocks, strict=True)
        ]

    def _bytes(self, features: Any, contrast: Contrast, grid: Any) -> NDArray[np.uint8]:
        odds = np.clip(score_slice(features, contrast, grid, self.spacing_mm), -MOST_ODDS, MOST_ODDS)
        return np.rint(LEVELS / (1 + np.exp(-odds))).astype(np.uint8)


def sweep_alike(
    volume: Volume, describer: Describer, contrasts: Sequence[Contrast], run: SliceRun, step: str
) -> tuple[Swept, tuple[str, ...]]:
    """Stage the probability of every object in every slice.

    Parameters
    ----------
    step
        What is made of it; a run goes on only with one of the same.

    Returns
    -------
    Swept, tuple of str
        The staged planes, and the name of each object's.

    Raises
    ------
    InputError
        If the run to go on with was another one.
    OutputError
        If the disk refuses.
    """
    names = tuple(f"alike-{number}" for number in range(1, len(contrasts) + 1))
    spacing = volume.spacing[1], volume.spacing[0]
    sweep = AlikeSweep(describer, dict(zip(names, contrasts, strict=True)), spacing)
    digests = [digest_contrast(one) for one in contrasts]
    identity = {**run.identity, "step": step, **describer.identity, "contrasts": digests}
    return sweep_slices(volume, sweep, replace(run, identity=identity), "alike"), names


def digest_contrast(contrast: Contrast) -> str:
    """Hexadecimal digits that tell one contrast from another."""
    import hashlib

    parts = (contrast.centre, contrast.weights, np.float32(contrast.bias))
    return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()[:16]
