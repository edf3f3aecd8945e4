"""Decoding any number of prompts over a batch of images with the official decoders of SAM and SAM 2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from domainsam.errors import InputError
from domainsam.foundation.base import PartedFoundation, answer_nothing
from domainsam.foundation.decoders.guided import Guidance, is_guidable, transform_guided
from domainsam.prompts import POINT_NEGATIVE, POINT_PADDING, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Masks


def decode_all(
    decoder: Any,
    image: Tensor,
    levels: tuple[Tensor, ...],
    position: Tensor,
    tokens: Tensor,
    dense: Tensor,
    guidance: Guidance | None = None,
) -> Masks:
    """All masks of every prompt: the single reading first, then the three.

    The official ``MaskDecoder.predict_masks``, which repeats one image for
    all prompts, but with an image of its own for every prompt.

    Parameters
    ----------
    decoder
        The official mask decoder of SAM or SAM 2.
    image
        ``(N, 256, h, w)`` image features, a row a prompt.
    levels
        ``(N, 32, 4h, 4w)`` and ``(N, 64, 2h, 2w)`` for SAM 2, empty for SAM.
    position
        ``(1, 256, h, w)`` position codes.
    tokens
        ``(N, T, 256)`` sparse prompt tokens.
    dense
        ``(N, 256, h, w)`` dense prompts, or ``(1, 256, 1, 1)``.
    guidance
        What a target looks like, of the ``N`` prompts.

    Returns
    -------
    Masks
        Logits ``(N, 4, 4h, 4w)`` and estimated IoU ``(N, 4)``.
    """
    count = tokens.shape[0]
    own = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    if getattr(decoder, "pred_obj_scores", False):
        own.insert(0, decoder.obj_score_token.weight)
    first = sum(len(part) for part in own[:-2])
    queries = torch.cat([torch.cat(own).expand(count, -1, -1).to(tokens.dtype), tokens], dim=1)
    told = (image + dense, position.expand(count, -1, -1, -1), queries)
    if guidance is None:
        hidden, keys = decoder.transformer(*told)
    else:
        hidden, keys = transform_guided(decoder.transformer, *told, guidance)
    up = upscale(decoder, keys.transpose(1, 2).reshape(image.shape), levels)
    masks = range(decoder.num_mask_tokens)
    weights = torch.stack(
        [decoder.output_hypernetworks_mlps[index](hidden[:, first + 1 + index]) for index in masks], dim=1
    )
    logits = torch.einsum("nkc,nchw->nkhw", weights, up)
    return Masks(logits.float(), decoder.iou_prediction_head(hidden[:, first]).float())


def upscale(decoder: Any, grid: Tensor, levels: tuple[Tensor, ...]) -> Tensor:
    """The decoder's grid ``(N, 256, h, w)`` four times finer, ``(N, 32, 4h, 4w)``."""
    if not levels:
        finer: Tensor = decoder.output_upscaling(grid)
        return finer
    to8, norm, act8, to4, act4 = decoder.output_upscaling
    at8 = act8(norm(to8(grid) + levels[1]))
    at4: Tensor = act4(to4(at8) + levels[0])
    return at4


