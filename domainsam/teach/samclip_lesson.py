"""What a batch costs SAM-CLIP: the cosine to a CLIP, and what SAM said of its own masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.distil.asking import find_objects, start_prompts
from domainsam.distil.pictures import ViewBatch, Views
from domainsam.foundation.decoders.sam import decode_all, sparse_tokens
from domainsam.foundation.sam import SamFoundation
from domainsam.prompts import PromptSet
from domainsam.protocols import Features
from domainsam.vocabulary.sam_clip import SamClipNetwork
from domainsam.vocabulary.teachers import ImageTextTeacher


@dataclass(frozen=True)
class Recipe:
    """What the paper sets; sides and prompts are smaller in tests alone.

    Parameters
    ----------
    low, high
        Sides of pictures that teach words, mixed by chance.
    side
        Of pictures that rehearse SAM.
    prompts
        Objects of such a picture.
    weight
        Of the rehearsal's loss beside that of words.
    focal, dice
        Of the two parts of the rehearsal's loss: SAM's 20 to 1.
    slow
        Share of the rate that trunk and HeadSAM learn with.
    """

    low: int = 224
    high: int = 448
    side: int = 1024
    prompts: int = 32
    weight: float = 10.0
    focal: float = 20.0
    dice: float = 1.0
    slow: float = 0.1


@dataclass(frozen=True)
class Published:
    """A stage as the paper has it: passes over the pictures, rate, what learns, which sides teach words."""

    name: str
    epochs: int
    rate: float
    joint: bool
    sides: tuple[str, ...]


STAGES = (
    Published("words", 20, 8e-4, False, ("low", "high")),
    Published("joint", 16, 4e-5, True, ("low", "high")),
    Published("sharp", 3, 4e-5, False, ("low", "high", "side")),
)
"""The paper ran 16 of the joint stage's 20 passes; the last stage's rate is unpublished: the joint one's."""


@dataclass(frozen=True)
class Mixed:
    """Pictures that teach words, and pictures that rehearse SAM, None outside the joint stage."""

    words: ViewBatch
    sam: ViewBatch | None
    step: int

    def to(self, device: torch.device) -> Mixed:
        """The same on another device."""
        return replace(self, words=self.words.to(device), sam=self.sam and self.sam.to(device))


class MixedViews:
    """Batches of both kinds by their number; the second kind only where it is wanted."""

    def __init__(self, words: Views, sam: Views | None) -> None:
        self.words, self.sam = words, sam

    def batch(self, step: int) -> Mixed:
        """The batch of a step."""
        return Mixed(self.words.batch(step), None if self.sam is None else self.sam.batch(step), step)


