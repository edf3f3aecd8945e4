"""LoRA adapters of language models, by PEFT: made for training, written, and read again.

SAM4MLLM adapts the projections of attention and of the feed-forward network in every layer of the language
model, and the projector of pictures (Chen et al. 2024); the vision tower stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from domainsam.errors import CheckpointError, MissingInputError, one_line
from domainsam.tensorfile import read_metadata, read_safetensors, write_safetensors

HEADER = "domainsam"
LANGUAGE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Names of the projections in layers of language models."""
VISION = ("vision", "visual", "image_encoder")
"""Parts of names that say that a module sees pictures."""
PROJECTORS = ("multi_modal_projector", "mm_projector", "connector", "merger")
"""Parts of names of what brings pictures into the language model."""
FOLDER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def find_targets(model: nn.Module) -> list[str]:
    """Full names of the linear layers that are adapted.

    Raises
    ------
    CheckpointError
        If the model has none.
    """
    targets = []
    for name, module in model.named_modules():
        parts = name.lower()
        projector = any(word in parts for word in PROJECTORS)
        language = name.rpartition(".")[2] in LANGUAGE and not any(word in parts for word in VISION)
        if isinstance(module, nn.Linear) and (projector or language):
            targets.append(name)
    if not targets:
        raise CheckpointError("the model has no layers whose names say that they are a language model's")
    return targets


def add_adapter(model: Any, rank: int, alpha: float, dropout: float) -> tuple[Any, dict[str, Any]]:
    """The model with a fresh adapter, all else frozen, and what describes it."""
    about = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout, "target_modules": find_targets(model)}
    return _adapt(model, about), about


def _adapt(model: Any, about: Mapping[str, Any]) -> Any:
    """The model with an adapter as described, its weights fresh."""
    with warnings.catch_warnings():
        # PEFT asks models by names that transformers is about to change.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, LoraConfig(**about))


def save_adapter(model: Any, path: Path, about: Mapping[str, Any]) -> None:
    """Write the adapter of a model, with what describes it in the header.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    tensors: dict[str, Tensor] = {
        name: value.detach().cpu().float() for name, value in get_peft_model_state_dict(model).items()
    }
    write_safetensors(path, tensors, {HEADER: json.dumps(dict(about), sort_keys=True)})


def apply_adapter(model: Any, path: Path) -> Any:
    """The model with an adapter merged into it.

    Parameters
    ----------
    path
        A file of :func:`save_adapter`, or a folder of PEFT's with ``adapter_model.safetensors``.

    Raises
    ------
    MissingInputError
        If there is none.
    CheckpointError
        If it is damaged, a pickle, or another model's.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such adapter; check the path given with --adapter")
    about, tensors = _read_folder(path) if path.is_dir() else _read_file(path)
    try:
        made = _adapt(model, about)
        result: Any = set_peft_model_state_dict(made, tensors)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: is an adapter of another model than {type(model).__name__}: {one_line(error)[:200]}"
        ) from error
    missing = [name for name in getattr(result, "missing_keys", ()) if "lora_" in name]
    strange = list(getattr(result, "unexpected_keys", ()))
    if missing or strange:
        first = (missing or strange)[0]
        raise CheckpointError(
            f"{path}: is an adapter of another model than {type(model).__name__}: {first} does not fit"
        )
    return made.merge_and_unload()


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    told = read_metadata(path).get(HEADER)
    try:
        about = json.loads(told or "{}").get("lora")
    except (json.JSONDecodeError, AttributeError):
        about = None
    if not isinstance(about, dict):
        raise CheckpointError(f"{path}: is no adapter that train-words wrote, nor a folder of PEFT's")
    return about, read_safetensors(path)


def _read_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config, weights = (path / name for name in FOLDER_FILES)
    if not config.is_file() or not weights.is_file():
        raise CheckpointError(f"{path}: holds no {' and '.join(FOLDER_FILES)}; pickles are not read")
    try:
        told = json.loads(config.read_text("utf-8"))
        about = {name: told[name] for name in ("r", "lora_alpha", "target_modules")}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config}: is no description of a LoRA adapter: {error}") from error
    kept = ("lora_dropout", "bias", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")
    about |= {name: told[name] for name in kept if told.get(name) is not None}
    return about, read_safetensors(weights)


def identify_adapter(path: Path) -> str:
    """Digest of an adapter's weights; of none where there is no such file."""
    file = path / FOLDER_FILES[1] if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else "none"