class SamStyleFoundation(PartedFoundation):
    """What SAM and SAM 2 share: their prompt encoder and their two-way decoder.

    Parameters
    ----------
    model, name, image_size, sha256
        As for :class:`domainsam.foundation.base.FrozenFoundation`.
    prompt_encoder, mask_decoder
        The official modules, parts of ``model``.
    dtype
        Type of the large matrix products; features, tokens and masks stay float32.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        image_size: int,
        sha256: str,
        prompt_encoder: Any,
        mask_decoder: Any,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(model, name, image_size, sha256, dtype)
        self._prompt_encoder = prompt_encoder
        self._mask_decoder = mask_decoder

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes in an image of ``size`` (H, W)."""
        return sparse_tokens(self._prompt_encoder, prompts.to(self.device), size)

    @property
    def guidable(self) -> bool:
        """Whether :meth:`decode_guided` can be asked: EfficientSAM's decoder has no place for it."""
        return is_guidable(self._mask_decoder.transformer)

    def decode_guided(
        self, features: Features, prompts: PromptSet, guidance: Guidance, multimask: bool = False
    ) -> Masks:
        """As :meth:`decode` for a few prompts, told what their target looks like.

        Raises
        ------
        InputError
            As :meth:`decode`; or if this decoder has no place for guidance.
        """
        if not self.guidable:
            raise InputError(f"{self.name} cannot be guided by a target; decode without guidance")
        return self._decode_chunk(features, self._with_tokens(features, prompts), multimask, guidance)

    def _decode_chunk(
        self, features: Features, prompts: PromptSet, multimask: bool, guidance: Guidance | None = None
    ) -> Masks:
        if not len(prompts):
            return answer_nothing(features, multimask)
        encoder, grid = self._prompt_encoder, (features.image.shape[-2], features.image.shape[-1])
        assert prompts.tokens is not None
        # The position code holds sines of large angles and is never reduced in precision.
        position = encoder.pe_layer(grid)[None]
        own = features[prompts.image_index]
        with self._autocast():
            masks = decode_all(
                self._mask_decoder,
                own.image,
                own.levels,
                position,
                prompts.tokens.float(),
                self._dense_prompts(prompts),
                guidance,
            )
        return self._choose(masks, multimask)

    def _dense_prompts(self, prompts: PromptSet) -> Tensor:
        """What is added to the image: the mask prompt ``(N, 256, h, w)``, or that there is none."""
        if prompts.mask_logits is None:
            none: Tensor = self._prompt_encoder.no_mask_embed.weight[..., None, None]
            return none
        given: Tensor = self._prompt_encoder.mask_downscaling(prompts.mask_logits.float())
        return given

    def _choose(self, masks: Masks, multimask: bool) -> Masks:
        """The three readings, or the single one."""
        keep = slice(1, None) if multimask else slice(0, 1)
        return Masks(masks.logits[:, keep], masks.iou[:, keep])


def sparse_tokens(prompt_encoder: Any, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
    """Tokens ``(N, T, C)`` that SAM's prompt encoder makes of points and boxes.

    Same arithmetic as ``PromptEncoder._embed_points`` and ``_embed_boxes`` of
    the official packages, with two differences: coordinates are normalised by
    the ``size`` (H, W) of the image at hand, not by a size fixed at
    construction, and nothing is shifted by half a pixel because a
    :class:`PromptSet` already measures from the pixel's corner. As there,
    points without a box get one padding point.

    ``prompt_encoder`` offers ``pe_layer.forward_with_coords``,
    ``point_embeddings`` (negative, positive, box corner 1, box corner 2) and
    ``not_a_point_embed``.
    """
    embeddings = prompt_encoder.point_embeddings
    parts = []
    if prompts.points is not None:
        points = prompts.points.float()
        if prompts.boxes is None:
            padding = points.new_tensor([0.0, 0.0, POINT_PADDING]).expand(len(prompts), 1, 3)
            points = torch.cat([points, padding], dim=1)
        code = prompt_encoder.pe_layer.forward_with_coords(points[..., :2].clone(), size)
        label = points[..., 2:]
        code = torch.where(label == POINT_PADDING, prompt_encoder.not_a_point_embed.weight, code)
        code = code + (label == POINT_NEGATIVE) * embeddings[0].weight
        code = code + (label == POINT_POSITIVE) * embeddings[1].weight
        parts.append(code)
    if prompts.boxes is not None:
        corners = prompt_encoder.pe_layer.forward_with_coords(prompts.boxes.float().reshape(-1, 2, 2), size)
        parts.append(corners + torch.cat([embeddings[2].weight, embeddings[3].weight]))
    if not parts:
        width = embeddings[0].weight.shape[1]
        return torch.zeros(len(prompts), 0, width, device=prompts.image_index.device)
    return torch.cat(parts, dim=1)
