"""Learn a head from features: the cosine of its vector to words, by cross-entropy over all concepts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.vocabulary.word_network import WordHead
from recipes.words.concepts import Concept
from recipes.words.features import Samples


@dataclass(frozen=True)
class LearnOptions:
    """Lengths and rates of a head's training, chosen by cross-validation on training pictures."""

    epochs: int = 40
    batch: int = 256
    rate: float = 2e-3
    decay: float = 0.02
    drop: float = 0.5
    noise: float = 0.05
    """Spread of what is added to the vectors of words, so that a neighbourhood of each is learnt."""
    scale: float = 20.0
    """Factor of cosines before the softmax."""
    balance: float = 0.5
    """A concept with n samples is drawn as n to this power."""


@dataclass(frozen=True, eq=False)
class Words:
    """Vectors ``(M, D)`` of known words and the concepts ``(M,)`` that they name."""

    vectors: Tensor
    owners: NDArray[np.int64]

    def draw(self, rng: np.random.Generator, noise: float) -> Tensor:
        """One word's vector ``(C, D)`` for every concept, or the mean of all its words, jittered."""
        counts = np.bincount(self.owners)
        chosen = np.cumsum(counts) - counts + (rng.random(len(counts)) * counts).astype(np.int64)
        alone = torch.from_numpy(rng.random((len(counts), 1)) < 0.5)
        found = torch.where(alone, self.vectors[torch.from_numpy(chosen)], self.means())
        jitter = torch.from_numpy(rng.standard_normal(tuple(found.shape)).astype(np.float32))
        return F.normalize(found + noise * F.normalize(jitter, dim=1), dim=1)

    def means(self) -> Tensor:
        """The mean vector ``(C, D)`` of every concept's words, of length one."""
        owners = torch.from_numpy(self.owners)
        sums = torch.zeros(int(owners.max()) + 1, self.vectors.shape[1]).index_add(0, owners, self.vectors)
        return F.normalize(sums, dim=1)


def gather_words(concepts: list[Concept], vectors: NDArray[np.float32]) -> Words:
    """Words of all concepts, of vectors in the concepts' order."""
    owners = np.array([number for number, one in enumerate(concepts) for _ in one.words])
    return Words(torch.from_numpy(vectors[: len(owners)]), owners)


def learn_head(
    samples: Samples,
    words: Words,
    options: LearnOptions,
    seed: int = 0,
    without: NDArray[np.int64] | None = None,
) -> WordHead:
    """A head learnt from samples; concepts in ``without`` are neither shown nor told apart."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    features, targets = samples.features.float(), samples.concepts
    counts = torch.bincount(targets, minlength=int(words.owners.max()) + 1).float()
    head = WordHead(features.shape[1])
    head.shift.copy_(features.mean(dim=0))
    head.spread.copy_(features.std(dim=0).clamp(min=1e-3))
    hidden = torch.zeros(len(counts))
    if without is not None:
        hidden[torch.from_numpy(without)] = -torch.inf
    weights = counts[targets] ** (options.balance - 1) * (hidden[targets] == 0)
    steps = max(1, options.epochs * len(features) // options.batch)
    optimiser = torch.optim.AdamW(head.parameters(), options.rate, weight_decay=options.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, steps, pct_start=0.1)
    head.train()
    for _ in range(steps):
        rows = torch.multinomial(weights, options.batch, replacement=True)
        vectors = head(features[rows], options.drop)
        logits = options.scale * vectors @ words.draw(rng, options.noise).T + hidden
        loss = F.cross_entropy(logits, targets[rows], label_smoothing=0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


@torch.inference_mode()
def cosines(head: WordHead, samples: Samples, prototypes: Tensor) -> Tensor:
    """Cosines ``(N, C)`` of samples to concepts."""
    found: Tensor = head(samples.features.float()) @ prototypes.T
    return found


def fit_temperature(values: Tensor, targets: Tensor) -> float:
    """The factor of cosines that makes their softmax most likely; of samples that no training saw."""
    grid = torch.linspace(4, 40, 73)
    losses = torch.stack([F.cross_entropy(values * factor, targets) for factor in grid])
    return float(grid[losses.argmin()])


def take(samples: Samples, chosen: Tensor) -> Samples:
    """Some of the samples."""
    return Samples(samples.features[chosen], samples.concepts[chosen], samples.pictures[chosen])


def split_folds(pictures: Tensor, folds: int = 5) -> Tensor:
    """A fold ``(N,)`` for every sample: all of a picture's are in one."""
    return (pictures * 2654435761 % 2**32) % folds
