"""The network over a volume: slices stream in, labels and confidence stream to disk.

What is done is journalled chunk by chunk, so that a run that was killed goes
on with the next chunk. Memory follows the size of a slice and the number of
slices in a chunk, not the length of the volume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.journal import JOURNAL_FILE, Journal
from domainsam.infer.store import StagedVolume
from domainsam.progress import Progress
from domainsam_ct.model.organs import OrganModel
from domainsam_ct.read.geometry import axial, from_axial
from domainsam_ct.read.volume import Volume

MASK_FILE = "mask.raw"
CONFIDENCE_FILE = "confidence.raw"
STAGED_BYTES = 2
"""Bytes a voxel that are staged: label and confidence."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Chunk:
    """Axial images ``(S, H, W)`` from slice ``start`` on, and their neighbours below and above."""

    start: int
    images: Float32
    below: Float32
    above: Float32


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
    """Labels and confidence of every voxel, staged in ``folder``.

    Parameters
    ----------
    values
        Value to write for each of the model's labels; labels that are absent become background.
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
    lookup = np.zeros(256, np.uint8)
    lookup[list(values)] = list(values.values())
    with Journal(folder / JOURNAL_FILE, fingerprint, resume) as journal:
        shape = volume.shape
        make = StagedVolume.open if journal.resumed else StagedVolume.create
        mask = make(folder / MASK_FILE, shape)
        try:
            confidence = make(folder / CONFIDENCE_FILE, shape)
        except BaseException:
            mask.close()
            raise
        done = max((int(record["stop"]) for record in journal.records), default=0)
        rows, depth = shape[0] * shape[1], shape[2]
        progress("segment", done * rows, depth * rows)
        y, x = volume.spacing[1], volume.spacing[0]
        for chunk in read_ahead(volume, done, model.batch, model.context, workers):
            found = model.predict(chunk.images, (y, x), chunk.below, chunk.above)
            labels = lookup[found.labels]
            certain = np.clip(np.rint(found.confidence.astype(np.float32) * 255), 1, 255)
            mask.write(chunk.start, _canonical(labels))
            confidence.write(chunk.start, _canonical(np.where(labels > 0, certain, 0).astype(np.uint8)))
            mask.sync()
            confidence.sync()
            stop = chunk.start + len(labels)
            journal.append({"stop": stop})
            progress("segment", stop * rows, depth * rows)
    return mask, confidence, bool(journal.records)


def read_ahead(volume: Volume, start: int, size: int, context: int, threads: int) -> Iterator[Chunk]:
    """Chunks of ``size`` slices from ``start`` on, read while the ones before are computed."""
    depth = volume.shape[2]
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Chunk]] = deque()
        for first in range(start, depth, size):
            waiting.append(pool.submit(read_chunk, volume, first, min(first + size, depth), context))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_chunk(volume: Volume, start: int, stop: int, context: int) -> Chunk:
    """Slices ``start`` to ``stop`` with up to ``context`` neighbours either side."""
    low, high = max(0, start - context), min(volume.shape[2], stop + context)
    images = axial(volume.slices(low, high))
    return Chunk(start, images[start - low : stop - low], images[: start - low], images[stop - low :])


def _canonical(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Axial images ``(S, H, W)`` as canonical slices ``(S, X, Y)``."""
    return np.moveaxis(from_axial(images), 2, 0)
