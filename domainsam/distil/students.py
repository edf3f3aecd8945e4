"""Students: promptable networks that learn, by name, with their teacher's decoder to begin with.

A student is a foundation's network before its norms are merged and its weights
frozen. It answers as the foundation will, and is written as the foundation reads it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.decoders.efficientsam import SLOTS, PointDecoder
from domainsam.foundation.decoders.sam import decode_all, sparse_tokens
from domainsam.foundation.efficient import EfficientNetwork, encode_with, save_network
from domainsam.foundation.efficientsam import embed_slots
from domainsam.foundation.embedded import save_embedded
from domainsam.foundation.encoders.spec import EncoderSpec
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks

Part = Literal["encoder", "prompts", "decoder"]
PARTS: tuple[Part, ...] = ("encoder", "prompts", "decoder")
UNUSED = ("mask_downscaling",)
"""Of the prompt encoder: no recipe asks by masks."""


class Student(nn.Module, ABC):
    """A network that encodes images and answers prompts, some of whose parts learn.

    Parameters
    ----------
    name
        Of the foundation that it becomes.
    network
        With its weights in place, norms not merged.
    """

    outside = True
    """Whether it understands points beside an object."""
    slots: int | None = None
    """Most points of a prompt, a box counting as two."""

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name, self.network = name, network
        self._still: tuple[Part, ...] = ()

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, H, W)`` in 0 to 1, sides multiples of 32."""

    @abstractmethod
    def decode_all(self, features: Features, prompts: PromptSet) -> Masks:
        """Logits ``(N, 4, H/4, W/4)`` and IoU ``(N, 4)``: the single reading first, then three others."""

    @abstractmethod
    def modules_of(self, part: Part) -> list[nn.Module]:
        """Modules of a part."""

    @abstractmethod
    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write it as a weight file that ``--foundation`` takes; ``about`` goes into the header."""

    @property
    def encoder(self) -> nn.Module:
        """The image encoder."""
        return self.modules_of("encoder")[0]

    def learn(self, *parts: Part) -> None:
        """Let these parts learn, and keep all others as they are, their running statistics too."""
        self.requires_grad_(False)
        self._still = tuple(part for part in PARTS if part not in parts)
        for part in parts:
            for module in self.modules_of(part):
                for name, parameter in module.named_parameters():
                    parameter.requires_grad_(not name.startswith(UNUSED))
        self.train(self.training)

    def train(self, mode: bool = True) -> Student:
        """As ``nn.Module.train``, but what does not learn stays in evaluation mode."""
        super().train(mode)
        for part in self._still:
            for module in self.modules_of(part):
                module.eval()
        return self

    def adopt(self, teacher: nn.Module) -> bool:
        """Begin with a teacher network's prompt encoder and decoder; False where they do not fit."""
        names = {module: name for name, module in self.network.named_modules()}
        theirs = dict(teacher.named_modules())
        pairs = []
        for module in (module for part in PARTS[1:] for module in self.modules_of(part)):
            other = theirs.get(names[module])
            if other is None or _shapes(other) != _shapes(module):
                return False
            pairs.append((module, other))
        for module, other in pairs:
            module.load_state_dict(other.state_dict())
        return True


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


class SamStudent(Student):
    """A published encoder with SAM's decoder, or with EfficientSAM's own.

    Parameters
    ----------
    network, spec
        The network, and what is known of its encoder.
    """

    network: EfficientNetwork

    def __init__(self, network: EfficientNetwork, spec: EncoderSpec) -> None:
        super().__init__(spec.name, network)
        self.spec = spec
        self.own_decoder = isinstance(network.mask_decoder, PointDecoder)
        if self.own_decoder:
            self.outside, self.slots = False, SLOTS

    def encode(self, images: Tensor) -> Features:
        return encode_with(self.network.image_encoder, images, self.spec)

    def decode_all(self, features: Features, prompts: PromptSet) -> Masks:
        encoder: Any = self.network.prompt_encoder
        own = features[prompts.image_index]
        grid = (own.image.shape[-2], own.image.shape[-1])
        # Codes hold sines of large angles and are never reduced in precision.
        with torch.autocast(own.image.device.type, enabled=False):
            position = encoder.pe_layer(grid)[None]
            if self.own_decoder:
                tokens = embed_slots(encoder, prompts, features.size, self.name)
                dense = own.image.new_zeros(1, 1, 1, 1)
            else:
                tokens = sparse_tokens(encoder, prompts, features.size)
                dense = encoder.no_mask_embed.weight[..., None, None]
        return decode_all(self.network.mask_decoder, own.image, (), position, tokens, dense)

    def modules_of(self, part: Part) -> list[nn.Module]:
        network = self.network
        return [
            {
                "encoder": network.image_encoder,
                "prompts": network.prompt_encoder,
                "decoder": network.mask_decoder,
            }[part]
        ]

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        save_network(self.network, self.spec, path, about)


class CompactStudent(Student):
    """The embedded foundation's decoder on a trunk of ``timm``.

    Parameters
    ----------
    network
        The network.
    header
        What the file has to say for the network to be built again: ``encoder``, ``mlp_dim``.
    image_size
        Side of the pictures that it is for.
    """

    network: CompactSam

    def __init__(self, network: CompactSam, header: Mapping[str, Any], image_size: int) -> None:
        super().__init__("embedded", network)
        self.header, self.image_size = dict(header), image_size

    def encode(self, images: Tensor) -> Features:
        features = self.network.encode(images)
        levels = tuple(level.float() for level in features.levels)
        return Features(features.image.float(), levels, features.size)

    def decode_all(self, features: Features, prompts: PromptSet) -> Masks:
        with torch.autocast(features.image.device.type, enabled=False):
            tokens = self.network.embed(prompts, features.size)
        masks = self.network.decode_all(features, prompts.replace(tokens=tokens))
        return Masks(masks.logits.float(), masks.iou.float())

    def modules_of(self, part: Part) -> list[nn.Module]:
        network = self.network
        return {
            "encoder": [network.encoder],
            "prompts": [network.prompt_encoder, network.dense_prompts],
            "decoder": [network.decoder],
        }[part]

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        save_embedded(self.network, path, {**about, **self.header, "image_size": self.image_size})
