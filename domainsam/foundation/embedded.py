"""The embedded foundation: our own small promptable network, shipped with the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from timm.utils.model import reparameterize_model
from torch import Tensor

from domainsam.errors import CheckpointError, WeightsError
from domainsam.foundation.base import FrozenFoundation, answer_nothing, decode_by_parts, digest_tensors
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.loading import read_tensors
from domainsam.foundation.norms import find_merged
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks
from domainsam.tensorfile import COUNTER, halve, load_strict, read_metadata, write_safetensors

WEIGHTS = Path(__file__).parent / "weights" / "embedded.safetensors"
HEADER = "domainsam"
"""Key of the JSON text in the file's header."""
REQUIRED = ("name", "version", "licence")
DEFAULTS: dict[str, object] = {"image_size": 512, "encoder": "repvit_m1", "mlp_dim": 1024}
DECODE_CHUNK = 64
"""Prompts decoded at a time, so that many prompts on a large tile do not fill the memory."""


class EmbeddedFoundation(FrozenFoundation):
    """``CompactSam``, frozen, for images of any size that is a multiple of 32.

    Parameters
    ----------
    network
        With its weights in place, float32. Its encoder's parallel training
        branches are merged here, so it cannot be trained any more.
    name, image_size
        As for :class:`domainsam.foundation.base.FrozenFoundation`.
    device
        Where it computes.
    dtype
        Type of convolutions and matrix products; features, tokens and masks stay float32.
    compile
        Compile the image encoder with ``torch.compile``.
    """

    model: CompactSam

    def __init__(
        self,
        network: CompactSam,
        name: str = "embedded",
        image_size: int = 512,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> None:
        digest = digest_tensors(network.state_dict())
        merge_branches(network.eval())
        network = network.to(device)
        if dtype != torch.float32:
            # Twice as fast in 16 bits on a CPU, where the small convolutions otherwise reorder every map.
            network.encoder.to(memory_format=torch.channels_last)
        super().__init__(network, name, image_size, digest, dtype)
        self._encode = torch.compile(network.encode) if compile else network.encode

    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, H, W)`` in 0 to 1.

        ``image`` is ``(B, 256, H/16, W/16)``, ``levels`` are ``(B, 32, H/4, W/4)`` and ``(B, 64, H/8, W/8)``.
        """
        images = self._checked_images(images)
        with self._autocast():
            features: Features = self._encode(images)
        levels = tuple(level.float() for level in features.levels)
        return Features(features.image.float(), levels, features.size)

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes in an image of ``size`` (H, W)."""
        return self.model.embed(prompts.to(self.device), size)

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        """One mask a prompt, or three readings of it, logits ``(N, K, H/4, W/4)``.

        Raises
        ------
        InputError
            If a prompt points at no encoded image, or a mask prompt is not a quarter of the image's size.
        """
        prompts = self._checked_prompts(features, prompts)
        if not len(prompts):
            return answer_nothing(features, multimask)
        if prompts.tokens is None:
            prompts = prompts.replace(tokens=self.embed(prompts, features.size))
        with self._autocast():
            masks = decode_by_parts(
                prompts, DECODE_CHUNK, lambda part: self.model.decode(features, part, multimask)
            )
        return Masks(masks.logits.float(), masks.iou.float())


def merge_branches(network: CompactSam) -> None:
    """Merge RepViT's parallel convolutions, and a trunk's batch norms, into single convolutions, in place.

    Wang et al. 2023, section 3.1; the outputs stay the same up to rounding. Norms of a trunk that does not
    answer the same without them stay.
    """
    reparameterize_model(network, inplace=True)
    network.encoder.trunk = find_merged(network.encoder.trunk)


def save_embedded(model: CompactSam, path: str | Path, metadata: Mapping[str, object]) -> Path:
    """Write a trained network as float16 safetensors; the file appears only when complete.

    Parameters
    ----------
    model
        The trained network, branches not merged.
    path
        Usually :data:`WEIGHTS`.
    metadata
        ``name``, ``version`` and ``licence``; ``image_size``, ``encoder`` and ``mlp_dim``
        where they differ from :data:`DEFAULTS`; anything else that JSON can hold.

    Raises
    ------
    CheckpointError
        If a required entry is missing, or a weight is too large for float16 or not a number.
    OutputError
        If the file cannot be written.
    """
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise CheckpointError(f"metadata of the embedded weights lacks {', '.join(missing)}")
    path = Path(path)
    tensors = {name: value for name, value in halve(model.state_dict()).items() if not name.endswith(COUNTER)}
    header = {HEADER: json.dumps({**DEFAULTS, **metadata}, sort_keys=True)}
    write_safetensors(path, tensors, header)
    return path


def read_header(path: Path) -> dict[str, object]:
    """What :func:`save_embedded` said about a file.

    Raises
    ------
    CheckpointError
        If the file has no such header.
    """
    try:
        header = json.loads(read_metadata(path)[HEADER])
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} is no file of the embedded foundation: its header has no {HEADER!r} entry; "
            "write it with save_embedded"
        ) from error
    return {**DEFAULTS, **header}


def build_network(header: Mapping[str, object]) -> CompactSam:
    """A network with random weights as a file's header describes it."""
    return CompactSam(str(header["encoder"]), int(str(header["mlp_dim"])))


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> EmbeddedFoundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`."""
    path = path or WEIGHTS.with_name(f"{name}.safetensors")
    if not path.is_file():
        raise WeightsError(
            f"this installation lacks the embedded weights ({path}): reinstall domainsam, "
            "or name another foundation, see 'domainsam weights list'"
        )
    tensors = read_tensors(path)
    header = read_header(path)
    if float(str(header.get("scale", 1))) != 1:
        raise CheckpointError(
            f"{path} is of the kind of embedded_fast, which this version no longer has: "
            "use embedded_lite, or train it anew with 'domainsam distil'"
        )
    network = load_strict(build_network(header), tensors, str(path))
    foundation = EmbeddedFoundation(network, name, int(str(header["image_size"])), device, dtype, compile)
    foundation.licence = str(header["licence"]) if "licence" in header else None
    return foundation
