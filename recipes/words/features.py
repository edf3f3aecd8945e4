"""What the heads learn from: the frozen trunk's features of named regions and places, computed once.

Parts of :data:`PART` pictures are files of their own in the work folder, so a run that is stopped goes on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from domainsam.infer.pictures import PictureView
from domainsam.protocols import SceneObject, Window
from domainsam.vocabulary.embedded import SIDE
from domainsam.vocabulary.word_looks import look_at, prepare_crops
from domainsam.vocabulary.word_network import WordNetwork
from recipes.words.corpus import Named

PART = 50
MOST = {"coco": 20, "ccp": 8}
"""Regions of a picture that are taken; of other sets :data:`OTHERS`."""
OTHERS = 10
CELLS = 6
"""Places of a region that are taken."""
PURE = 0.75
"""Least share of a place of 8 x 8 pixels that belongs to its region."""
CELL = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Samples:
    """Features ``(N, F)`` float16 of regions or places, their concepts ``(N,)`` and pictures ``(N,)``."""

    features: Tensor
    concepts: Tensor
    pictures: Tensor


def view_picture(image: NDArray[np.uint8]) -> PictureView:
    """A picture ``(H, W, 3)`` of the corpus at its own size, without a foundation."""
    return PictureView(lambda _: image, 1, None, max(image.shape[:2]))


def skipped(one: Named) -> bool:
    """Of the garments every second photograph is left out: their classes are few."""
    return one.source == "ccp" and int(one.name) % 2 == 1


def pick_regions(one: Named) -> list[int]:
    """Numbers of a picture's regions that are taken, the same ones always."""
    numbers = np.arange(1, len(one.names) + 1)
    most = MOST.get(one.source, OTHERS)
    if len(numbers) <= most:
        return numbers.tolist()
    seed = int.from_bytes(hashlib.sha256(one.name.encode()).digest()[:4], "little")
    return sorted(np.random.default_rng(seed).choice(numbers, most, replace=False).tolist())


def cut_object(one: Named, number: int) -> SceneObject:
    """A region as an object."""
    mask = one.ids == number
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    part = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    bounds = Window(int(rows[0]), int(cols[0]), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
    return SceneObject(bounds, mask=mask[part].copy())


@torch.inference_mode()
def describe_regions(network: WordNetwork, one: Named) -> tuple[Tensor, list[int]]:
    """Features ``(n, F)`` of a picture's regions, and their concepts."""
    view, numbers = view_picture(one.image), pick_regions(one)
    looks = [look_at(view, cut_object(one, number)) for number in numbers]
    narrow, wide, shapes = (torch.stack(part) for part in zip(*(look for look in looks if look), strict=True))
    features = network.describe_regions(prepare_crops(network, narrow, wide), shapes)
    return features, [one.names[number - 1] for number in numbers]


@torch.inference_mode()
def describe_places(network: WordNetwork, one: Named) -> tuple[Tensor, list[int]]:
    """Features ``(n, F)`` of places inside a picture's regions, and their concepts."""
    scale = min(1.0, SIDE / max(one.image.shape[:2]))
    height, width = (max(32, round(side * scale / 32) * 32) for side in one.image.shape[:2])
    image = np.asarray(Image.fromarray(one.image).resize((width, height), Image.Resampling.BILINEAR))
    ids = torch.from_numpy(one.ids.astype(np.int64))
    picture = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)
    features = network.describe_places(network.normalise(picture, torch.ones(height, width))[None])[0]
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(one.name.encode()).digest()[:4], "little"))
    found, concepts = [features.new_zeros(0, features.shape[0])], []
    for number, concept in enumerate(one.names, 1):
        share = F.adaptive_avg_pool2d(
            (ids == number).float()[None], (features.shape[-2], features.shape[-1])
        )[0]
        rows, cols = np.nonzero(share.numpy() >= PURE)
        if not len(rows):
            continue
        chosen = rng.choice(len(rows), min(CELLS, len(rows)), replace=False)
        found.append(features[:, rows[chosen], cols[chosen]].T)
        concepts += [concept] * len(chosen)
    return torch.cat(found), concepts


def collect(
    records: Sequence[Named],
    folder: Path,
    describe: Callable[[Named], tuple[Tensor, list[int]]],
) -> Samples:
    """Features of all pictures, from the parts that are there and those that are computed now."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(records), PART):
        path = folder / f"{start:05d}.pt"
        if not path.is_file():
            made = []
            for number in range(start, min(start + PART, len(records))):
                if skipped(records[number]):
                    continue
                features, concepts = describe(records[number])
                made.append((features.half(), torch.tensor(concepts), torch.full((len(concepts),), number)))
            parts = [torch.cat(part) for part in zip(*made, strict=True)]
            temporary = path.with_suffix(".part")
            torch.save(parts, temporary)
            temporary.replace(path)
            log.info("%s: %d of %d pictures", folder.name, min(start + PART, len(records)), len(records))
        found.append(tuple(torch.load(path, weights_only=True)))
    joined = [torch.cat(part) for part in zip(*found, strict=True)]
    return Samples(joined[0], joined[1].long(), joined[2])
