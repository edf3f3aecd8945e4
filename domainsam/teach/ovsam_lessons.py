"""What the two stages of Open-Vocabulary SAM learn, and what a batch costs (Yuan et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.distil.pictures import ViewBatch
from domainsam.foundation.decoders.sam import sparse_tokens
from domainsam.foundations import SAM_PIXELS
from domainsam.prompts import POINT_POSITIVE, PromptSet
from domainsam.protocols import Foundation
from domainsam.teach.ovsam_data import NamedBatch
from domainsam.vocabulary.ovsam_network import GRID, OpenVocabularyNetwork, compare_words

LABEL_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0
NONE_WEIGHT = 0.1
"""Of the class that is none of the words."""
POINTS, OVERSAMPLED, IMPORTANT = 12_544, 3.0, 0.75
"""PointRend's (Kirillov et al. 2020): points a mask, candidates a point, share of the least certain ones."""


class Learner(nn.Module):
    """The parts that learn, under the names of the network; the rest stays beside and is frozen.

    Parameters
    ----------
    network
        Of which ``neck``, ``fpn_neck`` and ``mask_decoder`` learn in one stage or the other.
    """

    def __init__(self, network: OpenVocabularyNetwork) -> None:
        super().__init__()
        self.neck, self.fpn_neck, self.mask_decoder = network.neck, network.fpn_neck, network.mask_decoder
        # A tuple hides what is frozen: it neither learns nor is saved, nor changes its mode.
        self._network = (network,)
        self.register_buffer("mean", torch.tensor(SAM_PIXELS.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(SAM_PIXELS.std).view(3, 1, 1), persistent=False)

    mean: Tensor
    std: Tensor

    @property
    def network(self) -> OpenVocabularyNetwork:
        """All of it."""
        return self._network[0]

    def learn(self, *parts: str) -> None:
        """Let these parts learn, and nothing else."""
        self.network.requires_grad_(False)
        self.network.eval()
        for part in parts:
            getattr(self, part).requires_grad_(True)

    def see(self, images: Tensor, seen: Tensor) -> list[Tensor]:
        """CLIP's levels of pictures ``(B, 3, S, S)`` in 0 to 1; what is not ``seen`` ``(B, S, S)`` is 0."""
        with torch.no_grad():
            return self.network.see((images - self.mean) / self.std * seen[:, None])


class FeatureLesson(nn.Module):
    """Stage 1: SAM2CLIP copies the features of SAM's encoder; their mean squared error."""

    def __init__(self, learner: Learner, teacher: Foundation) -> None:
        super().__init__()
        self.learner = learner
        self._teacher = (teacher,)

    def prepare(self) -> None:
        """Let SAM2CLIP learn."""
        self.learner.learn("neck")

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``"loss"`` and ``"features"``."""
        with torch.no_grad():
            wanted = self._teacher[0].encode(batch.images).image
        valid = batch.valid(1)[:, 0]
        own = self.learner.neck(self.learner.see(batch.images, valid))
        shown = batch.valid(GRID)
        squares = (own.float() - wanted.float()).square() * shown
        loss = squares.sum() / (shown.sum() * own.shape[1]).clamp(min=1)
        return {"loss": loss, "features": loss.detach()}


class NameLesson(nn.Module):
    """Stage 2: the pyramid, the decoder and the label's convolution learn masks and names together.

    Parameters
    ----------
    words
        Vectors ``(K, P, D)`` of the words that are learnt.
    """

    words: Tensor

    def __init__(self, learner: Learner, words: Tensor, points: int = POINTS) -> None:
        super().__init__()
        self.learner, self.points = learner, points
        self.register_buffer("words", words, persistent=False)

    def prepare(self) -> None:
        """Let CLIP2SAM learn."""
        self.learner.learn("fpn_neck", "mask_decoder")

    def forward(self, batch: NamedBatch) -> dict[str, Tensor]:
        """``"loss"`` and its parts ``"labels"``, ``"masks"`` and ``"dice"``."""
        masks, logits = self.answer(batch)
        weights = logits.new_ones(logits.shape[1])
        weights[-1] = NONE_WEIGHT
        labels = F.cross_entropy(logits, batch.labels, weights)
        own, wanted = sample_uncertain(masks, batch.masks.float(), self.points)
        error = F.binary_cross_entropy_with_logits(own, wanted)
        dice = measure_dice(own, wanted)
        loss = LABEL_WEIGHT * labels + MASK_WEIGHT * error + DICE_WEIGHT * dice
        # What is made of the label token counts for nothing, as published; which levels of the pyramid the
        # boxes are read from is up to chance, and every process must step with the others.
        learning = [part for part in self.learner.parameters() if part.requires_grad]
        idle = torch.stack([part.sum() for part in learning]).sum() if learning else loss.new_zeros(())
        parts = {"labels": labels.detach(), "masks": error.detach(), "dice": dice.detach()}
        return {"loss": loss + 0 * idle, **parts}

    def answer(self, batch: NamedBatch) -> tuple[Tensor, Tensor]:
        """Mask logits ``(N, S/4, S/4)``, and logits ``(N, K + 1)`` of words, by the objects' own boxes."""
        learner, network = self.learner, self.learner.network
        levels = learner.see(batch.images, batch.seen)
        with torch.no_grad():
            learner.neck.eval()
            features = learner.neck(levels)
            tokens = ask(network, batch)
        grid = (features.shape[-2], features.shape[-1])
        position = network.prompt_encoder.pe_layer(grid)[None]
        dense = network.prompt_encoder.no_mask_embed.weight[..., None, None]
        masks = learner.mask_decoder.decode(features[batch.index], position, tokens, dense)
        pyramid = learner.fpn_neck(levels)
        described = learner.mask_decoder.describe(pyramid, batch.boxes, batch.index)
        return masks, compare_words(described, self.words)


def ask(network: OpenVocabularyNetwork, batch: NamedBatch) -> Tensor:
    """Tokens ``(N, 2, 256)``: of a box its corners, of a point itself and a padding point."""
    count = len(batch.index)
    size = (int(batch.images.shape[-2]), int(batch.images.shape[-1]))
    plain = {
        "image_index": batch.index,
        "labels": torch.ones_like(batch.index),
        "scores": batch.boxes.new_ones(count),
    }
    marked = torch.cat([batch.points, batch.points.new_full((count, 1), float(POINT_POSITIVE))], dim=1)
    by_box = sparse_tokens(network.prompt_encoder, PromptSet(**plain, boxes=batch.boxes), size)
    by_point = sparse_tokens(network.prompt_encoder, PromptSet(**plain, points=marked[:, None]), size)
    return torch.where(batch.by_box[:, None, None], by_box, by_point)


def sample_uncertain(logits: Tensor, masks: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Logits and mask values ``(N, points)`` at places of which most are where the logits are least certain.

    Parameters
    ----------
    logits, masks
        ``(N, h, w)`` and ``(N, H, W)`` of the same pictures; places are shares of their sides.
    """
    with torch.no_grad():
        places = torch.rand(len(logits), int(points * OVERSAMPLED), 2, device=logits.device)
        doubt = -read_places(logits, places).abs()
        uncertain = doubt.topk(int(points * IMPORTANT), dim=1).indices
        chosen = places.gather(1, uncertain[..., None].expand(-1, -1, 2))
        anywhere = torch.rand(len(logits), points - chosen.shape[1], 2, device=logits.device)
        places = torch.cat([chosen, anywhere], dim=1)
        wanted = read_places(masks, places)
    return read_places(logits, places), wanted


def read_places(maps: Tensor, places: Tensor) -> Tensor:
    """Values ``(N, P)`` of maps ``(N, h, w)`` at places ``(N, P, 2)``, x and y as shares of the sides."""
    read = F.grid_sample(maps[:, None], 2 * places[:, None] - 1, mode="bilinear", align_corners=False)
    return read[:, 0, 0]


def measure_dice(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean Dice loss of ``(N, P)``, with sums of the values themselves and an epsilon of 1, as published."""
    inside = logits.sigmoid()
    shared = (inside * wanted).sum(dim=1)
    return (1 - (2 * shared + 1) / (inside.sum(dim=1) + wanted.sum(dim=1) + 1)).mean()


@torch.inference_mode()
def judge_features(lesson: FeatureLesson, batches: Iterable[ViewBatch]) -> dict[str, float]:
    """``feature_error`` on pictures that are held back, and ``nearness``, greater where it is smaller."""
    errors = [float(lesson(batch)["features"]) for batch in batches]
    mean = sum(errors) / max(1, len(errors))
    return {"feature_error": mean, "nearness": -mean} if errors else {}


@torch.inference_mode()
def judge_names(lesson: NameLesson, batches: Iterable[NamedBatch]) -> dict[str, float]:
    """``label_accuracy`` among the words, and ``mask_iou``, over objects of pictures that are held back."""
    right, shared = [], []
    for batch in batches:
        masks, logits = lesson.answer(batch)
        right += (logits[:, :-1].argmax(dim=1) == batch.labels).tolist()
        size = batch.masks.shape[-2:]
        own = F.interpolate(masks[:, None], size=size, mode="bilinear", align_corners=False)[:, 0] > 0
        both = (own & batch.masks).sum(dim=(1, 2)).float()
        shared += (both / (own | batch.masks).sum(dim=(1, 2)).clamp(min=1)).tolist()
    if not right:
        return {}
    accuracy, iou = sum(right) / len(right), sum(shared) / len(shared)
    return {"label_accuracy": accuracy, "mask_iou": iou, "both": accuracy + iou}
