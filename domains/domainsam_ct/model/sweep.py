"""The organ model over a volume: slices stream in, labels and confidence stream to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.engine import sweep_scene
from domainsam.infer.staged import Swept
from domainsam.infer.sweep import Answer, DenseModel
from domainsam.infer.tiling import TileGrid
from domainsam.progress import Progress, report_nothing
from domainsam.protocols import Block, Window
from domainsam_ct.model.organs import OrganModel
from domainsam_ct.read.geometry import to_axial
from domainsam_ct.read.open import VolumeSource
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.read.volume import Volume

MASK, CONFIDENCE = "mask", "confidence"
STAGED_BYTES = 2
"""Bytes a voxel that are staged: label and confidence."""


@dataclass(frozen=True)
class SliceRun:
    """How the slices of a volume are swept.

    Parameters
    ----------
    folder
        Where what is found is staged and journalled.
    identity
        What decides the answer; a run goes on only with its own.
    batch_size, workers
        Slices computed together, and threads that read them.
    resume
        Go on with what an earlier run left in ``folder``.
    """

    folder: Path
    identity: Mapping[str, Any]
    batch_size: int
    workers: int = 1
    resume: bool = False
    progress: Progress = report_nothing


class WholeSlices:
    """What :class:`~domainsam.infer.sweep.DenseModel` s of whole slices have in common: planes are bytes."""

    def running(self) -> AbstractContextManager[None]:
        """The network sees to gradients and precision by itself."""
        return nullcontext()

    def finish(self, means: NDArray[np.float32], seen: NDArray[np.bool_]) -> Sequence[NDArray[np.uint8]]:
        """The bytes; a slice is one tile, so that nothing was averaged."""
        return list(np.rint(means).astype(np.uint8))


@dataclass(frozen=True)
class OrganSweep(WholeSlices):
    """The organ model as a :class:`~domainsam.infer.sweep.DenseModel`: its planes are the bytes to store.

    Parameters
    ----------
    values
        Value to write for each of the model's labels; labels that are absent become background.
    spacing_mm
        Height and width of a pixel.
    """

    model: OrganModel
    values: Mapping[int, int]
    spacing_mm: tuple[float, float]
    planes: int = 2
    outputs: tuple[str, ...] = (MASK, CONFIDENCE)

    @property
    def context(self) -> int:
        """Slices on either side that the network looks at."""
        return self.model.context

    def answer(
        self, blocks: Sequence[Block], before: Sequence[Block], after: Sequence[Block]
    ) -> Sequence[Answer]:
        """Value and confidence (255 times the probability, 0 for background) of whole slices."""
        slices = join_slices(blocks)
        assert slices is not None
        found = self.model.predict_slices(slices, self.spacing_mm, join_slices(before), join_slices(after))
        lookup = np.zeros(256, np.uint8)
        lookup[list(self.values)] = list(self.values.values())
        labels = lookup[found.labels]
        certain = np.clip(np.rint(found.confidence.astype(np.float32) * 255), 1, 255)
        confidence = np.where(labels > 0, certain, 0)
        return [
            Answer(planes, block.valid) for *planes, block in zip(labels, confidence, blocks, strict=True)
        ]


def segment_volume(
    volume: Volume,
    model: OrganModel,
    values: Mapping[int, int],
    folder: Path,
    fingerprint: Mapping[str, Any],
    resume: bool,
    workers: int,
    progress: Progress,
) -> tuple[StagedVolume, StagedVolume, bool]:
    """Label every voxel; memory follows the size of a slice, not the length of the volume.

    Parameters
    ----------
    values
        Value to write for each of the model's labels; labels that are absent become background.
    folder
        Where labels and confidence are staged and journalled.
    fingerprint
        Everything that decides the answer; a run goes on only with its own.
    resume
        Go on with what an earlier run left in ``folder``.

    Returns
    -------
    The mask, the confidence (255 times the probability, 0 for background),
    and whether an earlier run's work was used.

    Raises
    ------
    InputError
        If the run to go on with was another one.
    OutputError
        If the disk refuses.
    """
    sweep = OrganSweep(model, values, (volume.spacing[1], volume.spacing[0]))
    run = SliceRun(folder, fingerprint, model.batch, workers, resume, progress)
    swept = sweep_slices(volume, sweep, run, "segment")
    mask = StagedVolume(swept.open(MASK))
    try:
        return mask, StagedVolume(swept.open(CONFIDENCE)), swept.resumed
    except BaseException:
        mask.close()
        raise


def sweep_slices(volume: Volume, model: DenseModel[Block], run: SliceRun, stage: str) -> Swept:
    """Stage what a model says of every slice, a slice being one tile; ``stage`` is the name of the progress.

    Raises
    ------
    InputError
        If the run to go on with was another one.
    OutputError
        If the disk refuses.
    """
    source = VolumeSource(volume)
    return sweep_scene(
        source,
        read_hounsfield(volume),
        model,
        run.folder,
        TileGrid((0,), (0,), source.grid.frame_shape),
        identity=run.identity,
        batch_size=run.batch_size,
        workers=run.workers,
        resume=run.resume,
        progress=run.progress,
        stage=stage,
    )


def join_slices(blocks: Sequence[Block]) -> NDArray[np.float32] | None:
    """Slices ``(S, H, W)`` of blocks, None of no blocks."""
    return np.concatenate([block.image for block in blocks]) if blocks else None


def read_hounsfield(volume: Volume) -> Callable[[Window], Block]:
    """A reader of whole axial slices ``(1, H, W)`` in Hounsfield units; any thread may call it."""

    def read(window: Window) -> Block:
        image = to_axial(volume.slices(window.frame, window.frame + 1))
        return Block(window, image, np.ones(image.shape[1:], np.bool_))

    return read
