"""Pictures to distil from: which there are, which are held back, and batches of fixed views of them.

A view is a whole picture or one fixed part of it, so that the teacher need see it only once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from domainsam.assess.examples import MASK_ENDINGS, PICTURES, read_picture
from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.foundation.base import SIDE_MULTIPLE
from domainsam.foundation.picture import FITS
from domainsam.names import show
from domainsam.weights import file_sha256

STRIDE = 16
LEAST_SIDE = 16
"""Pixels along the shorter side, as given and as fitted: one element of the features."""
HELD_BACK_SHARE = 0.1
LEAST_PART, MOST_PART = 0.4, 0.9
"""Share of a picture's sides that a view of a part shows."""

FitRule = Literal["longest", "squash", "stretch"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A file, and the SHA-256 of its bytes."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Material:
    """Pictures to learn from, and those that are held back to judge by."""

    learning: tuple[Picture, ...]
    held_back: tuple[Picture, ...]
    notes: tuple[str, ...] = ()

    def identity(self) -> list[str]:
        """What tells this material from other."""
        return [one.digest for one in (*self.learning, *self.held_back)]


def find_material(folder: Path, side: int, fit: FitRule, share: float = HELD_BACK_SHARE) -> Material:
    """The pictures of a folder and of those in it, split by their content: equal pictures stay together.

    Pictures that cannot be opened, and those too small or too narrow, are left out and told.

    Parameters
    ----------
    side
        Of the square input in pixels, a multiple of 32.
    fit
        How pictures are fitted into it, see :data:`domainsam.foundation.picture.FITS`.
    share
        Of the pictures that are held back; of two or more at least one is, and one learns.

    Raises
    ------
    MissingInputError
        If the folder does not exist or holds no picture.
    InputError
        If none of them can be used.
    ConfigError
        If ``side`` or ``share`` is impossible.
    """
    if side < SIDE_MULTIPLE or side % SIDE_MULTIPLE:
        raise ConfigError(f"--side {side}: expected a multiple of {SIDE_MULTIPLE}, such as 512")
    if not 0 <= share < 1:
        raise ConfigError(f"held-back share {share}: expected 0 to below 1")
    files = list_pictures(folder)
    reasons = {path: reason for path in files if (reason := find_fault(path, side, fit))}
    notes = []
    if reasons:
        path, reason = next(iter(reasons.items()))
        notes.append(f"{len(reasons)} of {len(files)} pictures left out: {show(path.name)} {reason}")
        log.warning("%s", notes[0])
    used = [Picture(path, file_sha256(path)) for path in files if path not in reasons]
    if not used:
        raise InputError(f"no picture in '{show(str(folder))}' can be used: {notes[0]}")
    used.sort(key=lambda one: (one.digest, one.path.name))
    held = choose_held_back([one.digest for one in used], share)
    if not held:
        notes.append("no picture is held back: how near the student is to its teacher is not judged")
    learning = tuple(one for one in used if one.digest not in held)
    return Material(learning, tuple(one for one in used if one.digest in held), tuple(notes))


def list_pictures(folder: Path) -> list[Path]:
    """Picture files of a folder and of those in it, without masks and without what is hidden.

    Raises
    ------
    MissingInputError
        If the folder does not exist or holds none.
    """
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise MissingInputError(f"'{show(str(folder))}' {kind}: give a folder of pictures")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURES
        and path.is_file()
        and not path.stem.endswith(MASK_ENDINGS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise MissingInputError(
            f"no picture in '{show(str(folder))}': expected files such as {', '.join(PICTURES)}"
        )
    return files


def find_fault(path: Path, side: int, fit: FitRule) -> str:
    """Why a picture cannot be used, seen from its header; empty where it can."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception as error:
        # A damaged header fails in whatever part of the decoder meets it first.
        return f"is no picture that can be read ({type(error).__name__})"
    shorter, longer = sorted((width, height))
    fitted = shorter if fit != "longest" else shorter * side / longer
    if min(shorter, fitted) < LEAST_SIDE:
        return (
            f"is {width} x {height} pixels: its shorter side is below {LEAST_SIDE} pixels, "
            f"as it is or once the longer one is {side}"
        )
    return ""


def choose_held_back(digests: Sequence[str], share: float) -> set[str]:
    """Digests of the pictures to hold back: those that come first, which is as good as by chance."""
    different = sorted(set(digests))
    if len(different) < 2 or not share:
        return set()
    return set(different[: min(len(different) - 1, max(1, round(share * len(different))))])


def find_shown(extents: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Where elements of that stride show some of the picture, ``(B, h, w)`` bool for maps of ``size`` (h, w).

    ``extents`` ``(B, 2)`` are the rows and columns of pixels that show it.
    """
    rows, cols = (torch.arange(side, device=extents.device) * stride for side in size)
    down, across = rows < extents[:, :1], cols < extents[:, 1:]
    return down[:, :, None] & across[:, None, :]


@dataclass(frozen=True)
class ViewBatch:
    """Views as a student and its teacher see them.

    ``images`` are ``(B, 3, S, S)`` float32 in 0 to 1; ``extents`` ``(B, 2)`` float32 the rows and columns
    of pixels that show the picture, from the top left corner, the rest being padding; ``step`` is the
    number of the batch.
    """

    images: Tensor
    extents: Tensor
    step: int = 0

    def to(self, device: torch.device) -> ViewBatch:
        """The same on another device."""
        return replace(self, images=self.images.to(device), extents=self.extents.to(device))

    def valid(self, stride: int = STRIDE) -> Tensor:
        """Where elements of that stride show some of the picture, ``(B, 1, S/stride, S/stride)`` bool."""
        height, width = (side // stride for side in self.images.shape[-2:])
        return find_shown(self.extents, (height, width), stride)[:, None]


class Views:
    """Batches of views: every view of every picture once an epoch, in an order by chance.

    Parameters
    ----------
    pictures
        At least one.
    side, fit
        As for :func:`find_material`.
    batch_size
        Views in a batch; the last batch of an epoch is filled up from the next.
    views
        Views of a picture: the whole one, then parts of it, every second one of them mirrored.
    seed
        Decides the order and the parts.
    rank
        Number of the process; each has an order of its own.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        side: int,
        fit: FitRule,
        batch_size: int,
        views: int = 1,
        seed: int = 0,
        rank: int = 0,
    ) -> None:
        self.pictures, self.side, self.fit = pictures, side, fit
        self.batch_size, self.views, self.seed = batch_size, views, seed
        self._order = (seed, rank)

    def __len__(self) -> int:
        return len(self.pictures) * self.views

    def batch(self, step: int) -> ViewBatch:
        """The batch of a step.

        Raises
        ------
        InputError
            If a picture cannot be read.
        """
        chosen = []
        for place in range(step * self.batch_size, (step + 1) * self.batch_size):
            epoch, number = divmod(place, len(self))
            order = np.random.default_rng((*self._order, epoch)).permutation(len(self))
            chosen.append(int(order[number]))
        return self.gather(chosen, step)

    def gather(self, numbers: Sequence[int], step: int = 0) -> ViewBatch:
        """The views of these numbers, which count all views of the first picture, then of the next."""
        made = [self._view(*divmod(number, self.views)) for number in numbers]
        images, extents = zip(*made, strict=True)
        return ViewBatch(torch.cat(images), torch.tensor(extents, dtype=torch.float32), step)

    def _view(self, number: int, view: int) -> tuple[Tensor, tuple[int, int]]:
        one = self.pictures[number]
        pixels = read_picture(one.path)
        if view:
            rng = np.random.default_rng((int(one.digest[:12], 16), self.seed, view))
            height, width = (
                max(min(side, LEAST_SIDE), round(side * rng.uniform(LEAST_PART, MOST_PART)))
                for side in pixels.shape[:2]
            )
            top = int(rng.integers(pixels.shape[0] - height + 1))
            left = int(rng.integers(pixels.shape[1] - width + 1))
            pixels = pixels[top : top + height, left : left + width]
            if view % 2 == 0:
                pixels = pixels[:, ::-1]
        images, fitted = FITS[self.fit](np.ascontiguousarray(pixels), self.side)
        return images, fitted.resized
