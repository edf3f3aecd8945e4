"""How near a student is to its teacher on pictures that took no part in the training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.distil.asking import find_objects, start_prompts
from domainsam.distil.lessons import masked_error, spread
from domainsam.distil.pairs import Pair
from domainsam.distil.pictures import ViewBatch, Views
from domainsam.protocols import Features, Masks

SCORE = "feature_error"
CLICKS = 8
"""On every picture."""
SEED = 1


@torch.no_grad()
def judge(pair: Pair, views: Views, limit: int = 32) -> dict[str, float]:
    """Compare features and masks on whole pictures.

    Parameters
    ----------
    pair
        The student in evaluation mode.
    views
        Of the pictures; the whole ones are looked at.
    limit
        Pictures that are judged at most, the first ones.

    Returns
    -------
    dict
        ``feature_error``: squared error in units of the teacher's variance, 0 for equal features, 1 for
        their mean; ``feature_cosine``; ``box_iou`` and ``click_iou``: mean IoU of the student's masks with
        the teacher's at the same boxes and clicks, left out where the teacher finds nothing.
    """
    errors: list[float] = []
    cosines: list[float] = []
    ious: dict[str, list[float]] = {"box_iou": [], "click_iou": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for number in range(min(limit, len(views.pictures))):
            batch = views.gather([number * views.views]).to(pair.teacher.device)
            wanted, own = pair.teach(batch.images), pair.student.encode(batch.images)
            valid = batch.valid()
            error = masked_error(own.image, wanted.image, valid) / spread(wanted.image, valid)
            errors.append(float(error))
            alike = F.cosine_similarity(own.image.float(), wanted.image.float(), dim=1)
            cosines.append(float(alike[valid[:, 0]].mean()))
            for name, values in _compare_masks(pair, batch, wanted, own).items():
                ious[name] += values
    scores = {SCORE: _mean(errors), "feature_cosine": _mean(cosines)}
    return scores | {name: _mean(values) for name, values in ious.items() if values}


def _compare_masks(pair: Pair, batch: ViewBatch, wanted: Features, own: Features) -> dict[str, list[float]]:
    """IoU of both masks at every object that the teacher finds."""
    found = find_objects(pair.teacher, wanted, batch.extents, CLICKS)
    found = found[found.good]
    if not len(found):
        return {}
    asked = start_prompts(found.index, boxes=found.boxes)
    boxed = pair.teacher.decode(wanted, asked).logits[:, 0] > 0
    answer = pair.student.decode_all(own, asked).logits[:, 0] > 0
    clicked = pair.student.decode_all(own, start_prompts(found.index, found.clicks))
    best = Masks(clicked.logits[:, 1:], clicked.iou[:, 1:]).best().logits[:, 0] > 0
    return {"box_iou": _iou(answer, boxed), "click_iou": _iou(best, found.masks)}


def _iou(one: Tensor, other: Tensor) -> list[float]:
    """IoU of pairs of masks ``(N, h, w)`` bool; two empty ones agree."""
    both, either = (one & other).sum((1, 2)), (one | other).sum((1, 2))
    values: list[float] = torch.where(either > 0, both / either.clamp(min=1), 1.0).tolist()
    return values


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
