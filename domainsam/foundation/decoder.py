"""Decoding any number of prompts over a batch of images with the official decoders of SAM and SAM 2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from domainsam.foundation.base import FrozenFoundation
from domainsam.foundation.sparse import sparse_tokens
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks

DECODE_CHUNK = 16
"""Prompts decoded at a time; one takes about 60 MB while it passes through the decoder at 1024 pixels."""


def decode_all(
    decoder: Any,
    image: Tensor,
    levels: tuple[Tensor, ...],
    position: Tensor,
    tokens: Tensor,
    dense: Tensor,
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
    hidden, keys = decoder.transformer(image + dense, position.expand(count, -1, -1, -1), queries)
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


class SamStyleFoundation(FrozenFoundation):
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
        super().__init__(model, name, image_size, sha256)
        self.dtype = dtype
        self._prompt_encoder = prompt_encoder
        self._mask_decoder = mask_decoder

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes in an image of ``size`` (H, W)."""
        return sparse_tokens(self._prompt_encoder, prompts.to(self.device), size)

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        """One mask a prompt, or three readings of it, logits ``(N, K, H/4, W/4)``.

        Raises
        ------
        InputError
            If a prompt points at no encoded image, or a mask prompt is not a quarter of the image's size.
        """
        prompts = self._checked_prompts(features, prompts)
        if prompts.tokens is None:
            prompts = prompts.replace(tokens=self.embed(prompts, features.size))
        chunks = [
            self._decode_chunk(features, prompts[start : start + DECODE_CHUNK], multimask)
            for start in range(0, max(1, len(prompts)), DECODE_CHUNK)
        ]
        return Masks(torch.cat([part.logits for part in chunks]), torch.cat([part.iou for part in chunks]))

    def _decode_chunk(self, features: Features, prompts: PromptSet, multimask: bool) -> Masks:
        encoder, grid = self._prompt_encoder, (features.image.shape[-2], features.image.shape[-1])
        if not len(prompts):
            empty = features.image.new_zeros(0, 3 if multimask else 1, 4 * grid[0], 4 * grid[1])
            return Masks(empty, empty[:, :, 0, 0])
        assert prompts.tokens is not None
        # The position code holds sines of large angles and is never reduced in precision.
        position = encoder.pe_layer(grid)[None]
        own = features[prompts.image_index]
        with self._autocast():
            if prompts.mask_logits is None:
                dense = encoder.no_mask_embed.weight[..., None, None]
            else:
                dense = encoder.mask_downscaling(prompts.mask_logits.float())
            masks = decode_all(
                self._mask_decoder, own.image, own.levels, position, prompts.tokens.float(), dense
            )
        return self._choose(masks, multimask)

    def _choose(self, masks: Masks, multimask: bool) -> Masks:
        """The three readings, or the single one."""
        keep = slice(1, None) if multimask else slice(0, 1)
        return Masks(masks.logits[:, keep], masks.iou[:, keep])
