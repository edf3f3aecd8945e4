"""Class-agnostic training samples from images with object masks: crops, pasted objects, composites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.utils.data import IterableDataset, get_worker_info

from domainsam.errors import InputError

OTHER_SHARE = 0.35
"""Share in the samples of each set that no share is given for."""


@dataclass(frozen=True)
class Record:
    """One image ``(H, W, 3)`` uint8 and its id map ``(H, W)`` int16, 0 where nothing is labelled.

    Parameters
    ----------
    source, name
        The set that the image belongs to, and its name there.
    held_back
        Whether it is kept for evaluation.
    image, ids
        RGB values and a number for each object.
    groups
        Sets of ids that together are an object too, such as the two shoes of a pair.
    """

    source: str
    name: str
    held_back: bool
    image: NDArray[np.uint8]
    ids: NDArray[np.int16]
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Sample:
    """``image`` ``(3, S, S)`` uint8; ``masks`` ``(M, S/4, S/4)`` bool, one an object."""

    image: torch.Tensor
    masks: torch.Tensor


def crop(
    image: NDArray[np.uint8], ids: NDArray[np.int16], size: int, rng: Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Cut a random window at a random scale, flipped and turned at random, to a square of ``size`` pixels.

    Returns pixels ``(size, size, 3)`` uint8 and ids ``(size, size)`` int16.

    Up to 30 % of the window may lie outside the image, where it is black and
    unlabelled, as in the padding of a wide photograph.
    """
    height, width = ids.shape
    side = float(np.exp(rng.uniform(np.log(0.35), np.log(1.2))) * max(height, width))
    aspect = float(np.exp(rng.uniform(-0.25, 0.25)))
    box_w, box_h = side * aspect, side / aspect
    left = rng.uniform(min(0, width - box_w), max(0, width - box_w))
    top = rng.uniform(min(0, height - box_h), max(0, height - box_h))
    box = (left, top, left + box_w, top + box_h)
    pixels = np.array(
        Image.fromarray(image).transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    )
    if side > 1.6 * size:  # shrinking by more needs a wider filter than bilinear
        half = Image.fromarray(image).reduce(2)
        pixels = np.array(
            half.transform(
                (size, size), Image.Transform.EXTENT, tuple(v / 2 for v in box), Image.Resampling.BILINEAR
            )
        )
    labels = np.array(
        Image.fromarray(ids.astype(np.int32)).transform(
            (size, size), Image.Transform.EXTENT, box, Image.Resampling.NEAREST
        )
    )
    labels = labels.astype(np.int16)
    if rng.random() < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    if rng.random() < 0.15:
        turns = int(rng.integers(1, 4))
        pixels, labels = np.rot90(pixels, turns), np.rot90(labels, turns)
    return pixels, labels


