"""Losses of the specialist: a class map for the coarse mask, one binary mask for every prompt.

The joint loss is UV-SAM's (Zhang et al. 2024, section "Training"): cross
entropy of the coarse mask, plus a weight times focal loss, soft Dice and the
squared error of the predicted IoU, averaged over prompts. Pixels labelled
:data:`IGNORE` take no part in any of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.prompts import PromptSet
from domainsam.protocols import Masks

IGNORE = 255
"""Label of pixels about which nothing is known."""
DICE_SMOOTH = 1.0
"""Added above and below, so that an empty mask of an empty truth is without fault (Milletari et al. 2016)."""


@dataclass(frozen=True)
class LossOptions:
    """How faults are weighed; the defaults are the published loss.

    Parameters
    ----------
    positive_weight
        Weight of settlement pixels in the cross entropy; above 1 where they are rare.
    label_smoothing
        Share of each pixel's target that is spread over the classes.
    coarse_dice
        Weight of soft Dice beside the cross entropy of the coarse mask.
    prompt_weight
        Weight of the prompts' losses: 0.1 (Beijing) or 1 (Xi'an) as published.
    focal_alpha, focal_gamma
        Lin et al. 2017; the values are those of the published code.
    outside_box
        What settlement outside a prompt's box is to that prompt:
        ``"background"`` as published, or ``"ignore"``, which does not punish
        a mask for going beyond a box that was too small.
    focal_of
        Focal loss of each pixel, then its mean (Lin et al. 2017); or, as
        UV-SAM's code, of the mean entropy of a mask's pixels, ``focal_alpha`` weighing all of them.
    """

    positive_weight: float = 1.0
    label_smoothing: float = 0.0
    coarse_dice: float = 0.0
    prompt_weight: float = 0.1
    focal_alpha: float = 0.8
    focal_gamma: float = 2.0
    outside_box: Literal["background", "ignore"] = "background"
    focal_of: Literal["pixels", "mean"] = "pixels"


def cross_entropy(
    logits: Tensor, labels: Tensor, positive_weight: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    """Weighted mean over known pixels, 0 where none is known.

    Parameters
    ----------
    logits
        ``(B, K, H, W)``.
    labels
        ``(B, H, W)`` int64, ``0 .. K - 1`` or :data:`IGNORE`.
    positive_weight
        Weight of every class but 0.
    """
    weights = logits.new_full((logits.shape[1],), positive_weight)
    weights[0] = 1.0
    total = F.cross_entropy(
        logits, labels, weights, ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
    )
    known = labels != IGNORE
    mass = (weights[labels.where(known, 0)] * known).sum()
    return total / mass.clamp(min=1.0)


def soft_dice(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """``1 - Dice`` of each mask, ``(N,)``; logits, target (0 or 1) and known (bool) are ``(N, H, W)``."""
    inside = torch.sigmoid(logits) * known
    truth = target * known
    overlap = (inside * truth).sum((1, 2))
    total = inside.sum((1, 2)) + truth.sum((1, 2))
    return 1 - (2 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH)


def focal(logits: Tensor, target: Tensor, known: Tensor, alpha: float = 0.8, gamma: float = 2.0) -> Tensor:
    """Focal loss of each mask, a mean over its known pixels, ``(N,)``; arguments ``(N, H, W)``.

    ``alpha`` weighs settlement, ``1 - alpha`` the rest (Lin et al. 2017).
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = torch.exp(-entropy)
    weight = alpha * target + (1 - alpha) * (1 - target)
    fault = weight * (1 - right).pow(gamma) * entropy * known
    return fault.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)


