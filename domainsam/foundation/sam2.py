"""SAM 2 and 2.1 (Ravi et al. 2024) for single images, on the official modules of ``sam2``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domainsam.foundation.base import digest_tensors
from domainsam.foundation.decoders.sam import SamStyleFoundation, sparse_tokens
from domainsam.foundation.loading import read_tensors
from domainsam.prompts import POINT_PADDING, PromptSet
from domainsam.protocols import Features, Masks
from domainsam.tensorfile import load_strict
from domainsam.weights import IMAGENET, find_weights

LETTERS = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
STABILITY = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
"""What ``build_sam2`` sets for inference: an unstable single mask gives way to the best of three."""


class Sam2Foundation(SamStyleFoundation):
    """SAM 2, frozen, for single images of any size that is a multiple of 32.

    ``model`` is the official ``SAM2Base`` with its memory parts, for uses that need them.

    Parameters
    ----------
    model
        Official model with its weights in place, float32, on the device to compute on.
    name
        As for :class:`domainsam.foundation.base.FrozenFoundation`.
    dtype
        Type of the large matrix products; features, tokens and masks stay float32.
    compile
        Compile the image encoder with ``torch.compile``.
    """

    model: Any

    def __init__(
        self, model: Any, name: str, dtype: torch.dtype = torch.float32, compile: bool = False
    ) -> None:
        digest = digest_tensors(model.state_dict())
        super().__init__(
            model,
            name,
            int(model.image_size),
            digest,
            model.sam_prompt_encoder,
            model.sam_mask_decoder,
            dtype,
        )
        self._forward_image = torch.compile(model.forward_image) if compile else model.forward_image
        self._mean = torch.tensor(IMAGENET.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(IMAGENET.std, device=self.device).view(3, 1, 1)

    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, H, W)`` in 0 to 1.

        ``image`` is ``(B, 256, H/16, W/16)`` with the "no memory" embedding
        added; ``levels`` are the two finer maps as the decoder adds them,
        ``(B, 32, H/4, W/4)`` and ``(B, 64, H/8, W/8)``.
        """
        images = self._checked_images(images)
        height, width = images.shape[-2:]
        with self._autocast():
            maps = self._forward_image((images - self._mean) / self._std)["backbone_fpn"]
        at4, at8, image = (level.float() for level in maps)
        if self.model.directly_add_no_mem_embed:
            image = image + self.model.no_mem_embed.view(1, -1, 1, 1)
        return Features(image, (at4, at8), (height, width))

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes; unlike SAM, SAM 2 pads beside boxes too."""
        prompts = pad_beside_boxes(prompts.to(self.device))
        return sparse_tokens(self._prompt_encoder, prompts, size)

    def _choose(self, masks: Masks, multimask: bool) -> Masks:
        decoder = self._mask_decoder
        if multimask or not decoder.dynamic_multimask_via_stability:
            return super()._choose(masks, multimask)
        logits, iou = decoder._dynamic_multimask_via_stability(masks.logits, masks.iou)
        return Masks(logits, iou)


def pad_beside_boxes(prompts: PromptSet) -> PromptSet:
    """The prompts with a point that says nothing beside their boxes, as the official predictor gives it."""
    if prompts.boxes is None:
        return prompts
    padding = prompts.boxes.new_tensor([0.0, 0.0, POINT_PADDING]).expand(len(prompts), 1, 3)
    points = padding if prompts.points is None else torch.cat([prompts.points, padding], dim=1)
    return prompts.replace(points=points)


def build(name: str) -> nn.Module:
    """Official model of that name with random weights, as ``build_sam2`` makes it for images.

    Read from the package's own configuration file, without the global state of its builder.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    version, _, size = name.partition("_hiera_")
    file = files("sam2").joinpath("configs", version, f"{version}_hiera_{LETTERS[size]}.yaml")
    config = OmegaConf.create(file.read_text(encoding="utf-8"))
    OmegaConf.update(config, "model.sam_mask_decoder_extra_args", STABILITY)
    model: nn.Module = instantiate(config.model, _recursive_=True)
    return model


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> Sam2Foundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`."""
    path = path or find_weights(name)
    model = load_strict(build(name), read_tensors(path), str(path))
    return Sam2Foundation(model.to(device), name, dtype, compile)
