"""PerSAM and PerSAM-F on one picture in the order of operations of their public code, for comparison with it.

After Zhang et al. 2023 and the order of operations of ``persam.py`` and ``persam_f.py`` in
ZrrSkywalker/Personalize-SAM (MIT). What is odd there is kept: the reference mask goes through the
pixels' normalisation, similarity is squashed to the feature grid from the picture's own proportions, and
the semantic prompt reaches the tokens' position code. :mod:`domainsam.prompter.example` is the form to use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.foundation.decoders.guided import Guidance
from domainsam.foundation.decoders.sam import SamStyleFoundation
from domainsam.foundation.picture import Fit, fit_longest
from domainsam.foundations import SAM_PIXELS
from domainsam.prompter.cascade import fit_weights
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Foundation, Masks

SET_BYTE = 255
"""Value of a set pixel of a mask before it is normalised as a picture."""
HALF = 0.5


@dataclass(frozen=True, eq=False)
class PublishedTarget:
    """Direction ``(256,)`` to compare with, mean feature ``(256,)``, and PerSAM-F's weights where learned."""

    direction: Tensor
    semantic: Tensor
    weights: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class PublishedAnswer:
    """The last three readings, ``(3, H, W)`` bool, their estimated IoU, and which of them is taken."""

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]
    best: int


