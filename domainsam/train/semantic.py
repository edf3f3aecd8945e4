"""Loss of class maps that listens to hard pixels (OHEM), as MemorySAM and CMNeXt train with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.train.losses import IGNORE

EASY = 0.7
"""Probability of the true class above which a pixel is easy (Shrivastava et al. 2016; as published)."""
LEAST_SHARE = 16
"""At least one in so many known pixels counts, however easy they all are."""


def hard_pixel_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross entropy of the pixels that are not easy; of the hardest sixteenth where those are fewer.

    Parameters
    ----------
    logits
        ``(B, K, H, W)``.
    labels
        ``(B, H, W)`` int64, :data:`domainsam.train.losses.IGNORE` where unknown.
    weights
        ``(K,)`` weights of the classes, or None for equal ones.

    Returns
    -------
    Tensor
        0 where no pixel is known.
    """
    known = labels != IGNORE
    loss = F.cross_entropy(logits.float(), labels, weights, ignore_index=IGNORE, reduction="none")[known]
    if not len(loss):
        return logits.sum() * 0
    least = max(1, len(loss) // LEAST_SHARE)
    hard = loss[loss > -math.log(EASY)]
    if len(hard) < least:
        hard = torch.topk(loss, least).values
    return hard.mean()