class SamClipLesson(nn.Module):
    """What a batch costs.

    Parameters
    ----------
    network
        What learns.
    sam
        SAM as it was.
    teacher
        Whose vectors pictures are taught.
    stage, recipe
        Which parts learn, and the paper's constants.
    """

    def __init__(
        self,
        network: SamClipNetwork,
        sam: SamFoundation,
        teacher: ImageTextTeacher,
        stage: Published,
        recipe: Recipe,
    ) -> None:
        super().__init__()
        self.network, self.stage, self.recipe = network, stage, recipe
        # Tuples hide the teachers from the module's own lists: they neither learn nor are saved.
        self._teachers = (sam, teacher)

    def prepare(self) -> None:
        """Let HeadCLIP learn, and in the joint stage trunk and HeadSAM; the prompt encoder never does."""
        self.network.requires_grad_(False)
        self.network.clip_head.requires_grad_(True)
        if self.stage.joint:
            for part in (self.network.image_encoder, self.network.mask_decoder):
                part.requires_grad_(True)

    def factors(self) -> Mapping[str, float]:
        """Shares of the rate, by the beginnings of names."""
        slow = self.recipe.slow
        return {"network.image_encoder.": slow, "network.mask_decoder.": slow}

    def forward(self, batch: Mixed) -> dict[str, Tensor]:
        """``"loss"``, and its parts by name."""
        words = self.teach_words(batch.words, self._draw_side())
        if batch.sam is None:
            return {"loss": words, "cosine": 1 - words.detach()}
        focal, dice = self.rehearse(batch.sam)
        recipe = self.recipe
        loss = words + recipe.weight * (recipe.focal * focal + recipe.dice * dice)
        return {
            "loss": loss,
            "cosine": 1 - words.detach(),
            "focal": focal.detach(),
            "dice_loss": dice.detach(),
        }

    def _draw_side(self) -> int:
        names = self.stage.sides
        return int(getattr(self.recipe, names[int(torch.randint(len(names), ()))]))

    def teach_words(self, batch: ViewBatch, side: int) -> Tensor:
        """Mean of ``1 - cos`` to the teacher's vectors, of pictures at a side; 0 to 2."""
        wanted = self._teachers[1].encode_images(batch.images)
        images = scale_to(batch.images, side)
        if self.stage.joint:
            tokens = self.network.tokens(images)
        else:
            with torch.no_grad():
                tokens = self.network.tokens(images)
        return (1 - F.cosine_similarity(self.network.clip_head(tokens).float(), wanted, dim=1)).mean()

    def rehearse(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Focal and Dice loss against SAM's own scores, means over prompts; 0 where it sees nothing."""
        sam = self._teachers[0]
        with torch.no_grad():
            seen = sam.encode(batch.images)
            found = find_objects(sam, seen, batch.extents, self.recipe.prompts)
            boxed = bool(torch.rand(()) < 0.5)
            prompts = start_prompts(
                found.index, None if boxed else found.clicks, found.boxes if boxed else None
            )
            wanted = sam.decode(seen, prompts).logits.float().sigmoid() if len(prompts) else None
        own = self.network.encode_sam(self.network.tokens(batch.images))
        if wanted is None:
            return own.sum() * 0, own.sum() * 0
        logits = decode_trained(self.network, Features(own, (), seen.size), prompts)
        return soft_focal(logits, wanted).mean(), soft_dice(logits, wanted).mean()


def decode_trained(network: SamClipNetwork, features: Features, prompts: PromptSet) -> Tensor:
    """The single reading's logits ``(N, 1, H/4, W/4)``, with gradients to HeadSAM and the features."""
    encoder: Any = network.prompt_encoder
    grid = (features.image.shape[-2], features.image.shape[-1])
    tokens = sparse_tokens(encoder, prompts, features.size).float()
    dense = encoder.no_mask_embed.weight[..., None, None]
    image = features.image[prompts.image_index]
    masks = decode_all(network.mask_decoder, image, (), encoder.pe_layer(grid)[None], tokens, dense)
    return masks.logits[:, :1]


def soft_focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss of soft labels ``(N, K)``: cross entropy weighed by the squared error (Li et al. 2020, eq.
    4).

    Logits and labels are ``(N, K, h, w)``, labels in 0 to 1. The entropy of the labels themselves is taken
    off, so that a perfect copy costs nothing.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    sure = wanted.clamp(1e-6, 1 - 1e-6)
    least = -(sure * sure.log() + (1 - sure) * (1 - sure).log())
    return ((logits.sigmoid() - wanted).square() * (entropy - least).clamp(min=0)).mean(dim=(2, 3))


def soft_dice(logits: Tensor, wanted: Tensor) -> Tensor:
    """Dice loss of soft labels ``(N, K)``, squares below (Milletari et al. 2016): a copy costs 0."""
    inside = logits.sigmoid()
    overlap = 2 * (inside * wanted).sum(dim=(2, 3)) + 1
    return 1 - overlap / (inside.square().sum(dim=(2, 3)) + wanted.square().sum(dim=(2, 3)) + 1)


def scale_to(images: Tensor, side: int) -> Tensor:
    """Pictures ``(B, 3, S, S)`` scaled to a side."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
