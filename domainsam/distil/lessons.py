"""What every recipe's objective shares, and the plainest of them: the error of features.

Zhang et al. 2023 (MobileSAM, section 3) and Zhou et al. 2023 (EdgeSAM, section 3.2) let an encoder alone
copy its teacher's features, by their mean squared error, and keep the teacher's decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.distil.pairs import Pair
from domainsam.distil.pictures import STRIDE, ViewBatch
from domainsam.distil.students import Part
from domainsam.protocols import Features

LEVEL_WEIGHT = 0.4
"""Of each finer level beside the coarsest one, as in ``recipes/scene/distil.py``; SAM has none."""

Terms = Mapping[str, tuple[float, Tensor]]
"""Parts of a loss by name: weight and value; the loss is the sum of their products."""


class Lesson(nn.Module, ABC):
    """An objective of :class:`domainsam.train.loop.Stage`.

    ``learns`` are the student's parts that learn.
    """

    learns: tuple[Part, ...] = ("encoder",)

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.student = pair.student
        # A tuple hides the teacher from the module's own lists: it neither learns nor is saved.
        self._pair = (pair,)

    @property
    def pair(self) -> Pair:
        """Teacher and student."""
        return self._pair[0]

    @abstractmethod
    def terms(self, batch: ViewBatch) -> Terms:
        """Parts of the loss of a batch."""

    def prepare(self) -> None:
        """Let the parts learn that the recipe says."""
        parts = self.learns
        if not self.pair.adopted and "decoder" in parts and "prompts" not in parts:
            # A prompt encoder that nobody taught anything has to learn too.
            parts = (*parts, "prompts")
        self.student.learn(*parts)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``"loss"``, and its parts by name."""
        terms = self.terms(batch)
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        # Which parts a prompt makes use of is up to chance, and every process must step with the others.
        unused = sum((part.sum() for part in self.parameters() if part.requires_grad), loss.new_zeros(()))
        return {"loss": loss + 0 * unused, **{name: value.detach() for name, (_, value) in terms.items()}}


class FeatureLesson(Lesson):
    """The encoder copies the teacher's features; what is padding counts for nothing."""

    def terms(self, batch: ViewBatch) -> Terms:
        with torch.no_grad():
            wanted = self.pair.teach(batch.images)
        return feature_terms(self.student.encode(batch.images), wanted, batch)


def feature_terms(own: Features, wanted: Features, batch: ViewBatch, shown: Tensor | None = None) -> Terms:
    """``features``: the mean squared error where the picture is; ``levels``: that of finer levels.

    The coarsest features end in a norm and have a scale of their own. Finer
    levels do not: their error is in units of the teacher's variance, and
    counts where ``shown`` ``(B, 1, h, w)`` is true, if that is given.
    """
    valid = batch.valid(STRIDE)
    terms = {"features": (1.0, masked_error(own.image, wanted.image, valid))}
    if not wanted.levels:
        return terms
    total = own.image.new_zeros(())
    for level, truth in zip(own.levels, wanted.levels, strict=True):
        there = enlarge(valid if shown is None else valid & shown, truth)
        total = total + masked_error(level, truth, there) / spread(truth, there)
    return {**terms, "levels": (LEVEL_WEIGHT, total)}


def masked_error(own: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of ``(B, C, h, w)`` over the elements of ``valid`` ``(B, 1, h, w)``."""
    squares = (own.float() - wanted.float()).square() * valid
    return squares.sum() / (valid.sum() * own.shape[1]).clamp(min=1)


def spread(values: Tensor, valid: Tensor) -> Tensor:
    """Mean variance of the channels of ``(B, C, h, w)`` over the elements of ``valid``, without gradient."""
    with torch.no_grad():
        chosen = values.float().movedim(1, 0)[:, valid[:, 0].expand(values.shape[0], -1, -1)]
        if chosen.shape[1] < 2:
            return values.new_ones(())
        return chosen.var(dim=1).mean() + 1e-6


def enlarge(valid: Tensor, like: Tensor) -> Tensor:
    """Where elements count, ``(B, 1, h, w)`` bool, at the size of other features."""
    if valid.shape[-2:] == like.shape[-2:]:
        return valid
    return F.interpolate(valid.float(), like.shape[-2:], mode="nearest") > 0
