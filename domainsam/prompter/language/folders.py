"""Find and load a model of Hugging Face's transformers from a folder, and tell it from others."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from domainsam.errors import CheckpointError, DependencyError, WeightsError, one_line
from domainsam.machine import choose_device, choose_precision
from domainsam.prompter.language.codecs import choose_codec
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.speakers import AskOptions

READ = {"local_files_only": True, "trust_remote_code": False}
"""Nothing is downloaded, and no code of a model's folder runs."""


def load_hugging(options: AskOptions, device: str = "auto", precision: str = "auto") -> HuggingSpeaker:
    """The model of a folder, or of a name in the local cache, with its adapter if one is named.

    Raises
    ------
    WeightsError
        If there is no such model on this machine.
    CheckpointError
        If it cannot be used: it is of no known class, lacks files, or its weights are pickles.
    DependencyError
        If its processor needs a package that is not installed.
    ConfigError
        If the device is unknown.
    """
    where = choose_device(device)
    dtype = getattr(torch, choose_precision(precision, where))
    folder = find_folder(options.mllm)
    logging.disable_progress_bar()
    try:
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, use_safetensors=True, **READ)
        processor = AutoProcessor.from_pretrained(folder, **READ)
    except ImportError as error:
        raise DependencyError(f"{folder}: {one_line(error)[:300]}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: is no image-text-to-text model that can be used: {one_line(error)[:200]}"
        ) from error
    if not hasattr(processor, "image_processor"):
        raise CheckpointError(f"{folder}: has no processor for pictures (preprocessor_config.json)")
    identity = identify_folder(folder)
    if options.adapter is not None:
        from domainsam.prompter.language.adapters import apply_adapter, identify_adapter

        model = apply_adapter(model, options.adapter)
        identity += f"+{identify_adapter(options.adapter)}"
    codec = choose_codec(str(model.config.model_type), options.coordinates)
    model = model.to(where)
    return HuggingSpeaker(model, processor, codec, folder.name, identity, options.at_once)


def find_folder(name: str) -> Path:
    """The folder of a model that is named by it, or by OWNER/NAME in the local cache.

    A folder is all that transformers is given: of a name it asks the network for adapters, whatever it is
    told.

    Raises
    ------
    WeightsError
        If there is none, or it holds an adapter or something else.
    """
    folder = Path(name).expanduser()
    if not folder.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        cached = try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            raise WeightsError(
                f"no folder and no model {name!r} in the local cache, and nothing is downloaded: fetch it "
                "first, or give its folder"
            )
        folder = Path(cached).parent
    if not folder.exists():
        raise WeightsError(
            f"{folder}: no such folder; give that of a Hugging Face model, the name of one in the local "
            "cache such as OWNER/NAME, or the address of a server: http://localhost:8000/v1#NAME"
        )
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(
            f"{folder}: holds an adapter; name it with --adapter, and the model that it is for with --mllm"
        )
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder}: holds no config.json; expected the folder of a Hugging Face model")
    return folder


def identify_folder(folder: Path) -> str:
    """Digest of a model's folder: its small files' content, its large ones' names and sizes."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json" or path.suffix in (".jinja", ".model", ".txt"):
            digest.update(path.name.encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            facts = path.stat()
            digest.update(json.dumps([path.name, facts.st_size, facts.st_mtime_ns]).encode())
    return digest.hexdigest()[:16]