def jitter(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast, colours and blur of ``(H, W, 3)`` uint8 at random, sometimes to grey."""
    pixels: NDArray[np.float32] = image.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    chance = rng.random(4)
    if chance[0] < 0.15:
        pixels = np.repeat(grey, 3, axis=2)
    else:
        pixels = grey + (pixels - grey) * rng.uniform(0.5, 1.5)
    if chance[1] < 0.15:
        pixels = pixels[:, :, rng.permutation(3)]
    mean = pixels.mean()
    pixels = (pixels - mean) * rng.uniform(0.6, 1.4) + mean * rng.uniform(0.7, 1.3)
    if chance[2] < 0.1:
        pixels = ndimage.gaussian_filter(pixels, (rng.uniform(0.5, 1.5),) * 2 + (0,))
    if chance[3] < 0.05:
        pixels = 255 - pixels
    return np.clip(pixels, 0, 255).astype(np.uint8)


def paste(
    image: NDArray[np.uint8],
    ids: NDArray[np.int16],
    donor: tuple[NDArray[np.uint8], NDArray[np.int16]],
    rng: Generator,
) -> None:
    """Cut one object out of a donor crop and put it at a random place, in place."""
    pixels, labels = donor
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    choices = np.flatnonzero((areas > 200) & (areas < 0.4 * labels.size))
    if not len(choices):
        return
    mask = labels == rng.choice(choices)
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    view = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    mask, patch = mask[view], jitter(pixels[view], rng)
    top = int(rng.integers(0, ids.shape[0] - mask.shape[0] + 1))
    left = int(rng.integers(0, ids.shape[1] - mask.shape[1] + 1))
    target = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
    alpha = np.minimum(ndimage.uniform_filter(mask.astype(np.float32), 3) * 1.5, mask)[..., None]
    image[target] = (patch * alpha + image[target] * (1 - alpha)).astype(np.uint8)
    ids[target][mask] = ids.max() + 1


def draw_region(size: int, rng: Generator) -> NDArray[np.bool_]:
    """Draw a random smooth region ``(size, size)`` bool: a connected part of thresholded smooth noise."""
    coarse = int(rng.integers(3, 9))
    noise = Image.fromarray(rng.normal(size=(coarse, coarse)).astype(np.float32))
    field = np.array(noise.resize((size, size), Image.Resampling.BICUBIC))
    parts, count = ndimage.label(field > np.quantile(field, rng.uniform(0.6, 0.92)))
    return parts == rng.integers(1, count + 1) if count else np.zeros((size, size), bool)


def compose(
    image: NDArray[np.uint8], ids: NDArray[np.int16], other: NDArray[np.uint8], rng: Generator
) -> None:
    """Fill a random smooth region with another image's texture, in place."""
    region = draw_region(ids.shape[0], rng)
    image[region] = other[region]
    ids[region] = ids.max() + 1


def choose_masks(
    labels: NDArray[np.int16], groups: Sequence[tuple[int, ...]], count: int, rng: Generator
) -> NDArray[np.bool_]:
    """Choose ``count`` object masks ``(count, S/4, S/4)`` bool; large ones are likelier, few are repeated.

    Labels are ``(S, S)``. Tiny objects and those that fill the crop are left out; of none there are none.
    """
    small = labels[2::4, 2::4]
    areas = np.bincount(small.ravel())
    areas[0] = 0
    objects: list[NDArray[np.bool_]] = []
    values = np.flatnonzero((areas >= 8) & (areas <= 0.95 * small.size))
    if not len(values):
        return np.zeros((0, *small.shape), bool)
    weight = np.sqrt(areas[values])
    take = min(count, len(values))
    for value in rng.choice(values, size=take, replace=False, p=weight / weight.sum()):
        group = [member for member in groups if value in member]
        if group and rng.random() < 0.4:
            objects.append(np.isin(small, group[int(rng.integers(len(group)))]))
        else:
            objects.append(small == value)
    while len(objects) < count:
        objects.append(objects[int(rng.integers(take))])
    return np.stack(objects)


class SampleStream(IterableDataset[Sample]):
    """Endless samples from the records that are not held back; a seed fixes the order.

    Parameters
    ----------
    records
        At least one that is not held back.
    size
        Side of the crops in pixels, a multiple of 4.
    masks
        Objects asked for in each crop.
    seed
        With the number of the data loader's worker it decides every sample.
    shares
        How often each set is drawn, by its name, in proportion; others count :data:`OTHER_SHARE`.

    Raises
    ------
    InputError
        If every record is held back.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: int,
        masks: int,
        seed: int,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.records = [item for item in records if not item.held_back]
        if not self.records:
            raise InputError(
                f"all of {len(records)} records are held back for evaluation, expected some to train on"
            )
        shares = shares or {}
        counts: dict[str, int] = {}
        for item in self.records:
            counts[item.source] = counts.get(item.source, 0) + 1
        weights = np.array(
            [shares.get(item.source, OTHER_SHARE) / counts[item.source] for item in self.records]
        )
        self.weights = weights / weights.sum()
        self.size, self.masks, self.seed = size, masks, seed

    def draw(self, rng: Generator) -> tuple[NDArray[np.uint8], NDArray[np.int16], Record]:
        """Draw a crop: pixels ``(S, S, 3)``, ids ``(S, S)`` and the record that it is of."""
        item = self.records[int(rng.choice(len(self.records), p=self.weights))]
        pixels, labels = crop(item.image, item.ids, self.size, rng)
        return pixels.copy(), labels.copy(), item

    def sample(self, rng: Generator) -> Sample | None:
        """Make one sample, or None where the crop happens to hold no object."""
        pixels, labels, item = self.draw(rng)
        groups = item.groups
        kind = rng.random()
        if kind < 0.3:
            for _ in range(int(rng.integers(1, 4))):
                donor = self.draw(rng)
                paste(pixels, labels, donor[:2], rng)
        elif kind < 0.42:
            for _ in range(int(rng.integers(1, 3))):
                compose(pixels, labels, self.draw(rng)[0], rng)
        chosen = choose_masks(labels, groups, self.masks, rng)
        if not len(chosen):
            return None
        image = jitter(pixels, rng) if rng.random() < 0.7 else pixels
        return Sample(torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(chosen))

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            item = self.sample(rng)
            if item is not None:
                yield item


def collate(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack samples: images ``(B, 3, S, S)`` uint8 and masks ``(B, M, S/4, S/4)`` bool."""
    return torch.stack([item.image for item in samples]), torch.stack([item.masks for item in samples])
