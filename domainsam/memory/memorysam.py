"""MemorySAM: the sensors of one scene as frames that a promptable model remembers.

Each sensor's features read what the sensors before it left in memory, are
decoded to one map a class without any prompt, and are written in turn. Where
the method is arbitrary there is an option; the published choices are named.

Source: Liao et al. 2025 (MemorySAM) and the code published with it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from torch import Tensor, nn

from domainsam.memory.bank import MemoryBank, MemoryParts
from domainsam.protocols import Features, Masks

ClassMap = Literal["iou", "largest", "confidence"]
Slots = Literal["same", "sensor", "order"]
NO_OBJECT = -1024.0
"""Logit of every class where the object-score gate finds nothing, as in the official code."""
EXTREME = 1e-4
"""Probabilities are kept so far from 0 and 1 before they become logits."""
NOT_LOADED = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")
"""Parts of the decoder that depend on the number of classes and start anew, as published."""


@dataclass(frozen=True)
class SequenceOptions:
    """Where MemorySAM leaves a choice.

    Parameters
    ----------
    class_map
        What a frame's memory is told was found. ``"iou"``, published: the map
        of the class that a random, frozen head scores highest. ``"largest"``:
        the map of the class with most pixels. ``"confidence"``: for every
        pixel how sure the frame is of whatever class it chose.
    slots
        The code of time of a remembered frame. ``"same"``, published: one for
        all, so order carries nothing. ``"sensor"``: one for each sensor, so
        the reader knows who speaks. ``"order"``: by distance, as in a film.
    object_gate
        Published: blank a sample's every class where the object score is
        below 0; the score's head is never trained for that.
    residual
        ``"mean"``, published: the answer is the mean over frames. ``"last"``:
        the last frame's.
    """

    class_map: ClassMap = "confidence"
    slots: Slots = "sensor"
    object_gate: bool = False
    residual: Literal["mean", "last"] = "mean"


PUBLISHED = SequenceOptions(class_map="iou", slots="same", object_gate=True)


@dataclass(frozen=True)
class Decoded:
    """Logits ``(B, K, h, w)``, IoU ``(B, K)``, tokens ``(B, K, 256)`` and object scores ``(B, 1)``."""

    logits: Tensor
    iou: Tensor
    tokens: Tensor
    score: Tensor


class ClassDecoder(nn.Module):
    """SAM 2's mask decoder with a mask token for every class and no prompt.

    Class ``c`` is mask token ``c + 1``; token 0 answers single prompts and is
    not used. What depends on the number of classes starts anew, the rest is a
    trainable copy of the foundation's. The head that estimates IoU and the
    one that scores objects stay frozen, as published.

    Parameters
    ----------
    model
        The official ``SAM2Base``.
    classes
        Number of classes.
    """

    nowhere: Tensor
    no_mask: Tensor

    def __init__(self, model: Any, classes: int) -> None:
        super().__init__()
        given = model.sam_mask_decoder
        self.decoder = MaskDecoder(
            transformer_dim=given.transformer_dim,
            transformer=copy.deepcopy(given.transformer),
            num_multimask_outputs=classes,
            use_high_res_features=True,
            iou_prediction_use_sigmoid=bool(model.iou_prediction_use_sigmoid),
            pred_obj_scores=bool(given.pred_obj_scores),
            pred_obj_scores_mlp=bool(model.pred_obj_scores_mlp),
            use_multimask_token_for_obj_ptr=True,
        )
        self.load_common(given.state_dict())
        encoder = model.sam_prompt_encoder
        self._position = encoder.pe_layer
        padding = encoder.not_a_point_embed.weight.detach().clone()
        # The official path pads "no point" with one more: two tokens that say nothing.
        self.register_buffer("nowhere", padding.expand(2, -1)[None].clone(), persistent=False)
        no_mask = encoder.no_mask_embed.weight.detach().clone()[..., None, None]
        self.register_buffer("no_mask", no_mask, persistent=False)
        for name, part in self.decoder.named_parameters():
            part.requires_grad_(not name.startswith(("iou_prediction_head", "pred_obj_score_head")))

    def load_common(self, tensors: dict[str, Tensor]) -> tuple[str, ...]:
        """Take what does not depend on the number of classes; the names that were skipped."""
        own = self.decoder.state_dict()
        fits = {
            name: value
            for name, value in tensors.items()
            if name.split(".")[0] not in NOT_LOADED and name in own and own[name].shape == value.shape
        }
        self.decoder.load_state_dict({**own, **fits})
        return tuple(sorted(set(tensors) - set(fits)))

    def refine(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The two finer levels ``(B, 256, ...)`` as the decoder adds them, 32 and 64 channels."""
        return self.decoder.conv_s0(levels[0]), self.decoder.conv_s1(levels[1])

    def forward(self, image: Tensor, finer: tuple[Tensor, Tensor]) -> Decoded:
        """Decode features ``(B, 256, h, w)`` and the refined levels of the same images."""
        # The position code holds sines of large angles and is never reduced in precision.
        with torch.autocast(image.device.type, enabled=False):
            position = self._position((image.shape[-2], image.shape[-1]))[None].to(image.device)
        logits, iou, tokens, score = self.decoder.predict_masks(
            image_embeddings=image,
            image_pe=position,
            sparse_prompt_embeddings=self.nowhere.expand(len(image), -1, -1),
            dense_prompt_embeddings=self.no_mask,
            repeat_image=False,
            high_res_features=list(finer),
        )
        return Decoded(logits[:, 1:].float(), iou[:, 1:], tokens[:, 1:], score)


