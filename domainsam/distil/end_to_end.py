"""EfficientViT-SAM's end-to-end training (Zhang et al. 2024, section 3.2 and its code's settings).

Boxes for one half of the batches, one to ten points for the other; one mask
for one half, the best of three for the other. Masks are compared at points
that are chosen as PointRend does (Kirillov et al. 2020, section 3.3): more
where the answer is unsure.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.distil.asking import Objects, draw_inside, find_objects, start_prompts
from domainsam.distil.lessons import Lesson, Terms
from domainsam.distil.pairs import Pair
from domainsam.distil.pictures import ViewBatch
from domainsam.prompts import PromptSet
from domainsam.train.distil import dice_loss, pixel_loss

POINTS = 12544
"""Compared of a mask: 112 x 112."""
OVERSAMPLE, IMPORTANCE = 3, 0.75
"""So many times the points are looked at; so large a share of those kept are the least sure of them."""
MOST_CLICKS = 10
FIRST_WEIGHT = 20.0
"""Of focal loss (the paper) or cross entropy (its code) beside Dice."""


class EndToEndLesson(Lesson):
    """Everything learns to give the teacher's objects from boxes and from points.

    Parameters
    ----------
    pair
        Teacher and student.
    masks
        Objects of an image; at most 64 as published.
    loss
        ``"focal"`` as the paper prints, ``"entropy"`` as its code computes.
    points
        At which masks are compared.
    """

    learns = ("encoder", "prompts", "decoder")

    def __init__(
        self,
        pair: Pair,
        masks: int = 64,
        loss: Literal["focal", "entropy"] = "focal",
        points: int = POINTS,
    ) -> None:
        super().__init__(pair)
        self.masks, self.focal, self.points = masks, loss == "focal", points

    def terms(self, batch: ViewBatch) -> Terms:
        with torch.no_grad():
            wanted = self.pair.teach(batch.images)
        own = self.student.encode(batch.images)
        found = find_objects(self.pair.teacher, wanted, batch.extents, self.masks)
        found = found[found.good]
        if not len(found):
            # Nothing to ask for, and nothing to learn from.
            nothing = own.image.new_zeros(())
            return {"masks": (FIRST_WEIGHT, nothing), "dice_loss": (1.0, nothing)}
        several = bool(torch.rand(()) < 0.5)
        answer = self.student.decode_all(own, self._prompts(found))
        logits = answer.logits[:, 1:] if several else answer.logits[:, :1]
        first, dice = self._compare(logits.float(), found.masks)
        # Of three readings only the best one learns.
        best = (FIRST_WEIGHT * first + dice).argmin(1, keepdim=True)
        return {
            "masks": (FIRST_WEIGHT, first.gather(1, best).mean()),
            "dice_loss": (1.0, dice.gather(1, best).mean()),
        }

    def _prompts(self, found: Objects) -> PromptSet:
        if torch.rand(()) < 0.5:
            return start_prompts(found.index, boxes=found.boxes)
        count = int(torch.randint(1, min(MOST_CLICKS, self.pair.most_points) + 1, ()))
        return start_prompts(found.index, points=draw_inside(found.masks, count))

    def _compare(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel loss and Dice loss ``(N, K)`` of logits ``(N, K, h, w)`` and masks ``(N, h, w)``."""
        count, readings = logits.shape[:2]
        flat = logits.flatten(0, 1)[:, None]
        truth = masks.float()[:, None].repeat_interleave(readings, 0)
        places = choose_places(flat, self.points)
        seen = F.grid_sample(flat, places, align_corners=False)
        wanted = F.grid_sample(truth, places, align_corners=False)
        first = pixel_loss(seen, wanted, self.focal).view(count, readings)
        return first, dice_loss(seen, wanted).view(count, readings)


@torch.no_grad()
def choose_places(logits: Tensor, points: int) -> Tensor:
    """Places ``(N, 1, points, 2)`` in -1 to 1 at which to compare logits ``(N, 1, h, w)``.

    Of ``OVERSAMPLE * points`` by chance the least sure are kept for the share
    :data:`IMPORTANCE`; the rest is by chance alone. No more than the map has pixels.
    """
    count = len(logits)
    points = min(points, logits.shape[-2] * logits.shape[-1])
    unsure = int(IMPORTANCE * points)
    drawn = (torch.rand(count, 1, OVERSAMPLE * points, 2) * 2 - 1).to(logits)
    sure = F.grid_sample(logits, drawn, align_corners=False)[:, 0, 0].abs()
    keep = sure.topk(unsure, dim=1, largest=False).indices
    chosen = drawn[:, 0].gather(1, keep[..., None].expand(-1, -1, 2))
    others = (torch.rand(count, points - unsure, 2) * 2 - 1).to(logits)
    return torch.cat([chosen, others], 1)[:, None]
