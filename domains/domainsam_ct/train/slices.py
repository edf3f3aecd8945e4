"""Training batches of slices, the published loss, and Dice on whole cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.protocols import Features
from domainsam.train.crops import Batch
from domainsam.train.losses import IGNORE
from domainsam_ct.train.augmentation import AugmentOptions, draw_slice
from domainsam_ct.train.case import Case, find_mirror_pairs
from domainsam_ct.train.cuts import Frame

Encode = Callable[[Tensor], Features | None]


@dataclass(frozen=True)
class LossOptions:
    """Published: 0.2 cross entropy + 0.8 Dice, compared at a quarter of the input's size.

    Parameters
    ----------
    cross_entropy, dice
        Weights of both parts.
    smooth
        Added above and below Dice.
    absent
        ``"count"`` as published: a class that a batch does not show pulls all
        its probabilities down; ``"skip"``: it takes no part in Dice, without
        which rare organs are never found.
    stride
        Pixels of the input to one that is compared: 4 as published; below
        that, logits are enlarged, which teaches them where borders run between.
    sampling
        Which pixel's label stands for ``stride`` of them: that in the
        ``"middle"``, or as published the one of ``scipy.ndimage.zoom``, whose
        first and last samples are the first and last pixels.
    """

    cross_entropy: float = 0.2
    dice: float = 0.8
    smooth: float = 1e-5
    stride: int = 4
    sampling: Literal["middle", "zoom"] = "middle"
    absent: Literal["count", "skip"] = "count"


def organ_loss(logits: Tensor, labels: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """``"loss"`` and its parts for logits ``(B, K, h, w)`` and labels ``(B, H, W)`` int64.

    Dice is that of SAMed and SAM-LST: one value a class over the whole batch,
    squares in the denominator, the background counted as a class. Pixels
    labelled :data:`~domainsam.train.losses.IGNORE` take no part.
    """
    size = (labels.shape[1] // options.stride, labels.shape[2] // options.stride)
    if options.sampling == "zoom" and options.stride > 1:
        rows, cols = (zoom_indices(length, length // options.stride) for length in labels.shape[1:])
        truth = labels[:, rows[:, None], cols]
    else:
        half = options.stride // 2
        truth = labels[:, half :: options.stride, half :: options.stride]
    logits = logits.float()
    if tuple(logits.shape[2:]) != size:
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    known = truth != IGNORE
    entropy = F.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="sum")
    entropy = entropy / known.sum().clamp(min=1)
    shares = torch.softmax(logits, 1) * known[:, None]
    target = F.one_hot(truth.where(known, 0), logits.shape[1]).permute(0, 3, 1, 2) * known[:, None]
    every = (0, 2, 3)
    shared = (shares * target).sum(every)
    total = shares.square().sum(every) + target.sum(every)
    each = 1 - (2 * shared + options.smooth) / (total + options.smooth)
    dice = each.mean() if options.absent == "count" else each[target.sum(every) > 0].mean()
    loss = options.cross_entropy * entropy + options.dice * dice
    return {"loss": loss, "cross_entropy": entropy, "dice_loss": dice}


def zoom_indices(length: int, count: int) -> Tensor:
    """Which of ``length`` pixels ``scipy.ndimage.zoom`` of order 0 takes for ``count``, int64."""
    steps = torch.arange(count, dtype=torch.float64) * (length - 1) / max(1, count - 1)
    return (steps + 0.5).floor().long()


class OrganObjective(nn.Module):
    """The loss of a batch; ``encode`` gives the frozen features, from a cache or anew."""

    def __init__(self, network: nn.Module, encode: Encode, options: LossOptions) -> None:
        super().__init__()
        self.network, self.encode, self.options = network, encode, options

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        middle = batch.images[:, batch.images.shape[1] // 2, None].expand(-1, 3, -1, -1)
        with torch.no_grad():
            features = self.encode(middle)
        logits = self.network(batch.images, features)
        return organ_loss(logits, batch.labels, self.options)


class SliceStream:
    """Batches of changed slices; a step's batch follows from its number and the seed alone.

    Parameters
    ----------
    cases
        Where slices come from.
    frame, augment
        How they are cut and changed.
    window
        Hounsfield units that become 0 and 1.
    labels
        Class names, background first.
    batch_size
        Slices in a batch; the last batch of an epoch is filled up from the next.
    seed
        Any whole numbers.
    variants
        Different versions of each slice; epochs take them in turn, so that so
        many frozen embeddings a slice can be kept. 0: a new version every time.
    empty_share
        Share of slices without an organ that an epoch shows.
    repeat
        See :func:`repeat_rare`.
    coarse_steps
        Steps, from the first, whose slices are cut in larger pixels.

    Raises
    ------
    InputError
        If no case shows an organ.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        frame: Frame,
        augment: AugmentOptions,
        window: tuple[float, float],
        labels: Sequence[str],
        batch_size: int,
        seed: Sequence[int],
        variants: int = 0,
        empty_share: float = 1.0,
        repeat: float = 0.0,
        coarse_steps: int = 0,
    ) -> None:
        self.cases, self.frame, self.augment, self.window = list(cases), frame, augment, window
        self.batch_size, self.variants, self._seed = batch_size, variants, list(seed)
        self._twins = find_mirror_pairs(labels)
        self.places = _places(self.cases, empty_share, repeat, self._seed)
        self.coarse_steps = coarse_steps

    @property
    def epoch_steps(self) -> int:
        """Batches that show every slice once."""
        return max(1, -(-len(self.places) // self.batch_size))

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        frame = self.frame.coarsen() if step < self.coarse_steps else self.frame
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        drawn = [self._drawn(place, frame) for place in places]
        images = torch.stack([part for part, _ in drawn])
        labels = torch.stack([part for _, part in drawn])
        return Batch(images, labels, labels != IGNORE)

    def _drawn(self, place: int, frame: Frame) -> tuple[Tensor, Tensor]:
        epoch, number = divmod(place, len(self.places))
        order = np.random.default_rng([*self._seed, epoch]).permutation(len(self.places))
        chosen = int(order[number])
        version = epoch % self.variants if self.variants else epoch
        rng = np.random.default_rng([*self._seed, chosen, version])
        case, index = self.places[chosen]
        drawn = draw_slice(self.cases[case], index, rng, frame, self.augment, self._twins)
        low, high = self.window
        slices = ((drawn.slices - low) / (high - low)).clamp(0, 1)
        return slices, torch.from_numpy(drawn.labels.astype(np.int64))


def repeat_rare(shown: NDArray[np.bool_], threshold: float) -> NDArray[np.float64]:
    """How often an epoch shows each slice, ``(S,)`` of 1 and more, given the organs in each, ``(S, K)``.

    Repeat-factor sampling: ``max(1, sqrt(threshold / f))`` of the rarest
    organ in the slice, ``f`` the share of slices that show it (Gupta et al.
    2019, LVIS, arXiv:1908.03195). 0 shows every slice once.
    """
    shares = shown.mean(axis=0)
    factors = np.sqrt(threshold / np.maximum(shares, 1e-9))
    return np.where(shown, np.maximum(1.0, factors), 1.0).max(axis=1, initial=1.0)


def _organs(case: Case, classes: int) -> NDArray[np.bool_]:
    """Which organs each slice shows, ``(S, classes - 1)``."""
    counts = [np.bincount(part.ravel(), minlength=256)[1:classes] for part in case.labels]
    return np.stack(counts) > 0


def _places(
    cases: Sequence[Case], empty_share: float, repeat: float, seed: Sequence[int]
) -> list[tuple[int, int]]:
    """Case and slice of everything that an epoch shows."""
    filled = [case.filled for case in cases]
    if not any(part.any() for part in filled):
        raise InputError("no case shows an organ to learn: check the labels and the label map")
    rng = np.random.default_rng([*seed, len(cases)])
    shown = [part | (rng.random(len(part)) < empty_share) for part in filled]
    places = [(case, int(index)) for case, part in enumerate(shown) for index in np.flatnonzero(part)]
    if not repeat:
        return places
    organs = [_organs(case, IGNORE) for case in cases]
    factors = repeat_rare(np.stack([organs[case][index] for case, index in places]), repeat)
    counts = np.floor(factors + rng.random(len(places))).astype(int)
    return [place for place, count in zip(places, counts, strict=True) for _ in range(count)]


def score_case(truth: NDArray[np.uint8], found: NDArray[np.uint8], labels: Sequence[str]) -> dict[str, float]:
    """Dice of every organ that the truth shows, over a whole case; what is not known takes no part."""
    known = truth != IGNORE
    scores = {}
    for value, name in enumerate(labels):
        if value == 0 or not (truth == value).any():
            continue
        one, other = truth == value, (found == value) & known
        scores[name] = 2 * int((one & other).sum()) / int(one.sum() + other.sum())
    return scores


def average_dice(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over cases of every organ as ``"dice_ORGAN"``, and over organs of those as ``"dice"``."""
    names = list(dict.fromkeys(name for part in scores for name in part))
    means = {
        f"dice_{name}": float(np.mean([part[name] for part in scores if name in part])) for name in names
    }
    return {"dice": float(np.mean(list(means.values()))), **means} if means else {}
