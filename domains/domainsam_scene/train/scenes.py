"""Labelled scenes to train and judge on."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.errors import InputError
from domainsam.train.losses import IGNORE
from domainsam_scene.read.layouts.base import Layout, SampleRef, has_sensor, read_sample
from domainsam_scene.read.modalities import Sample
from domainsam_scene.settings import ReadOptions

log = logging.getLogger(__name__)

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
        if part != "all" and labelled and all(ref.window is not None for ref in labelled):
            chosen = _whole_rasters(labelled, chosen, part)
        self.found, self.unlabelled = tuple(found), len(found) - len(labelled)
        self.refs: tuple[SampleRef, ...] = tuple(itertools.compress(labelled, chosen))
        if not self.refs:
            raise InputError(
                f"{root}: {len(labelled)} of {len(found)} samples have labels, too few to learn and judge"
            )
        self.labels = tuple(labels) or layout.labels
        if len(self.labels) < 2:
            raise InputError(f"{root}: class names are unknown: write labels.txt, or name them with --labels")
        seen = dict.fromkeys(name for ref in self.refs for name in sorted(ref.files) if has_sensor(ref, name))
        known = layout.modalities or tuple(sorted(seen))
        self.modalities = tuple(modalities) or tuple(name for name in known if name in seen)
        self.read = lru_cache(KEPT_SCENES)(self._read)
        self.chosen = bool(modalities)
        self._told: set[tuple[int, str]] = set()

    def __len__(self) -> int:
        return len(self.refs)

    def _read(self, number: int) -> tuple[Sample, Labels]:
        ref = self.refs[number]
        sample = read_sample(self.layout, ref, self.modalities, self.options)
        for name, why in sample.missing.items():
            # Sensors without a file are told once, for all samples.
            if has_sensor(ref, name) and (number, name) not in self._told:
                self._told.add((number, name))
                log.warning("%s: learnt from without %s: %s", ref.name, name, why)
        truth = self.layout.read_labels(ref)
        if truth.shape != sample.shape:
            size = (sample.shape[1], sample.shape[0])
            truth = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.NEAREST))
        if int(truth[truth != IGNORE].max(initial=0)) >= len(self.labels):
            raise InputError(
                f"{ref.truth}: holds labels beyond the {len(self.labels)} classes that are named"
            )
        return sample, truth


def _whole_rasters(refs: Sequence[SampleRef], chosen: list[bool], part: Part) -> list[bool]:
    """Which parts of rasters to take, so that no raster is in both parts where there are enough of them."""
    rasters = [ref.name.rpartition("/")[0] for ref in refs]
    several = list(dict.fromkeys(rasters))
    if len(several) < HELD_BACK:
        return chosen
    taken = dict(zip(several, is_in_part(several, part), strict=True))
    return [taken[name] for name in rasters]


def spread_numbers(count: int, most: int) -> list[int]:
    """Up to ``most`` numbers below ``count``, evenly spread."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(most, count)).round()})


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
