"""Read weight files without running code that they contain, and identify their foundation."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from domainsam import foundations
from domainsam.errors import CheckpointError, InputError, WeightsError
from domainsam.foundation.inert import read_inert
from domainsam.limits import require_memory
from domainsam.tensorfile import (
    check_finite,
    describe_damage,
    is_safetensors,
    read_metadata,
    read_safetensors,
)

WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "network", "net")
"""Keys under which training code stores a state dict beside other things."""
PREFIXES = ("module.", "model.", "sam.", "_orig_mod.")
"""Added to every name by ``DataParallel``, by classes around a model or around a SAM, by compiling."""
COUNTERS = ("epoch", "step", "iter", "iteration", "global_step", "best_score", "best_acc", "lr", "seed")
"""What training code stores beside tensors in one and the same table; nothing of it is needed."""
UNPACKED_COPIES = 2
"""A checkpoint as unpacked from a zip, and its tensors."""


def read_tensors(path: str | Path, inert: bool = False) -> dict[str, Tensor]:
    """Named float32 tensors of a safetensors file or a PyTorch checkpoint, on the CPU.

    A state dict inside :data:`WRAPPERS` is taken out, :data:`PREFIXES` that
    all names share are dropped. Nothing is ever unpickled beyond plain tensors.

    Parameters
    ----------
    inert
        Also read checkpoints that hold objects beside tensors, as trainers write them: an object stays
        an empty thing, none of its code is looked up or run (:mod:`domainsam.foundation.inert`).

    Raises
    ------
    WeightsError
        If the file does not exist.
    CheckpointError
        If it is damaged, holds code, or holds something else than tensors.
    InputError
        If what is unpacked from a zip takes more memory than there may be.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"weight file {path} does not exist; give the path of a .safetensors, .pth or .pt file"
        )
    safe = is_safetensors(path)
    content = read_safetensors(path) if safe else _read_torch(path, inert)
    tensors = unwrap(content, path)
    if not safe:
        check_finite(path, tensors)
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _read_torch(path: Path, inert: bool = False) -> Any:
    try:
        _check_archive(path)
        if inert and zipfile.is_zipfile(path):
            return read_inert(path)
        # An open file, because torch.load chooses another reader for some names of files.
        with path.open("rb") as file, warnings.catch_warnings():
            # Torch warns of pickles that it then refuses; our own error says it in one line.
            warnings.simplefilter("ignore")
            return torch.load(unzip(file, path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"weight file {path} holds more than tensors (it could run code) or is no weight file at all; "
            "it was not opened: fetch the official file, or save its state dict as safetensors"
        ) from error
    except (MemoryError, CheckpointError, InputError):
        raise
    except Exception as error:
        # A damaged archive fails in whatever part of torch, zip or pickle meets it first.
        raise CheckpointError(describe_damage(path, error)) from error


def _check_archive(path: Path) -> None:
    """Compare the checksums of the archive that torch writes; torch itself passes over them."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(describe_damage(path, ValueError("a checksum is wrong")))


def unzip(file: BinaryIO, source: Path) -> BinaryIO:
    """The checkpoint inside a zip that holds only one, as EfficientSAM-S is published; else ``file``.

    Raises
    ------
    InputError
        If it takes more memory than there may be.
    """
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return file
    with zipfile.ZipFile(file) as archive:
        inner = [entry for entry in archive.infolist() if entry.filename.endswith((".pt", ".pth"))]
        # A checkpoint is a zip too, with a pickle in it.
        if len(inner) == 1 and not any(name.endswith("data.pkl") for name in archive.namelist()):
            size = inner[0].file_size
            require_memory(source, UNPACKED_COPIES * size, f"a checkpoint of {size} bytes unpacked")
            return io.BytesIO(archive.read(inner[0]))
    file.seek(0)
    return file


def unwrap(content: Any, source: str | Path) -> dict[str, Tensor]:
    """The state dict inside what was read.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"weight file {source} holds a {type(content).__name__}; expected named tensors"
        )
    if any(isinstance(value, Tensor) for value in content.values()):
        content = {name: value for name, value in content.items() if str(name) not in COUNTERS}
    strangers = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(
            f"weight file {source} holds values that are no tensors: {', '.join(sorted(strangers))}; "
            "expected a state dict"
        )
    tensors = {str(name): value for name, value in content.items()}
    while tensors and (shared := _shared_prefix(tensors)):
        tensors = {name.removeprefix(shared): value for name, value in tensors.items()}
    return tensors


def _shared_prefix(names: Iterable[str]) -> str | None:
    """The one of :data:`PREFIXES` that all names begin with, if there is one."""
    return next((start for start in PREFIXES if all(name.startswith(start) for name in names)), None)


def identify(path: str | Path) -> str:
    """Name of the foundation whose tensors a file holds.

    Raises
    ------
    CheckpointError
        If no foundation has such tensors, or the file cannot be read.
    """
    tensors = read_tensors(path)
    name = foundations.identify({key: tuple(value.shape) for key, value in tensors.items()})
    if name is None:
        some = ", ".join(sorted(tensors)[:3])
        raise CheckpointError(
            f"{path} holds the tensors of no known foundation (they begin {some}); "
            "expected one that 'domainsam foundations list' names"
        )
    return name


OWN_HEADER, OWN_ENTRY = "domainsam", "distilled"
"""Where the header of a file says that it was distilled by us, and not published by an encoder's authors."""


def is_own(path: str | Path) -> bool:
    """Whether a file's weights are a student's that ``domainsam distil`` wrote."""
    path = Path(path)
    if not is_safetensors(path):
        return False
    try:
        return OWN_ENTRY in json.loads(read_metadata(path).get(OWN_HEADER, "{}"))
    except (json.JSONDecodeError, TypeError):
        return False