def focal_of_mean(
    logits: Tensor, target: Tensor, known: Tensor, alpha: float = 0.8, gamma: float = 2.0
) -> Tensor:
    """``alpha (1 - exp(-e))^gamma e`` of the mean entropy ``e`` of each mask's known pixels, ``(N,)``.

    As UV-SAM's released code; arguments as for :func:`focal`.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known
    mean = entropy.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
    return alpha * (1 - torch.exp(-mean)).pow(gamma) * mean


def iou_error(logits: Tensor, target: Tensor, known: Tensor, predicted: Tensor) -> Tensor:
    """Squared error ``(N,)`` of predicted IoU ``(N,)`` against that of the masks ``logits > 0``.

    A mask that is empty where the truth is empty has IoU 1.
    """
    inside, truth = (logits > 0) & known, (target > 0.5) & known
    shared = (inside & truth).sum((1, 2)).float()
    either = (inside | truth).sum((1, 2)).float()
    actual = torch.where(either > 0, shared / either.clamp(min=1), torch.ones_like(shared))
    return (predicted.float() - actual).square()


def coarse_loss(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """Loss of coarse logits ``(B, K, h, w)`` against labels ``(B, H, W)``, compared at the labels' size."""
    logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
    loss = cross_entropy(logits, labels, options.positive_weight, options.label_smoothing)
    if options.coarse_dice:
        # One Dice over the whole batch: a crop without settlement would make a Dice of its own erratic.
        known = (labels != IGNORE).flatten()[None, None]
        inside = torch.log_softmax(logits, 1)
        odds = (torch.logsumexp(inside[:, 1:], 1) - inside[:, 0]).flatten()[None, None]
        target = ((labels > 0) & (labels != IGNORE)).float().flatten()[None, None]
        loss = loss + options.coarse_dice * soft_dice(odds, target, known).mean()
    return loss


def prompt_targets(
    prompts: PromptSet, boxes: Tensor, labels: Tensor, outside: Literal["background", "ignore"] = "background"
) -> tuple[Tensor, Tensor]:
    """What each prompt should answer, and where that is known; float and bool, ``(N, H, W)``.

    Inside its box a prompt's target is the truth. A pixel belongs to a box if
    its centre does. The target of a box without truth is empty, not missing.

    Parameters
    ----------
    prompts
        For ``image_index``.
    boxes
        ``(N, 4)`` in pixels of the labels, exclusive edges. Given apart,
        since an ablation may have taken the boxes from the prompts.
    labels
        ``(B, H, W)``, 0, a class, or :data:`IGNORE`.
    outside
        See :class:`LossOptions`.
    """
    height, width = labels.shape[-2:]
    ys = torch.arange(height, device=labels.device) + 0.5
    xs = torch.arange(width, device=labels.device) + 0.5
    x1, y1, x2, y2 = boxes.float()[:, :, None].unbind(1)
    across, down = (xs >= x1) & (xs < x2), (ys >= y1) & (ys < y2)
    inside = down[:, :, None] & across[:, None, :]
    own = labels[prompts.image_index]
    known = own != IGNORE
    settled = (own > 0) & known
    if outside == "ignore":
        known = known & (inside | ~settled)
    return (settled & inside).float(), known


def prompt_loss(logits: Tensor, iou: Tensor, target: Tensor, known: Tensor, options: LossOptions) -> Tensor:
    """Focal + Dice + squared IoU error, averaged over the prompts; 0 without prompts.

    Only prompts that were decoded are counted. The published code also adds a
    constant for every contour it has rejected, and divides by their number.

    Parameters
    ----------
    logits
        ``(N, 1, h, w)``, brought to the target's size.
    iou
        ``(N, 1)``, the foundation's own estimate.
    target, known
        From :func:`prompt_targets`.
    """
    if not len(logits):
        return logits.sum() + iou.sum()
    full = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    weigh = focal if options.focal_of == "pixels" else focal_of_mean
    faults = weigh(full, target, known, options.focal_alpha, options.focal_gamma)
    faults = faults + soft_dice(full, target, known)
    return (faults + iou_error(full, target, known, iou[:, 0])).mean()


def joint_loss(
    coarse_logits: Tensor,
    masks: Masks,
    prompts: PromptSet,
    boxes: Tensor,
    labels: Tensor,
    options: LossOptions,
) -> tuple[Tensor, Tensor]:
    """The published loss: the coarse part, and the prompts' part already weighted.

    Parameters
    ----------
    coarse_logits
        ``(B, K, h, w)``.
    masks
        The answers to the prompts, ``K = 1``.
    prompts, boxes, labels
        As for :func:`prompt_targets`.
    """
    coarse = coarse_loss(coarse_logits, labels, options)
    target, known = prompt_targets(prompts, boxes, labels, options.outside_box)
    return coarse, options.prompt_weight * prompt_loss(masks.logits, masks.iou, target, known, options)


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
