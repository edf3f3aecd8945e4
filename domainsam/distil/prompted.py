"""EdgeSAM's second phase: prompts in the loop (Zhou et al. 2023, section 3.3 and its code's settings).

A round asks student and teacher the same. Where their masks differ lies the
point that the next round adds, so that the student is taught where it fails.
"""

from __future__ import annotations

import torch
from torch import Tensor

from domainsam.distil.asking import answer_fully, disagree, find_objects, start_prompts
from domainsam.distil.lessons import Lesson, Terms
from domainsam.distil.pairs import Pair
from domainsam.distil.pictures import ViewBatch
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks
from domainsam.train.distil import dice_loss, pixel_loss


class PromptLesson(Lesson):
    """Encoder and decoder learn the teacher's masks; the prompt encoder stays.

    Parameters
    ----------
    pair
        Teacher and student.
    prompts
        Of an image; at most 16 as published.
    rounds
        Times that both are asked; 2 as published.
    weight
        Of cross entropy and of Dice; 5 each as published.
    """

    learns = ("encoder", "decoder")

    def __init__(self, pair: Pair, prompts: int = 16, rounds: int = 2, weight: float = 5.0) -> None:
        super().__init__(pair)
        self.prompts, self.rounds, self.weight = prompts, rounds, weight

    def terms(self, batch: ViewBatch) -> Terms:
        with torch.no_grad():
            wanted = self.pair.teach(batch.images)
        own = self.student.encode(batch.images)
        boxed = bool(torch.rand(()) < 0.5)
        found = find_objects(self.pair.teacher, wanted, batch.extents, self.prompts)
        prompts = start_prompts(found.index, None if boxed else found.clicks, found.boxes if boxed else None)
        entropy, dice = own.image.new_zeros(()), own.image.new_zeros(())
        for number in range(self.rounds):
            told = answer_fully(self.pair.teacher, wanted, prompts, boxed)
            answer = self._ask(own, prompts, boxed)
            truth = told.logits > 0
            entropy = entropy + _compare(answer.logits, truth, entropy=True)
            dice = dice + _compare(answer.logits, truth, entropy=False)
            if number + 1 < self.rounds:
                prompts = self._add_point(prompts, told, answer)
        share = self.weight / self.rounds
        return {"entropy": (share, entropy), "dice_loss": (share, dice)}

    def _ask(self, features: Features, prompts: PromptSet, boxed: bool) -> Masks:
        answer = self.student.decode_all(features, prompts)
        return Masks(answer.logits[:, :1], answer.iou[:, :1]) if boxed else answer

    def _add_point(self, prompts: PromptSet, told: Masks, answer: Masks) -> PromptSet:
        """Prompts with a point each in what both disagree in, in the mask that the teacher trusts most."""
        rows, pick = torch.arange(len(prompts), device=told.iou.device), told.iou.argmax(1)
        truth, guess = told.logits[rows, pick] > 0, answer.logits[rows, pick] > 0
        point = disagree(truth, guess, self.pair.outside)
        points = point if prompts.points is None else torch.cat([prompts.points, point], 1)
        return prompts.replace(points=points)


def _compare(logits: Tensor, truth: Tensor, entropy: bool) -> Tensor:
    """Mean cross entropy, or Dice loss, of masks ``(N, K, h, w)`` each with its own truth."""
    logits, truth = logits.float().flatten(0, 1)[:, None], truth.float().flatten(0, 1)[:, None]
    return (pixel_loss(logits, truth, focal=False) if entropy else dice_loss(logits, truth)).mean()