@dataclass(frozen=True)
class Frames:
    """What the frames of a batch of scenes gave.

    ``logits`` ``(M, B, K, H/4, W/4)`` by frame; ``images`` ``(M, B, 256, H/16,
    W/16)`` features with memory; ``finest`` ``(M, B, 32, H/4, W/4)`` refined
    finest level, which prototypes are made of.
    """

    logits: Tensor
    images: Tensor
    finest: Tensor


def run_frames(
    levels: Sequence[Tensor],
    sensors: Sequence[int],
    decoder: ClassDecoder,
    parts: MemoryParts,
    options: SequenceOptions,
) -> Frames:
    """Pass the sensors of a batch of scenes through memory, one after the other.

    Parameters
    ----------
    levels
        Pyramid ``(M, B, 256, ...)``, finest first, at strides 4, 8 and 16.
    sensors
        Number of each of the ``M`` sensors, for :attr:`SequenceOptions.slots`.
    decoder, parts, options
        What decodes, what remembers, and how.
    """
    bank = MemoryBank(parts, frames=len(sensors))
    size = (levels[0].shape[-2] * 4, levels[0].shape[-1] * 4)
    logits, images, finest = [], [], []
    for time, sensor in enumerate(sensors):
        finer = decoder.refine([level[time] for level in levels[:2]])
        plain = Features(levels[2][time], finer, size)
        seen = bank.read(plain, time)
        decoded = decoder(seen.image, finer)
        answer = blank_absent(decoded) if options.object_gate else decoded.logits
        logits.append(answer)
        images.append(seen.image)
        finest.append(finer[0])
        if time + 1 < len(sensors):
            remember(bank, time, sensor, plain, decoded, answer, parts, options)
    return Frames(torch.stack(logits), torch.stack(images), torch.stack(finest))


def blank_absent(decoded: Decoded) -> Tensor:
    """Blank every class of a sample whose object score is not above 0."""
    return torch.where(decoded.score[..., None, None] > 0, decoded.logits, NO_OBJECT)


def remember(
    bank: MemoryBank,
    time: int,
    sensor: int,
    features: Features,
    decoded: Decoded,
    answer: Tensor,
    parts: MemoryParts,
    options: SequenceOptions,
) -> None:
    """Write one frame: its features, the chosen class map, and that class's token as pointer."""
    logits, chosen = choose_class_map(answer, decoded.iou, options.class_map)
    rows = torch.arange(len(chosen), device=chosen.device)
    pointer = parts.pointer(decoded.tokens[rows, chosen])
    present = None
    if options.object_gate:
        present = (decoded.score > 0).to(pointer.dtype)
        pointer = present * pointer
        if parts.absent is not None:
            pointer = pointer + (1 - present) * parts.absent
    # With one slot for each sensor the last, which means "no one's past", is left out while it can be.
    fixed = {"same": -1, "sensor": sensor % parts.slots, "order": None}[options.slots]
    bank.write(time, features, Masks(logits, decoded.iou), pointer, fixed, present)


def choose_class_map(logits: Tensor, iou: Tensor, kind: ClassMap) -> tuple[Tensor, Tensor]:
    """The logits ``(B, 1, h, w)`` that memory is given, and the class ``(B,)`` whose token goes with them."""
    if kind == "iou":
        chosen = iou.argmax(1)
        return logits[torch.arange(len(chosen), device=chosen.device), chosen][:, None], chosen
    best = logits.argmax(1).flatten(1)
    counts = torch.zeros(logits.shape[:2], device=logits.device).scatter_add_(
        1, best, torch.ones_like(best, dtype=torch.float32)
    )
    chosen = counts.argmax(1)
    if kind == "largest":
        return logits[torch.arange(len(chosen), device=chosen.device), chosen][:, None], chosen
    sure = logits.softmax(1).amax(1, keepdim=True).clamp(EXTREME, 1 - EXTREME)
    return torch.logit(sure), chosen
