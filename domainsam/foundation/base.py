"""Base class of foundations: frozen weights, their SHA-256, and checks of images and prompts."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from domainsam.errors import InputError
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks

SIDE_MULTIPLE = 32
"""Image sides must be multiples of this: the coarsest stride of the encoders."""
DECODE_CHUNK = 16
"""Prompts that SAM's decoders take at a time; one takes about 60 MB on its way through at 1024 pixels."""


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors, the same whatever file or float type they were stored in.

    Over the tensors in the order of their names: the name, the shape, and
    the values as little-endian float32 (exact for float16 and bfloat16).
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def freeze(model: nn.Module) -> nn.Module:
    """The same module in evaluation mode, without a trainable parameter."""
    return model.eval().requires_grad_(False)


class Named:
    """What foundations of every runtime are called, and the checks that they make of images and prompts."""

    name: str
    image_size: int
    sha256: str

    @property
    def device(self) -> torch.device:
        """Where it takes and gives its tensors."""
        raise NotImplementedError

    def _checked_images(self, images: Tensor) -> Tensor:
        """Images as float32 on this device.

        Raises
        ------
        InputError
            If they are not ``(B, 3, H, W)`` floats with sides that are multiples of 32.
        """
        shape = tuple(images.shape)
        fits = (
            len(shape) == 4
            and shape[1] == 3
            and all(side and side % SIDE_MULTIPLE == 0 for side in shape[2:])
        )
        if not fits or not images.is_floating_point():
            raise InputError(
                f"{self.name} was given images of shape {shape} and type {images.dtype}; expected floats "
                f"(B, 3, H, W) with H and W multiples of {SIDE_MULTIPLE}: pad or resize them"
            )
        return images.to(self.device, torch.float32)

    def _checked_prompts(self, features: Features, prompts: PromptSet) -> PromptSet:
        """Prompts on this device.

        Raises
        ------
        InputError
            If one of them points at an image that was not encoded, or mask
            logits are not a quarter of the image's size.
        """
        prompts = prompts.to(self.device)
        count, index = features.image.shape[0], prompts.image_index
        if len(prompts) and (int(index.min()) < 0 or int(index.max()) >= count):
            raise InputError(
                f"{self.name}: prompts point at images {int(index.min())} to {int(index.max())}, "
                f"but {count} images were encoded, counted from 0"
            )
        quarter = (features.size[0] // 4, features.size[1] // 4)
        if prompts.mask_logits is not None and tuple(prompts.mask_logits.shape[2:]) != quarter:
            raise InputError(
                f"{self.name}: mask prompts of size {tuple(prompts.mask_logits.shape[2:])} for images of "
                f"size {features.size}; expected a quarter of it, {quarter}"
            )
        return prompts


def decode_by_parts(prompts: PromptSet, most: int, decode: Callable[[PromptSet], Masks]) -> Masks:
    """The masks that ``decode`` gives, asked by at most ``most`` prompts at a time to save memory.

    No prompts are one part of their own.
    """
    starts = range(0, max(1, len(prompts)), most)
    parts = [decode(prompts[start : start + most]) for start in starts]
    return Masks(torch.cat([part.logits for part in parts]), torch.cat([part.iou for part in parts]))


def answer_nothing(features: Features, multimask: bool) -> Masks:
    """What ``decode`` gives where there are no prompts: logits ``(0, K, H/4, W/4)`` and IoU ``(0, K)``."""
    height, width = features.size
    empty = features.image.new_zeros(0, 3 if multimask else 1, height // 4, width // 4)
    return Masks(empty, empty[:, :, 0, 0])


class FrozenFoundation(Named):
    """A frozen network and the facts that a :class:`domainsam.protocols.Foundation` tells of itself.

    It is deliberately no ``nn.Module``: a specialist that keeps it as an
    attribute then neither trains it, nor saves it, nor changes its mode.

    Parameters
    ----------
    model
        The network; frozen here.
    name
        Its name in :data:`domainsam.foundations.FOUNDATIONS`.
    image_size
        Side in pixels of the square images it was trained on.
    sha256
        Digest of its tensors, from :func:`digest_tensors`.
    dtype
        Type of the large matrix products; features, tokens and masks stay float32.

    ``licence`` is what a file of one's own says of itself; None where the table's row holds.
    """

    licence: str | None = None

    def __init__(
        self,
        model: nn.Module,
        name: str,
        image_size: int,
        sha256: str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = freeze(model)
        self.name = name
        self.image_size = image_size
        self.sha256 = sha256
        self.dtype = dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


class PartedFoundation(FrozenFoundation, ABC):
    """A frozen network whose decoder takes a few prompts at a time, which are made tokens before."""

    @abstractmethod
    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes in an image of ``size`` (H, W)."""

    @abstractmethod
    def _decode_chunk(self, features: Features, prompts: PromptSet, multimask: bool) -> Masks:
        """The masks of prompts that have their tokens, perhaps of none."""

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        """One mask a prompt, or three readings of it, logits ``(N, K, H/4, W/4)``.

        Raises
        ------
        InputError
            If a prompt points at no encoded image, or a mask prompt is not a quarter of the image's size.
        """
        prompts = self._with_tokens(features, prompts)
        return decode_by_parts(
            prompts, DECODE_CHUNK, lambda part: self._decode_chunk(features, part, multimask)
        )

    def _with_tokens(self, features: Features, prompts: PromptSet) -> PromptSet:
        """Checked prompts with their tokens."""
        prompts = self._checked_prompts(features, prompts)
        if prompts.tokens is None:
            prompts = prompts.replace(tokens=self.embed(prompts, features.size))
        return prompts
