"""Read the tensors of a TorchScript archive, as OpenAI publishes CLIP, without running the program in it.

Such a file is a zip with code, which is not looked at, and a pickle that says which module holds which tensor
of the raw data beside it. Of the pickle's names only those are followed that make tensors and containers.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domainsam.errors import CheckpointError, InputError
from domainsam.foundation.inert import Inert
from domainsam.limits import require_memory
from domainsam.tensorfile import check_finite, describe_damage

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
DEEPEST = 40
"""Modules inside one another; a network has ten or so."""


class _Module:
    """A module of the program: what it holds, and nothing that it does."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.parts = dict(state) if isinstance(state, dict) else {}


def is_scripted(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_scripted(path: Path, without: Collection[str] = ()) -> dict[str, Tensor]:
    """Named tensors of the archive's modules, on the CPU, floats as float32.

    Parameters
    ----------
    without
        Last parts of names that are passed over.

    Raises
    ------
    CheckpointError
        If it is damaged, or holds no module with tensors.
    InputError
        If it takes more memory than there may be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            require_memory(path, 3 * size, f"{size} bytes of weights")
            if (damaged := archive.testzip()) is not None:
                raise CheckpointError(
                    describe_damage(path, ValueError(f"the checksum of {damaged} is wrong"))
                )
            root = _read_root(archive)
    except (CheckpointError, InputError, MemoryError):
        raise
    except Exception as error:
        # A damaged stream fails in whatever meets it first.
        raise CheckpointError(describe_damage(path, error)) from error
    tensors: dict[str, Tensor] = {}
    _collect(root, "", tensors, DEEPEST)
    tensors = {name: value for name, value in tensors.items() if name.rpartition(".")[2] not in without}
    if not tensors:
        raise CheckpointError(f"weight file {path} is a TorchScript program without tensors; fetch it again")
    check_finite(path, tensors)
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _read_root(archive: zipfile.ZipFile) -> Any:
    stem = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    stored: dict[str, Tensor] = {}

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.startswith("__torch__"):
                return _Module
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return _view
            if (module, name) == ("collections", "OrderedDict"):
                return collections.OrderedDict
            return DTYPES.get(name, Inert) if module == "torch" else Inert

        def persistent_load(self, told: Any) -> Tensor:
            _, dtype, key, *_ = told
            if key not in stored:
                content = bytearray(archive.read(f"{stem}data/{key}"))
                stored[key] = (
                    torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
                )
            return stored[key]

    with archive.open(f"{stem}data.pkl") as file:
        return Reader(file).load()


def _view(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _collect(part: Any, name: str, found: dict[str, Tensor], depth: int) -> None:
    if isinstance(part, Tensor):
        found[name] = part.clone()
    elif isinstance(part, _Module) and depth:
        for key, value in part.parts.items():
            _collect(value, f"{name}.{key}" if name else str(key), found, depth - 1)
