"""Loss of a training batch, with sensors dropped at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.memory.prototypes import PrototypeOptions, Prototypes
from domainsam.train.losses import IGNORE, hard_pixel_loss
from domainsam_scene.model.build import AnyNetwork

FINEST = 32
"""Channels of the finest level, which prototypes are made of."""


@dataclass(frozen=True)
class SceneBatch:
    """Registered images ``(B, 3, H, W)`` float32 in 0 to 1 by sensor, and labels ``(B, H, W)`` int64.

    ``present`` ``(B,)`` bool by sensor, on the CPU, says which scenes have it; all do where it is left out.
    """

    images: Mapping[str, Tensor]
    labels: Tensor
    present: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> SceneBatch:
        """The batch on another device."""
        images = {name: image.to(device) for name, image in self.images.items()}
        return SceneBatch(images, self.labels.to(device), self.present)

    def groups(self, kept: tuple[str, ...]) -> list[tuple[tuple[str, ...], list[int]]]:
        """Scenes that have the same sensors among ``kept``: the sensors, and the scenes' numbers.

        A scene that has none of them keeps all of its own instead.
        """
        found: dict[tuple[str, ...], list[int]] = {}
        for number in range(len(self.labels)):
            own = tuple(
                name for name in self.images if name not in self.present or bool(self.present[name][number])
            )
            names = tuple(name for name in own if name in kept) or own
            found.setdefault(names, []).append(number)
        return list(found.items())


@dataclass(frozen=True)
class LearningOptions:
    """How faults are weighed.

    Parameters
    ----------
    drop
        Chance that a batch lacks a sensor, for each sensor; one always stays.
        0 as published for both methods.
    auxiliary
        Weight of the second head's own loss.
    each
        Weight of the loss of every frame's own answer, so that one sensor
        alone is an answer too; 0 as published.
    dice
        Weight of soft Dice over classes, 0 as published.
    balance
        Weigh classes by the inverse root of how frequent they are; :func:`unweigh` takes it
        out of a trained network.
    prototypes
        MemorySAM's prototypes; weight 0 leaves them out.
    """

    drop: float = 0.3
    auxiliary: float = 0.4
    each: float = 0.3
    dice: float = 0.5
    balance: bool = False
    prototypes: PrototypeOptions = field(default_factory=lambda: PrototypeOptions(weight=0.1))


PUBLISHED = LearningOptions(
    drop=0.0, auxiliary=1.0, each=0.0, dice=0.0, prototypes=PrototypeOptions(twice=True, absent=True)
)
"""MemorySAM's code; of MLE-SAM the weight of the second head is not known."""


class SceneObjective(nn.Module):
    """The loss of a batch; ``"loss"`` and its parts.

    Parameters
    ----------
    network
        What is trained.
    options
        How faults are weighed.
    frequency
        ``(K,)`` share of each class, where classes are to be balanced.
    """

    weights: Tensor | None

    def __init__(
        self, network: AnyNetwork, options: LearningOptions, frequency: Tensor | None = None
    ) -> None:
        super().__init__()
        self.network, self.options = network, options
        classes = len(network.config.labels)
        remembers = network.config.remembers and options.prototypes.weight > 0
        self.prototypes = Prototypes(classes, FINEST, options.prototypes) if remembers else None
        weights = compute_class_weights(frequency) if options.balance and frequency is not None else None
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """Loss of a batch, some of its sensors left out."""
        kept = choose_kept(tuple(batch.images), self.options.drop)
        groups = [(names, rows) for names, rows in batch.groups(kept) if names]
        if not groups:
            raise ConfigError("not one scene of a batch has a sensor; leave such scenes out")
        outputs = self.network.answer(
            [{name: batch.images[name][rows] for name in names} for names, rows in groups]
        )
        truths = [batch.labels[rows] for _, rows in groups]
        labels = torch.cat(truths)
        parts = {"answer": self._fault(torch.cat([output.logits for output in outputs]), labels)}
        second = [output.auxiliary for output in outputs if output.auxiliary is not None]
        if second and self.options.auxiliary:
            parts["second"] = self.options.auxiliary * self._fault(torch.cat(second), labels)
        if self.network.config.remembers and self.options.each:
            pairs = [
                (output.per_modality, truth)
                for output, truth in zip(outputs, truths, strict=True)
                if len(output.per_modality) > 1
            ]
            if pairs:
                parts["each"] = self.options.each * self._each(pairs)
        if self.prototypes is not None:
            finest = torch.cat([output.finest for output in outputs])
            parts["prototypes"] = self.options.prototypes.weight * self.prototypes(finest, labels)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _fault(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = hard_pixel_loss(logits, labels, self.weights)
        if self.options.dice:
            loss = loss + self.options.dice * soft_dice(logits, labels)
        return loss

    def _each(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Mean loss of every sensor's own answer ``(M, B, K, h, w)``, at its own size, by scenes."""
        faults, weights = [], []
        for logits, labels in pairs:
            size = (logits.shape[-2], logits.shape[-1])
            small = F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()
            faults += [self._fault(own, small) for own in logits]
            weights += [len(labels)] * len(logits)
        share = torch.tensor(weights, device=faults[0].device) / sum(weights)
        return (torch.stack(faults) * share).sum()


def compute_class_weights(frequency: Tensor) -> Tensor:
    """Weight of each class, 1 in the mean: the inverse root of its share of all pixels, ``(K,)``."""
    weights = frequency.clamp(min=1e-3) ** -0.5
    return weights / weights.mean()


def unweigh(network: AnyNetwork, weights: Tensor, part: float = 1.0) -> None:
    """Take classes' weights out of a trained network's answer.

    What is learnt with weighted cross-entropy answers with probabilities
    that are too great by the weights; less their logarithm, logits are those
    of the true frequencies. ``part`` of that is done, 1 being all.

    Raises
    ------
    ConfigError
        If the network has no second head, which is where it is done.
    """
    if network.head is None:
        raise ConfigError(f"method {network.config.method!r} has no head to take classes' weights out of")
    bias = network.head.classify.bias
    assert bias is not None
    with torch.no_grad():
        bias.sub_(part * weights.to(bias).log())


def choose_kept(names: tuple[str, ...], drop: float) -> tuple[str, ...]:
    """Choose the sensors that a batch keeps: each is dropped by chance, at least one stays."""
    if not drop:
        return names
    stays = torch.rand(len(names)) >= drop
    if not stays.any():
        stays[torch.randint(len(names), (1,))] = True
    return tuple(name for name, stay in zip(names, stays.tolist(), strict=True) if stay)


def soft_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """``1 - Dice``, the mean over the classes that a batch has; ``(B, K, H, W)`` and ``(B, H, W)``."""
    known = labels != IGNORE
    inside = logits.float().softmax(1) * known[:, None]
    truth = F.one_hot(labels.where(known, 0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    overlap = (inside * truth).sum((0, 2, 3))
    total = inside.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    there = truth.sum((0, 2, 3)) > 0
    faults: Tensor = 1 - (2 * overlap[there] + 1) / (total[there] + 1)
    return faults.mean() if len(faults) else logits.sum() * 0