class PublishedPerSam:
    """The public code's steps on a foundation with SAM's decoder.

    Raises
    ------
    InputError
        If the foundation's decoder cannot be guided.
    """

    def __init__(self, foundation: SamStyleFoundation) -> None:
        if not foundation.guidable:
            raise InputError(f"{foundation.name} has not SAM's decoder; leave parity out to use it")
        self.foundation = foundation

    def learn(
        self, picture: NDArray[np.uint8], mask: NDArray[np.bool_], finetune: bool = False, steps: int = 1000
    ) -> PublishedTarget:
        """The target of one picture ``(H, W, 3)`` and its mask ``(H, W)``.

        Raises
        ------
        InputError
            If nothing of the mask is left on the feature grid.
        """
        features, fit = self._encode(picture)
        bytes_of = np.repeat(mask[..., None].astype(np.uint8) * SET_BYTE, 3, axis=2)
        painted, _ = fit_longest(bytes_of, fit.size[0])
        mean, spread = (torch.tensor(part).view(3, 1, 1) for part in (SAM_PIXELS.mean, SAM_PIXELS.std))
        normal = (painted - mean) / spread
        grid = F.interpolate(normal, features.image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
        own = features.image[0][:, (grid > 0).to(features.image.device)].T
        if not len(own):
            raise InputError("the example is smaller than one image feature; mark a larger one")
        semantic = own.mean(dim=0)
        direction = own.max(dim=0)[0] / 2 + semantic / 2 if finetune else semantic
        target = PublishedTarget(direction / direction.norm(), semantic)
        if not finetune:
            return target
        place = self._points(self._similarity(features, fit, target), negative=False)
        masks = self._decode(features, fit, place, None, None, True)
        high = self._enlarge(masks.logits, fit)[0].flatten(1).clone()
        return replace(target, weights=fit_weights([(high, torch.from_numpy(mask.ravel()).to(high))], steps))

    def find(self, target: PublishedTarget, picture: NDArray[np.uint8]) -> PublishedAnswer | None:
        """The target in another picture; None where a mask comes out empty (the public code fails)."""
        features, fit = self._encode(picture)
        similarity = self._similarity(features, fit, target)
        with torch.inference_mode():
            if target.weights is None:
                points = self._points(similarity, negative=True)
                guidance = self._guidance(similarity, target, features)
                first = self._decode(features, fit, points, None, None, False, guidance)
                second = self._decode(features, fit, points, None, first.logits, True)
                refined = [second]
            else:
                points = self._points(similarity, negative=False)
                first = self._decode(features, fit, points, None, None, True)
                weights = first.logits.new_tensor(target.weights)
                low = torch.einsum("k,nkhw->nhw", weights, first.logits)[:, None]
                high = torch.einsum("k,nkhw->nhw", weights, self._enlarge(first.logits, fit))[0]
                box = _inclusive_box(high > 0)
                if box is None:
                    return None
                refined = [self._decode(features, fit, points, box, low, True)]
            best = int(refined[-1].iou[0].argmax())
            box = _inclusive_box(self._enlarge(refined[-1].logits, fit)[0, best] > 0)
            if box is None:
                return None
            last = self._decode(features, fit, points, box, refined[-1].logits[:, best : best + 1], True)
            masks = self._enlarge(last.logits, fit)[0] > 0
        return PublishedAnswer(
            masks.cpu().numpy(),
            last.iou[0].cpu().numpy(),
            last.logits[0].cpu().numpy(),
            int(last.iou[0].argmax()),
        )

    def _encode(self, picture: NDArray[np.uint8]) -> tuple[Features, Fit]:
        images, fit = fit_longest(picture, self.foundation.image_size)
        with torch.inference_mode():
            return cast(Foundation, self.foundation).encode(images), fit

    def _similarity(self, features: Features, fit: Fit, target: PublishedTarget) -> Tensor:
        """Cosine ``(H, W)`` at the size of the picture."""
        unit = features.image[0] / features.image[0].norm(dim=0, keepdim=True)
        cosine = torch.einsum("c,chw->hw", target.direction, unit)[None, None]
        finer = F.interpolate(cosine, scale_factor=4, mode="bilinear", align_corners=False)
        return self._enlarge(finer, fit)[0, 0]

    @staticmethod
    def _enlarge(maps: Tensor, fit: Fit) -> Tensor:
        """Maps ``(N, K, h, w)`` of the input at the picture's size, always by way of the input's."""
        maps = F.interpolate(maps, fit.size, mode="bilinear", align_corners=False)
        maps = maps[..., : fit.resized[0], : fit.resized[1]]
        return F.interpolate(maps, fit.original, mode="bilinear", align_corners=False)

    @staticmethod
    def _points(similarity: Tensor, negative: bool) -> Tensor:
        """Pixel ``x, y, label`` of the greatest similarity, and of the least: ``(1, P, 3)``."""
        width = similarity.shape[1]
        flat = similarity.flatten()
        chosen = [(int(flat.argmax()), 1), (int(flat.argmin()), 0)][: 1 + negative]
        rows = [[float(place % width), float(place // width), float(label)] for place, label in chosen]
        return torch.tensor([rows])

    def _guidance(self, similarity: Tensor, target: PublishedTarget, features: Features) -> Guidance:
        spread = (similarity - similarity.mean()) / similarity.std()
        grid = F.interpolate(
            spread[None, None], features.image.shape[-2:], mode="bilinear", align_corners=False
        )
        return Guidance(grid.sigmoid().flatten(1), target.semantic[None], aliased=True)

    def _decode(
        self,
        features: Features,
        fit: Fit,
        points: Tensor,
        box: tuple[int, int, int, int] | None,
        logits: Tensor | None,
        multimask: bool,
        guidance: Guidance | None = None,
    ) -> Masks:
        """Decode prompts in pixels of the picture, centres at whole numbers as the public code counts."""
        prompts = fit.prompts(PromptSet.from_one(points, box, logits))
        assert prompts.points is not None
        boxes = None if prompts.boxes is None else prompts.boxes + HALF
        prompts = prompts.replace(points=prompts.points + torch.tensor([HALF, HALF, 0.0]), boxes=boxes)
        if guidance is None:
            return self.foundation.decode(features, prompts, multimask)
        return self.foundation.decode_guided(features, prompts, guidance, multimask)


def _inclusive_box(mask: Tensor) -> tuple[int, int, int, int] | None:
    """First and last column and row of a mask, as the public code frames it; None where it is empty."""
    rows, cols = torch.nonzero(mask, as_tuple=True)
    if not len(rows):
        return None
    return int(cols.min()), int(rows.min()), int(cols.max()), int(rows.max())
