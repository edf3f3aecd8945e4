"""Batches of training crops, each decided by its step number and the seed.

Step 17 of a seed is the same batch whoever asks, in whatever order: a run that
was interrupted continues as if it had not been, and threads may read ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.errors import ConfigError, InputError
from domainsam.protocols import Window
from domainsam.train.augment import (
    DIHEDRAL,
    ColourOptions,
    Sample,
    crop_size,
    cutmix,
    fill_unseen,
    hide_border,
    recolour,
    resize,
    turn_dihedral,
    turn_freely,
)
from domainsam.train.losses import IGNORE

TRIES = 8
"""Windows looked at before one with little known ground is taken after all."""
LEAST_KNOWN = 0.25
"""Share of a crop's pixels that should have a known label."""


class SampleSource(Protocol):
    """A labelled scene; any thread may read it.

    ``shape`` is its rows and columns; ``ratio`` how many of its pixels lie
    along one pixel of the model's resolution; ``anchors`` ``(K, 2)`` are rows
    and columns of places with settlement that may be trained on; ``weight``
    how often it is drawn, in proportion.
    """

    shape: tuple[int, int]
    ratio: float
    anchors: NDArray[np.int64]
    weight: float

    def sample(self, window: Window) -> Sample:
        """The window's image and labels; ground that may not be seen is invalid and unlabelled."""
        ...


@dataclass(frozen=True)
class CropOptions:
    """How crops are cut and changed.

    Parameters
    ----------
    size
        Side of a crop in pixels, a multiple of 32.
    scale
        Least and greatest magnification against the model's resolution.
    aspect
        See :func:`domainsam.train.augment.crop_size`.
    positive_share
        Share of crops that are laid over settlement on purpose.
    turn_share
        Share of crops that are turned by any angle; all of them get quarter turns and mirrorings.
    border_share
        Share of crops of which a border or corner is hidden, as beyond the edge of a scene.
    border_part
        Least and greatest extent of what is hidden, as a part of the crop's.
    cutmix_share
        Share of batches whose crops exchange a rectangle.
    cutmix_part
        Least and greatest side of that rectangle, as a part of the crop's.
    colour
        Changes of colour.
    """

    size: int = 512
    scale: tuple[float, float] = (0.5, 2.0)
    aspect: float = 0.15
    positive_share: float = 0.5
    turn_share: float = 0.0
    border_share: float = 0.0
    border_part: tuple[float, float] = (0.05, 0.35)
    cutmix_share: float = 0.0
    cutmix_part: tuple[float, float] = (0.3, 0.6)
    colour: ColourOptions = field(default_factory=ColourOptions)

    def __post_init__(self) -> None:
        check_crops(self.size, self.scale)


def check_crops(size: int, scale: tuple[float, float]) -> None:
    """Refuse crops that cannot be cut.

    Raises
    ------
    ConfigError
        If the side is no multiple of 32, or the scales are not positive and in rising order.
    """
    if size < 32 or size % 32:
        raise ConfigError(f"crop size is {size}, expected a multiple of 32")
    if not 0 < scale[0] <= scale[1]:
        raise ConfigError(f"crop scale is {scale}, expected two positive numbers in rising order")


@dataclass(frozen=True)
class Batch:
    """Images ``(B, 3, H, W)`` float32 in 0 to 1, labels ``(B, H, W)`` int64, validity ``(B, H, W)`` bool."""

    images: Tensor
    labels: Tensor
    valid: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Batch:
        """The batch of some samples of one size."""
        return cls(
            torch.from_numpy(np.stack([sample.image for sample in samples])),
            torch.from_numpy(np.stack([sample.labels for sample in samples]).astype(np.int64)),
            torch.from_numpy(np.stack([sample.valid for sample in samples])),
        )

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(self.images.to(device), self.labels.to(device), self.valid.to(device))


