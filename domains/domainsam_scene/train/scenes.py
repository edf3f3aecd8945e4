"""Labelled scenes as training batches: read, cropped, turned, and changed in light."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from domainsam.errors import InputError
from domainsam.train.crops import check_crops
from domainsam.train.losses import IGNORE
from domainsam_scene.read.layouts.base import Layout, SampleRef, read_sample
from domainsam_scene.read.modalities import Sample
from domainsam_scene.settings import ReadOptions
from domainsam_scene.train.objective import SceneBatch

Labels = NDArray[np.uint8]
KEPT_SCENES = 64
"""Scenes that stay in memory once they are read."""
HELD_BACK = 5
"""One in so many samples is held back where there is no validation split."""
Part = Literal["all", "learnt", "held back"]


class LabelledScenes(Protocol):
    """Scenes with their truth, by number; any thread may read them."""

    labels: tuple[str, ...]
    modalities: tuple[str, ...]

    def __len__(self) -> int: ...

    def read(self, number: int) -> tuple[Sample, Labels]:
        """One scene and its labels ``(H, W)``, 255 where unknown."""
        ...


def is_in_part(names: Sequence[str], part: Part) -> list[bool]:
    """Which samples belong to a part: a fifth, spread by a hash of the names, is held back."""
    order = sorted(range(len(names)), key=lambda index: hashlib.sha256(names[index].encode()).digest())
    held = set(order[: max(1, len(names) // HELD_BACK)])
    return [part == "all" or (index in held) == (part == "held back") for index in range(len(names))]


class LayoutScenes:
    """The labelled samples of one split of a layout, or a part of them.

    Raises
    ------
    InputError
        If there are none.
    """

    def __init__(
        self,
        layout: Layout,
        root: Path,
        split: str | None,
        modalities: Sequence[str],
        labels: Sequence[str],
        options: ReadOptions,
        part: Part = "all",
    ) -> None:
        self.layout, self.options = layout, options
        found = layout.samples(root, split)
        labelled = [ref for ref in found if ref.truth is not None]
        chosen = is_in_part([ref.name for ref in labelled], part)
        self.refs: tuple[SampleRef, ...] = tuple(itertools.compress(labelled, chosen))
        if not self.refs:
            raise InputError(
                f"{root}: {len(labelled)} of {len(found)} samples have labels, too few to learn and judge"
            )
        self.labels = tuple(labels) or layout.labels
        if len(self.labels) < 2:
            raise InputError(f"{root}: class names are unknown: write labels.txt, or name them with --labels")
        seen = sorted({name for ref in self.refs for name in ref.files})
        self.modalities = tuple(modalities) or layout.modalities or tuple(seen)
        self.read = lru_cache(KEPT_SCENES)(self._read)

    def __len__(self) -> int:
        return len(self.refs)

    def _read(self, number: int) -> tuple[Sample, Labels]:
        ref = self.refs[number]
        sample = read_sample(self.layout, ref, self.modalities, self.options)
        truth = self.layout.read_labels(ref)
        if truth.shape != sample.shape:
            size = (sample.shape[1], sample.shape[0])
            truth = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.NEAREST))
        if int(truth[truth != IGNORE].max(initial=0)) >= len(self.labels):
            raise InputError(
                f"{ref.truth}: holds labels beyond the {len(self.labels)} classes that are named"
            )
        return sample, truth


class DrawnScenes:
    """Scenes that a function makes of their number; nothing is kept."""

    def __init__(
        self,
        make: Callable[[int], tuple[Sample, Labels]],
        count: int,
        labels: Sequence[str],
        modalities: Sequence[str],
    ) -> None:
        self._make, self._count = make, count
        self.labels, self.modalities = tuple(labels), tuple(modalities)

    def __len__(self) -> int:
        return self._count

    def read(self, number: int) -> tuple[Sample, Labels]:
        """The scene of that number."""
        return self._make(number)


@dataclass(frozen=True)
class SceneCropOptions:
    """How crops are cut and changed; the defaults are those of DELIVER's code but for ``turn``.

    Parameters
    ----------
    size
        Side in pixels, a multiple of 32.
    scale
        Least and greatest magnification of a scene before it is cut.
    flip
        Chance of a mirror image, left to right.
    turn
        Also turn by quarters and mirror up and down: right for maps, wrong for streets.
    colour
        Greatest change of brightness and contrast of ``rgb``, as a part.
    """

    size: int = 256
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    turn: bool = False
    colour: float = 0.5

    def __post_init__(self) -> None:
        check_crops(self.size, self.scale)


class SceneCrops:
    """Batches of random crops, each decided by its number alone.

    Parameters
    ----------
    scenes
        Where crops come from.
    options
        How they are made.
    longest
        Longest side that a scene is brought to before ``options.scale``.
    batch_size
        Crops in a batch.
    seed
        Any whole numbers.
    """

    def __init__(
        self,
        scenes: LabelledScenes,
        options: SceneCropOptions,
        longest: int,
        batch_size: int,
        seed: Sequence[int],
    ) -> None:
        self.scenes, self.options, self.longest = scenes, options, longest
        self.batch_size, self._seed = batch_size, list(seed)

    def batch(self, step: int) -> SceneBatch:
        """The batch of a step."""
        rng = np.random.default_rng([*self._seed, step])
        crops = [self._crop(rng) for _ in range(self.batch_size)]
        images = {
            name: torch.from_numpy(np.stack([crop[0][name] for crop in crops]))
            for name in self.scenes.modalities
        }
        labels = torch.from_numpy(np.stack([crop[1] for crop in crops]).astype(np.int64))
        return SceneBatch(images, labels)

    def _crop(self, rng: np.random.Generator) -> tuple[dict[str, NDArray[np.float32]], Labels]:
        sample, labels = self.scenes.read(int(rng.integers(len(self.scenes))))
        options, side = self.options, self.options.size
        magnified = rng.uniform(*options.scale) * self.longest / max(sample.shape)
        reach = side / magnified
        top, left = (
            rng.uniform(min(0.0, length - reach), max(0.0, length - reach)) for length in sample.shape
        )
        box = (left, top, left + reach, top + reach)
        mirrored = rng.random() < options.flip
        turns = int(rng.integers(4)) if options.turn else 0
        gain, lift = 1 + options.colour * rng.uniform(-1, 1), 0.5 * options.colour * rng.uniform(-1, 1)
        images: dict[str, Any] = {}
        for name in self.scenes.modalities:
            if name not in sample.images:
                images[name] = np.zeros((3, side, side), np.float32)
                continue
            cut: NDArray[Any] = np.stack(
                [_cut(channel, box, side, Image.Resampling.BILINEAR) for channel in sample.images[name]]
            )
            if name == "rgb" and options.colour:
                cut = np.clip((cut - 0.5) * gain + 0.5 + lift, 0, 1) * (cut.max(0) > 0)
            images[name] = _turned(cut.astype(np.float32), mirrored, turns)
        return images, _turned(_cut(labels, box, side, Image.Resampling.NEAREST, IGNORE), mirrored, turns)


def _cut(
    values: NDArray[np.float32] | Labels,
    box: tuple[float, float, float, float],
    side: int,
    how: Image.Resampling,
    outside: int = 0,
) -> NDArray[Any]:
    """A window resized to ``(side, side)``; what lies beyond the scene is ``outside``."""
    picture = Image.fromarray(values)
    cut = picture.transform((side, side), Image.Transform.EXTENT, box, how, fillcolor=outside)
    return np.asarray(cut)


def _turned(values: NDArray[np.generic], mirrored: bool, turns: int) -> NDArray[Any]:
    """Mirrored left to right, then turned by quarters, along the last two axes."""
    values = values[..., ::-1] if mirrored else values
    return np.ascontiguousarray(np.rot90(values, turns, (-2, -1)))
