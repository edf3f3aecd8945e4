"""Efficient generalists: SAM's prompt encoder and mask decoder on a published encoder that costs less.

An encoder is a row of :data:`SPECS`; EfficientSAM, whose decoder is its own, is in
:mod:`domainsam.foundation.efficientsam`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam import foundations
from domainsam.errors import CheckpointError
from domainsam.foundation.attention import fuse_attention
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.decoders.efficientsam import PointDecoder, PointEncoder
from domainsam.foundation.decoders.sam import SamStyleFoundation
from domainsam.foundation.encoders import (
    edge_sam,
    efficientsam,
    efficientvit,
    lightening,
    repvit_sam,
    tiny_vit,
)
from domainsam.foundation.encoders.spec import EncoderSpec
from domainsam.foundation.layers import EMBED_DIM
from domainsam.foundation.loading import read_tensors
from domainsam.foundation.norms import merge_norms
from domainsam.protocols import Features
from domainsam.tensorfile import is_safetensors, load_strict, read_metadata, write_safetensors
from domainsam.weights import find_weights

SPECS: dict[str, EncoderSpec] = {
    spec.name: spec
    for module in (efficientsam, efficientvit, repvit_sam, edge_sam, lightening, tiny_vit)
    for spec in module.SPECS
}
"""Encoders by name."""

HEADER = "domainsam"
"""Key of the JSON text in the header of a file of ours."""
SETTINGS = "encoder"
"""Entry of that text with what the encoder is built with, where an official file has nothing to say."""
STRIDE = 16
DECODER_NORM_EPS = 1e-6
"""EfficientViT-SAM's official code sets it for every norm, SAM's decoder included (``set_norm_eps``)."""


class EfficientNetwork(nn.Module):
    """Image encoder, prompt encoder and mask decoder; all but the encoder's trunk under official names."""

    def __init__(self, spec: EncoderSpec, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.image_encoder = spec.make(**(settings or {}))
        self.prompt_encoder: nn.Module
        self.mask_decoder: nn.Module
        if spec.name in efficientsam.SIZES:
            self.prompt_encoder, self.mask_decoder = PointEncoder(), PointDecoder()
        else:
            grid = (spec.image_size // STRIDE,) * 2
            self.prompt_encoder = PromptEncoder(EMBED_DIM, grid, (spec.image_size,) * 2, mask_in_chans=16)
            transformer = TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, num_heads=8, mlp_dim=2048)
            self.mask_decoder = MaskDecoder(transformer_dim=EMBED_DIM, transformer=transformer)
        fuse_attention(self.mask_decoder, Attention)
        if spec.name in efficientvit.SIZES:
            for module in self.mask_decoder.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = DECODER_NORM_EPS


class EfficientFoundation(SamStyleFoundation):
    """A published encoder with SAM's decoder, frozen, for images of any size that is a multiple of 32.

    Input rule, statistics and the frame of prompts are the encoder's own: none of them is an option.

    Parameters
    ----------
    network
        With its weights in place, float32, on the device to compute on. Batch norms and parallel
        branches of its encoder are merged here, so it cannot be trained any more.
    spec
        What is known of the encoder.
    dtype
        Type of the large matrix products; features, tokens and masks stay float32.
    compile
        Compile the image encoder with ``torch.compile``.
    """

    model: EfficientNetwork

    def __init__(
        self,
        network: EfficientNetwork,
        spec: EncoderSpec,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> None:
        digest = digest_tensors(
            {spec.official_name(key): value for key, value in network.state_dict().items()}
        )
        merge_branches(network.image_encoder.eval())
        if spec.channels_last:
            network.image_encoder.to(memory_format=torch.channels_last)
        super().__init__(
            network, spec.name, spec.image_size, digest, network.prompt_encoder, network.mask_decoder, dtype
        )
        self.spec = spec
        self._encode = torch.compile(network.image_encoder) if compile else network.image_encoder

    def encode(self, images: Tensor) -> Features:
        """Features ``(B, 256, H/16, W/16)`` of RGB images ``(B, 3, H, W)`` in 0 to 1; no finer levels."""
        images = self._checked_images(images)
        with self._autocast():
            return encode_with(self._encode, images, self.spec)


def encode_with(encoder: Callable[[Tensor], Tensor], images: Tensor, spec: EncoderSpec) -> Features:
    """Features ``(B, 256, H/16, W/16)`` of an encoder that is fed as its row says.

    ``images`` are ``(B, 3, H, W)`` floats in 0 to 1, with sides that are multiples of 32.
    """
    height, width = images.shape[-2:]
    features = encoder(fit_images(images, spec)).float()
    grid = (height // STRIDE, width // STRIDE)
    return Features(features[..., : grid[0], : grid[1]].contiguous(), (), (height, width))


def fit_images(images: Tensor, spec: EncoderSpec) -> Tensor:
    """Images as an encoder wants them: made smaller, normalised, padded with zeros."""
    height, width = images.shape[-2:]
    if spec.shrink > 1:
        size = (height // spec.shrink, width // spec.shrink)
        images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
    images = normalise(images, spec)
    right, bottom = (-side % spec.multiple // spec.shrink for side in (width, height))
    if right or bottom:
        images = F.pad(images, (0, right, 0, bottom))
    if spec.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images


def normalise(images: Tensor, spec: EncoderSpec) -> Tensor:
    """Images ``(..., 3, H, W)`` in 0 to 1 by the statistics that an encoder was trained with."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (spec.pixels.mean, spec.pixels.std))
    return (images - mean) / std


def merge_branches(encoder: nn.Module) -> None:
    """Merge RepViT's parallel branches into one, and batch norms into their convolutions, in place.

    The outputs stay the same up to rounding.
    """
    reparameterize_model(encoder, inplace=True)
    merge_norms(encoder)


def build(
    tensors: Mapping[str, Tensor], spec: EncoderSpec, source: str, settings: Mapping[str, Any] | None = None
) -> EfficientNetwork:
    """Network of that kind holding an official file's tensors, every one of them accounted for.

    Raises
    ------
    CheckpointError
        If they are another foundation's, or some are missing, unexpected or of another shape.
    """
    # Random weights of two hundred million parameters would take seconds, only to be replaced.
    with torch.device("meta"):
        network = EfficientNetwork(spec, settings)
    stored = network.state_dict()
    if any(buffer.is_meta for name, buffer in network.named_buffers() if name not in stored):
        network = EfficientNetwork(spec, settings)  # What no file holds has to be computed.
    names = {name: spec.official_name(name) for name in network.state_dict()}
    kept = {name: value for name, value in tensors.items() if not name.startswith(spec.unused)}
    if not set(names.values()) <= kept.keys():
        found = foundations.identify({name: tuple(value.shape) for name, value in tensors.items()})
        if found not in (None, spec.name):
            raise CheckpointError(
                f"{source} holds the tensors of {found}, not of {spec.name}: "
                f"say --foundation {found}, or give the official file of {spec.name}"
            )
    return load_strict(network, kept, source, assign=True, names=names)


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> EfficientFoundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`."""
    path = path or find_weights(name)
    network = load_network(name, path)
    foundation = EfficientFoundation(network.to(device), SPECS[name], dtype, compile)
    foundation.licence = _read_header(path).get("licence")
    return foundation


def load_network(name: str, path: Path | None) -> EfficientNetwork:
    """The network of a name with the weights of a file, by default the official one on this machine.

    Raises
    ------
    WeightsError
        If the file is nowhere to be found.
    CheckpointError
        As :func:`build`.
    """
    path = path or find_weights(name)
    return build(read_tensors(path), SPECS[name], str(path), _read_settings(path))


def _read_header(path: Path) -> Mapping[str, Any]:
    """What a file of ours says about itself; empty for all others."""
    if not is_safetensors(path) or HEADER not in (header := read_metadata(path)):
        return {}
    try:
        return dict(json.loads(header[HEADER]))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a header that is no table; fetch or write it again") from error


def _read_settings(path: Path) -> Mapping[str, Any]:
    """What a file of ours says about its encoder; empty for all others."""
    settings = _read_header(path).get(SETTINGS, {})
    if not isinstance(settings, dict) or not all(type(value) is int for value in settings.values()):
        raise CheckpointError(f"{path} has a header without whole numbers by name under {SETTINGS!r}")
    return settings


def save_network(
    network: EfficientNetwork,
    spec: EncoderSpec,
    path: Path,
    about: Mapping[str, Any] | None = None,
    **settings: int,
) -> None:
    """Write a network, its norms not merged, as safetensors under the official names.

    Parameters
    ----------
    about
        What else the header should say, as values that JSON can hold.
    settings
        What the encoder was built with, where that is not as usual.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    tensors = {spec.official_name(name): value for name, value in network.state_dict().items()}
    header = {**(about or {}), "name": spec.name, SETTINGS: settings}
    write_safetensors(path, tensors, {HEADER: json.dumps(header, sort_keys=True)})