class RandomCrops:
    """Crops of random place, size, turn and colour.

    Parameters
    ----------
    scenes
        Where crops come from.
    options
        How they are made.
    batch_size
        Crops in a batch.
    seed
        Any whole numbers; two streams of different seeds have nothing in common.
    chances
        How often each scene is drawn, in proportion; by default by its ground.

    Raises
    ------
    InputError
        If no scene has ground to train on.
    """

    def __init__(
        self,
        scenes: Sequence[SampleSource],
        options: CropOptions,
        batch_size: int,
        seed: Sequence[int],
        chances: Sequence[float] | None = None,
    ) -> None:
        weights = np.array(chances or [scene.weight for scene in scenes], np.float64)
        if not weights.sum():
            raise InputError("no scene has labelled ground to train on: check the labels and the split")
        self.scenes, self.options, self.batch_size = scenes, options, batch_size
        self._chances = weights / weights.sum()
        self._seed = list(seed)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([*self._seed, step])
        samples = [self._crop(rng) for _ in range(self.batch_size)]
        if rng.random() < self.options.cutmix_share:
            samples = cutmix(samples, rng, self.options.cutmix_part)
        return Batch.of([fill_unseen(sample, rng) for sample in samples])

    def _crop(self, rng: np.random.Generator) -> Sample:
        options, side = self.options, self.options.size
        turns = options.turn_share > 0 and rng.random() < options.turn_share
        degrees = float(rng.uniform(0, 360)) if turns else None
        for _ in range(TRIES):
            scene = self.scenes[int(rng.choice(len(self.scenes), p=self._chances))]
            window, size = self._window(scene, rng, degrees)
            taken = scene.sample(window)
            if np.mean(taken.labels != IGNORE) >= LEAST_KNOWN:
                break
        taken = resize(taken, *size)
        if degrees is not None:
            taken = turn_freely(taken, degrees, side)
        turned = recolour(turn_dihedral(taken, int(rng.integers(DIHEDRAL))), rng, options.colour)
        hides = options.border_share > 0 and rng.random() < options.border_share
        return hide_border(turned, rng, options.border_part) if hides else turned

    def _window(
        self, scene: SampleSource, rng: np.random.Generator, degrees: float | None
    ) -> tuple[Window, tuple[int, int]]:
        """A window, and the size that gives it a scale within the options'.

        The size is the crop's, or as much more as a turn by ``degrees`` needs,
        as far as the scene reaches.
        """
        side = round(self.options.size * scene.ratio)
        angle = 0.0 if degrees is None else np.deg2rad(degrees)
        reach = float(abs(np.cos(angle)) + abs(np.sin(angle)))
        sizes = crop_size(rng, side, self.options.scale, self.options.aspect)
        upright = [min(size, length) for size, length in zip(sizes, scene.shape, strict=True)]
        rows, cols = (
            min(round(size * reach), length) for size, length in zip(upright, scene.shape, strict=True)
        )
        if len(scene.anchors) and rng.random() < self.options.positive_share:
            row, col = scene.anchors[rng.integers(len(scene.anchors))]
            top, left = row - rng.integers(rows), col - rng.integers(cols)
        else:
            top, left = rng.integers(scene.shape[0] - rows + 1), rng.integers(scene.shape[1] - cols + 1)
        top, left = (
            min(max(0, int(first)), length - size)
            for first, length, size in zip((top, left), scene.shape, (rows, cols), strict=True)
        )
        grown = (round(self.options.size * rows / upright[0]), round(self.options.size * cols / upright[1]))
        return Window(top, left, rows, cols), grown


class BatchStream(Protocol):
    """Batches by their number."""

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        ...


@contextmanager
def read_batches_ahead(stream: BatchStream, first: int, end: int, workers: int) -> Iterator[Iterator[Batch]]:
    """Batches ``first`` to ``end``, prepared by ``workers`` threads while earlier ones are used."""
    pool = ThreadPoolExecutor(workers)

    def batches() -> Iterator[Batch]:
        waiting: list[Future[Batch]] = []
        coming = iter(range(first, end))
        for _ in range(workers + 1):
            waiting += [pool.submit(stream.batch, step) for step in _next(coming)]
        while waiting:
            ready = waiting.pop(0).result()
            waiting += [pool.submit(stream.batch, step) for step in _next(coming)]
            yield ready

    try:
        yield batches()
    finally:
        pool.shutdown(cancel_futures=True)


def _next(steps: Iterator[int]) -> list[int]:
    """The next number, or nothing."""
    step = next(steps, None)
    return [] if step is None else [step]
