"""Read the tensors of a trainer's checkpoint without looking up, let alone running, any code that it names.

Lightning, for instance, stores settings as objects beside the weights. Here a
name in the file is looked up in a short list, of what makes tensors and
ordered dictionaries; every other name stands for an object that is empty,
takes what it is given, and does nothing.
"""

from __future__ import annotations

import collections
import pickle
import types
import zipfile
from pathlib import Path
from typing import Any

import torch

from domainsam.errors import CheckpointError
from domainsam.tensorfile import describe_damage

MAKERS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}
"""All that may be called."""


class Inert:
    """In the place of every other object."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        return self

    def append(self, item: object) -> None:
        """Take an item of a list."""

    def extend(self, items: object) -> None:
        """Take items of a list."""

    def add(self, item: object) -> None:
        """Take an item of a set."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        kind = getattr(torch, name, None) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        return MAKERS.get((module, name), Inert)


def read_inert(path: Path) -> Any:
    """What a checkpoint in torch's zip format holds, with :class:`Inert` for all that is no plain value.

    Raises
    ------
    CheckpointError
        If it is damaged, or is a program (TorchScript).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError(f"weight file {path} is a TorchScript program; give a state dict")
        reader: Any = types.ModuleType("inert")
        reader.Unpickler, reader.load, reader.UnpicklingError = (
            _Unpickler,
            pickle.load,
            pickle.UnpicklingError,
        )
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", pickle_module=reader, weights_only=False)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        # Whatever a damaged stream makes of empty objects, it is damage.
        raise CheckpointError(describe_damage(path, error)) from error
