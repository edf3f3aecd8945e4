"""CLIP as Open-Vocabulary SAM takes it: open_clip's network, its weights, and vectors of words."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import CheckpointError, DependencyError, OutputError
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.loading import read_tensors
from domainsam.machine import find_user_cache
from domainsam.protocols import Word
from domainsam.tensorfile import load_strict, read_safetensors, write_safetensors
from domainsam.vocabulary.scripted import is_scripted, read_scripted

log = logging.getLogger(__name__)

EXTRAS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""Numbers that OpenAI's files hold beside weights, and a mask that follows from them."""
SIZES = ("small", "medium", "large")
TEMPLATES = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    *(f"a photo of a {size} {{}}." for size in SIZES),
    *(f"This is a photo of a {size} {{}}." for size in SIZES),
    *(f"There is a {size} {{}} in the scene." for size in SIZES),
)
"""Those of ViLD (Gu et al. 2022) that Open-Vocabulary SAM's published classifiers are made with."""
AT_ONCE = 64
"""Texts that go through the tower together."""


def import_open_clip() -> Any:
    """The package, imported.

    Raises
    ------
    DependencyError
        If it is not installed.
    """
    try:
        import open_clip
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != "open_clip":
            raise
        raise DependencyError("open_clip is not installed: run pip install 'domainsam[words]'") from error
    return open_clip


def describe_rn50x16() -> dict[str, Any]:
    """Sizes of CLIP's RN50x16, as open_clip has them."""
    config: dict[str, Any] = import_open_clip().get_model_config("RN50x16")
    return config


def build_clip(config: Mapping[str, Any]) -> nn.Module:
    """CLIP of those sizes with random weights; OpenAI's use the quick form of GELU in the text tower."""
    import_open_clip()
    from open_clip.model import CLIP

    network: nn.Module = CLIP(**config, quick_gelu=True)
    return network


def read_clip(path: Path, config: Mapping[str, Any]) -> nn.Module:
    """CLIP with the weights of a file: OpenAI's archive, or a state dict with the same names.

    Raises
    ------
    CheckpointError
        If it is damaged, or another network's.
    """
    tensors = read_scripted(path, EXTRAS) if is_scripted(path) else read_tensors(path)
    tensors = {name: value for name, value in tensors.items() if name.rpartition(".")[2] not in EXTRAS}
    if "visual.layer1.0.conv1.weight" not in tensors:
        raise CheckpointError(
            f"{path} does not hold a CLIP with a residual network (no visual.layer1...); expected RN50x16, "
            "as OpenAI publishes it, or its tensors under the same names"
        )
    with torch.device("meta"):
        network = build_clip(config)
    # What no file holds follows from the sizes: made anew, off the meta device.
    for name, buffer in network.named_buffers():
        if name == "attn_mask":
            length = buffer.shape[0]
            mask = torch.full((length, length), float("-inf")).triu_(1)
            network.register_buffer("attn_mask", mask, persistent=False)
    return load_strict(network, tensors, str(path), assign=True)


class WordTower:
    """Vectors of words by CLIP's text tower, one for every template, kept for later runs.

    Parameters
    ----------
    network
        CLIP.
    templates
        Texts with ``{}`` in the place of the word.
    folder
        Where vectors are kept; None for the cache folder, and an empty path for nowhere.
    """

    def __init__(
        self, network: Any, templates: Sequence[str] = TEMPLATES, folder: Path | None = None
    ) -> None:
        self.network, self.templates = network, tuple(templates)
        self.folder = find_user_cache() / "words" if folder is None else folder
        self._tokenise = import_open_clip().get_tokenizer("RN50x16")
        self._kept: dict[tuple[Word, ...], Tensor] = {}
        self._digest: str | None = None

    def embed(self, words: Sequence[Word]) -> Tensor:
        """Vectors ``(K, P, D)`` of length 1: of each word's phrases in all templates.

        A word with fewer phrases than another repeats its own, which the greatest of them does not feel.
        """
        key = tuple(words)
        if key not in self._kept:
            self._kept.clear()
            self._kept[key] = self._read(key)
        return self._kept[key]

    def _read(self, words: tuple[Word, ...]) -> Tensor:
        texts = [
            [text.format(phrase) for phrase in word.phrases for text in self.templates] for word in words
        ]
        flat = list(dict.fromkeys(text for row in texts for text in row))
        vectors = dict(zip(flat, self._embed_kept(flat), strict=True))
        most = max(len(row) for row in texts)
        rows = [torch.stack([vectors[row[place % len(row)]] for place in range(most)]) for row in texts]
        return torch.stack(rows)

    def _embed_kept(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(N, D)`` of texts; from the cache folder where these very texts were met before."""
        if self.folder == Path():
            return self._embed_texts(texts)
        if self._digest is None:
            tower = {
                name: value for name, value in self.network.state_dict().items() if "visual." not in name
            }
            self._digest = digest_tensors(tower)
        told = "\n".join([self._digest, *texts])
        path = self.folder / f"{hashlib.sha256(told.encode()).hexdigest()}.safetensors"
        if path.is_file():
            with suppress(CheckpointError, KeyError):
                kept = read_safetensors(path)["vectors"]
                if kept.shape[0] == len(texts):
                    return kept.to(self._device)
        vectors = self._embed_texts(texts)
        try:
            write_safetensors(path, {"vectors": vectors}, {})
        except OutputError as error:
            log.debug("%s", error)
        return vectors

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(iter(self.network.parameters())).device
        return device

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), AT_ONCE):
                tokens = self._tokenise(list(texts[start : start + AT_ONCE])).to(self._device)
                length = self.network.positional_embedding.shape[0]
                parts.append(F.normalize(self.network.encode_text(tokens[:, :length]).float(), dim=-1))
        return torch.cat(parts).clone()
