"""Training batches of labelled scenes: cropped, turned, and changed in light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.functional import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    gaussian_blur,
)

from domainsam.errors import ConfigError
from domainsam.train.crops import check_crops
from domainsam.train.losses import IGNORE
from domainsam_scene.train.objective import SceneBatch
from domainsam_scene.train.scenes import LabelledScenes, Labels


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
    jitter
        Chance that brightness, contrast and saturation of ``rgb`` are each multiplied by 0.5 to 1.5, as
        DELIVER's code does at 0.2, before the scene is cut.
    blur
        Chance that ``rgb`` is then blurred by a Gaussian of 3 x 3 pixels, as there.
    """

    size: int = 256
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    turn: bool = False
    colour: float = 0.5
    jitter: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        check_crops(self.size, self.scale)
        if not (0 <= self.jitter <= 1 and 0 <= self.blur <= 1):
            raise ConfigError(f"jitter {self.jitter:g}, blur {self.blur:g}: expected chances from 0 to 1")


class SceneCrops:
    """Batches of random crops, each decided by its number alone.

    Scenes are taken in a new random order in every pass, each once, however
    many processes share the work; a sensor that a scene lacks, or that has no
    data in its crop, is absent in the batch.

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
        Any whole numbers, the same in all processes.
    rank, ranks
        Number of this process, and how many there are.
    """

    def __init__(
        self,
        scenes: LabelledScenes,
        options: SceneCropOptions,
        longest: int,
        batch_size: int,
        seed: Sequence[int],
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.scenes, self.options, self.longest = scenes, options, longest
        self.batch_size, self._seed = batch_size, list(seed)
        self._rank, self._ranks = rank, ranks
        self._order = lru_cache(4)(self._shuffled)

    def batch(self, step: int) -> SceneBatch:
        """The batch of a step."""
        rng = np.random.default_rng([*self._seed, self._rank, step])
        crops = [self._crop(number, rng) for number in self.numbers(step)]
        images = {
            name: torch.from_numpy(np.stack([crop.images[name] for crop in crops]))
            for name in self.scenes.modalities
        }
        labels = torch.from_numpy(np.stack([crop.labels for crop in crops]).astype(np.int64))
        present = {
            name: torch.tensor([name in crop.present for crop in crops]) for name in self.scenes.modalities
        }
        return SceneBatch(images, labels, present)

    def numbers(self, step: int) -> list[int]:
        """Numbers of the scenes of a step's batch: in each pass every scene once, in an order of its own."""
        count = len(self.scenes)
        first = (step * self._ranks + self._rank) * self.batch_size
        places = (divmod(place, count) for place in range(first, first + self.batch_size))
        return [int(self._order(epoch)[place]) for epoch, place in places]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([*self._seed, epoch]).permutation(len(self.scenes))

    def _crop(self, number: int, rng: np.random.Generator) -> Crop:
        sample, labels = self.scenes.read(number)
        options, side = self.options, self.options.size
        pictures = {**sample.images}
        if "rgb" in pictures:
            pictures["rgb"] = change_light(pictures["rgb"], rng, options)
        magnified = rng.uniform(*options.scale) * self.longest / max(sample.shape)
        reach = side / magnified
        top, left = (
            rng.uniform(min(0.0, length - reach), max(0.0, length - reach)) for length in sample.shape
        )
        box = (left, top, left + reach, top + reach)
        mirrored = rng.random() < options.flip
        turns = int(rng.integers(4)) if options.turn else 0
        gain, lift = 1 + options.colour * rng.uniform(-1, 1), 0.5 * options.colour * rng.uniform(-1, 1)
        images: dict[str, NDArray[np.float32]] = {}
        for name in self.scenes.modalities:
            if name not in pictures:
                images[name] = np.zeros((3, side, side), np.float32)
                continue
            cut: NDArray[Any] = np.stack(
                [_cut(channel, box, side, Image.Resampling.BILINEAR) for channel in pictures[name]]
            )
            if name == "rgb" and options.colour:
                cut = np.clip((cut - 0.5) * gain + 0.5 + lift, 0, 1) * (cut.max(0) > 0)
            images[name] = _turned(cut.astype(np.float32), mirrored, turns)
        truth = _turned(_cut(labels, box, side, Image.Resampling.NEAREST, IGNORE), mirrored, turns)
        own = frozenset(name for name in self.scenes.modalities if name in pictures)
        present = frozenset(name for name in own if _sees(sample.valid[name], box))
        if not present:
            # As when a model is used: what no sensor saw has no answer.
            return Crop(images, np.full_like(truth, IGNORE), own)
        return Crop(images, truth, present)


@dataclass(frozen=True, eq=False)
class Crop:
    """One crop: images ``(3, S, S)`` float32 by sensor, labels ``(S, S)`` uint8, and who has data in it."""

    images: dict[str, NDArray[np.float32]]
    labels: Labels
    present: frozenset[str]


def change_light(
    picture: NDArray[np.float32], rng: np.random.Generator, options: SceneCropOptions
) -> NDArray[np.float32]:
    """A colour picture ``(3, H, W)`` in other light, by the chances of ``jitter`` and ``blur``."""
    jittered = bool(options.jitter) and rng.random() < options.jitter
    blurred = bool(options.blur) and rng.random() < options.blur
    if not (jittered or blurred):
        return picture
    pixels = torch.from_numpy(picture)
    if jittered:
        brightness, contrast, saturation = rng.uniform(0.5, 1.5, 3)
        pixels = adjust_brightness(pixels, float(brightness))
        pixels = adjust_contrast(pixels, float(contrast))
        pixels = adjust_saturation(pixels, float(saturation))
    if blurred:
        pixels = gaussian_blur(pixels, [3, 3])
    return np.asarray(pixels.numpy(), np.float32)


def _sees(valid: NDArray[np.bool_], box: tuple[float, float, float, float]) -> bool:
    """Whether a sensor has any data in a window; ``box`` is left, top, right, bottom in pixels."""
    left, top, right, bottom = box
    rows = slice(max(0, int(top)), max(0, math.ceil(bottom)))
    return bool(valid[rows, max(0, int(left)) : max(0, math.ceil(right))].any())


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
