"""The answer of a search as the engine gives answers, so that the pack's writers take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.blend import LEVELS
from domainsam.infer.found import FoundObject
from domainsam.infer.objects import EngineResult
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam_ct.alike.sweep import HALF

LABELS_FILE, PROBABILITY_FILE = "labels.u8", "probability.u8"


@dataclass
class Painter:
    """Labels and probability of several organs in a volume, painted slice by slice; the likelier one wins.

    Parameters
    ----------
    folder
        Takes the two files.
    shape, frames
        Rows and columns of a slice, and number of slices.
    """

    folder: Path
    shape: tuple[int, int]
    frames: int
    sums: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = RawRaster.create(self.folder / LABELS_FILE, self.shape, self.frames)
        self.probability = RawRaster.create(self.folder / PROBABILITY_FILE, self.shape, self.frames)
        self.begin = perf_counter()

    def paint(self, frame: int, value: int, mask: NDArray[np.bool_], stored: NDArray[np.uint8]) -> None:
        """Paint an organ's mask ``(H, W)`` with its stored probability; what was marked has at least half."""
        window = Window(0, 0, *self.shape, frame)
        before, labels = self.probability.read(window), self.labels.read(window)
        own = np.maximum(stored, np.uint8(HALF))
        wins = mask & ((labels == 0) | (labels == value) | (own > before))
        self.labels.write(window, np.where(wins, np.uint8(value), labels))
        self.probability.write(window, np.where(wins, own, before))

    def finish(self, names: Sequence[str], resumed: bool, told: Mapping[str, Any]) -> EngineResult:
        """The answer with what is told of it; the files stay."""
        counts = np.zeros((256, 2), np.int64)
        pixels = self.shape[0] * self.shape[1]
        for frame in range(self.frames):
            window = Window(0, 0, *self.shape, frame)
            labels, stored = self.labels.read(window).ravel(), self.probability.read(window).ravel()
            counts[:, 0] += np.bincount(labels, minlength=256)
            counts[:, 1] += np.bincount(labels, weights=stored, minlength=256).astype(np.int64)
        found = tuple(
            FoundObject(name, float(counts[value, 1] / max(1, counts[value, 0]) / LEVELS), None)
            for value, name in enumerate(names, start=1)
        )
        return EngineResult(
            coarse=self.probability.path,
            probability=self.probability.path,
            shape=self.shape,
            level=HALF,
            components=(),
            found=len(names),
            pixels=pixels * self.frames,
            valid_pixels=pixels * self.frames,
            object_pixels=int(counts[1:, 0].sum()),
            crops=0,
            resumed=resumed,
            seconds={"objects": perf_counter() - self.begin},
            labels=self.labels.path,
            names=tuple(names),
            frames=self.frames,
            kept=len(names),
            objects=found,
            told=told,
        )

    def close(self) -> None:
        """Close the files, which stay."""
        self.labels.close()
        self.probability.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
