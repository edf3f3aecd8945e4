"""SAM-Lightening's layer-wise distillation, then alignment of the decoder (Song et al. 2024, section 3.3).

The first layer learns from the beginning; each further one joins when the one
before it has its full weight, and its own weight rises linearly. Layers learn
from the teacher's last ones. No code was published: the length of the rise, the
weight of the output's error (1 here), the projections between widths (1 x 1
convolutions here) and the decoder's weights (SAM's own 20 : 1 : 1 here) are not
printed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.distil.asking import find_objects, start_prompts
from domainsam.distil.lessons import Lesson, Terms, enlarge, feature_terms, masked_error, spread
from domainsam.distil.pairs import Pair
from domainsam.distil.pictures import ViewBatch
from domainsam.distil.taps import as_map, split_layers, tap
from domainsam.train.distil import mask_loss

OUTPUT_WEIGHT = 1.0
"""Lambda of the paper, which does not say it."""


def layer_weights(step: float, count: int, rise: float) -> list[float]:
    """Weights of ``count`` layers after so many steps: ``alpha_1 = 1``, the others rise one after another.

    Layer ``i`` (from 1) has 0 before ``T_i = (i - 2) * rise``, then
    ``(step - T_i) / rise``, and 1 from ``T_i + rise`` on.
    """
    return [1.0] + [min(1.0, max(0.0, (step - number * rise) / rise)) for number in range(count - 1)]


class LayerLesson(Lesson):
    """The encoder's layers learn from the teacher's, and its features from the teacher's.

    Parameters
    ----------
    pair
        The teacher's ``teach`` gives its last layers too, see
        :class:`domainsam.distil.taps.TappedTeacher`.
    widths, teacher_widths
        Channels of the student's layers and of the teacher's.
    rise
        Steps in which a layer's weight rises from 0 to 1.
    """

    def __init__(
        self, pair: Pair, widths: list[int], teacher_widths: list[int], rise: float, seed: int = 0
    ) -> None:
        super().__init__(pair)
        self.rise, self.count = rise, len(widths)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projections = nn.ModuleList(
                nn.Conv2d(own, theirs, 1) for own, theirs in zip(widths, teacher_widths, strict=True)
            )

    def terms(self, batch: ViewBatch) -> Terms:
        with torch.no_grad():
            wanted, truths = split_layers(self.pair.teach, batch.images, self.count)
        with tap(self.student.encoder) as seen:
            own = self.student.encode(batch.images)
        grid = (own.image.shape[-2], own.image.shape[-1])
        valid, total = batch.valid(), own.image.new_zeros(())
        weights = layer_weights(batch.step, self.count, self.rise)
        layers = zip(weights, self.projections, seen[-self.count :], truths, strict=True)
        for weight, projection, layer, truth in layers:
            if weight:
                there = enlarge(valid, truth)
                guess = projection(as_map(layer, grid).float())
                guess = F.interpolate(guess, truth.shape[-2:], mode="bilinear", align_corners=False)
                # In units of the teacher's variance: residual streams grow with depth.
                total = total + weight * masked_error(guess, truth, there) / spread(truth, there)
        outputs = feature_terms(own, wanted, batch)
        return {"layers": (1.0, total), **{name: (OUTPUT_WEIGHT * w, v) for name, (w, v) in outputs.items()}}


class DecoderLesson(Lesson):
    """The encoder stays, the decoder learns the teacher's answers to clicks and boxes with SAM's loss.

    Parameters
    ----------
    pair
        Teacher and student.
    prompts
        Of each kind and image.
    """

    learns = ("decoder",)

    def __init__(self, pair: Pair, prompts: int = 8) -> None:
        super().__init__(pair)
        self.prompts = prompts

    def terms(self, batch: ViewBatch) -> Terms:
        with torch.no_grad():
            wanted = self.pair.teach(batch.images)
            own = self.student.encode(batch.images)
        found = find_objects(self.pair.teacher, wanted, batch.extents, self.prompts)
        found = found[found.good]
        if not len(found):
            nothing: Tensor = own.image.new_zeros(())
            return {"clicks": (1.0, nothing), "boxes": (1.0, nothing)}
        clicks = self.student.decode_all(own, start_prompts(found.index, found.clicks))
        boxes = self.student.decode_all(own, start_prompts(found.index, boxes=found.boxes))
        return {
            "clicks": (0.5, mask_loss(clicks, found.masks, ambiguous=True, published=True)),
            "boxes": (0.5, mask_loss(boxes, found.masks, ambiguous=False, published=True)),
        }
