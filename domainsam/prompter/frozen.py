"""What a search holds in memory as arrays and JSON, so that it can lie on disk and be gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.errors import ConfigError

AGAIN = {"again": True}
"""``metadata`` of a dataclass's field that is computed again, not stored; it needs a default."""
TREE = "tree"
"""Name under which the JSON lies among the arrays, as bytes."""

Kinds = Mapping[str, type]
"""Dataclasses that may be stored, by name: nothing else is ever made from a file."""


def name_kinds(*kinds: type) -> Kinds:
    """Dataclasses by name."""
    return {kind.__name__: kind for kind in kinds}


def freeze(value: Any, kinds: Kinds) -> dict[str, NDArray[Any]]:
    """Arrays, as ``numpy.savez`` takes them, from which :func:`thaw` makes an equal value.

    Parameters
    ----------
    value
        None, numbers, text, arrays, tensors, and lists, tuples, dictionaries and dataclasses of these. A
        tensor or array that is there twice is stored once.
    kinds
        Which dataclasses may be in it.

    Raises
    ------
    ConfigError
        If anything else is in it.
    """
    frozen = _Freezing(kinds)
    tree = json.dumps(frozen.write(value))
    return {**frozen.arrays, TREE: np.frombuffer(tree.encode(), np.uint8)}


def thaw(arrays: Mapping[str, NDArray[Any]], kinds: Kinds, device: torch.device | str = "cpu") -> Any:
    """The value that :func:`freeze` was given, tensors on a device."""
    return _Thawing(arrays, kinds, device).read(json.loads(bytes(arrays[TREE])))


class _Freezing:
    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.arrays: dict[str, NDArray[Any]] = {}
        self._known: dict[tuple[Any, ...], str] = {}

    def write(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return {"list": [self.write(part) for part in value], "tuple": isinstance(value, tuple)}
        if isinstance(value, dict):
            return {"dict": [[self.write(key), self.write(part)] for key, part in value.items()]}
        if isinstance(value, np.ndarray):
            place = (value.__array_interface__["data"][0], value.shape, value.strides, value.dtype.str)
            return {"array": self._add(place, value)}
        if isinstance(value, torch.Tensor):
            return self._write_tensor(value)
        name = type(value).__name__
        if is_dataclass(value) and self.kinds.get(name) is type(value):
            kept = [part.name for part in fields(value) if not part.metadata.get("again")]
            return {"of": name, "fields": {part: self.write(getattr(value, part)) for part in kept}}
        raise ConfigError(f"a {name} cannot be kept on disk, so that this run cannot be gone on with")

    def _write_tensor(self, value: torch.Tensor) -> dict[str, str]:
        place = (value.data_ptr(), tuple(value.shape), value.stride(), str(value.dtype), str(value.device))
        plain = value.detach().cpu()
        # numpy has no such numbers: their bits are kept.
        plain = plain.contiguous().view(torch.int16) if plain.dtype == torch.bfloat16 else plain
        return {"tensor": self._add(place, plain.numpy()), "type": str(value.dtype).removeprefix("torch.")}

    def _add(self, place: tuple[Any, ...], array: NDArray[Any]) -> str:
        # Empty arrays may share an address with another.
        if place not in self._known or not array.size:
            self._known[place] = f"a{len(self.arrays)}"
            self.arrays[self._known[place]] = array
        return self._known[place]


class _Thawing:
    def __init__(self, arrays: Mapping[str, NDArray[Any]], kinds: Kinds, device: torch.device | str) -> None:
        self.arrays, self.kinds, self.device = arrays, kinds, device

    def read(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        if "list" in tree:
            parts = [self.read(part) for part in tree["list"]]
            return tuple(parts) if tree["tuple"] else parts
        if "dict" in tree:
            return {self.read(key): self.read(part) for key, part in tree["dict"]}
        if "array" in tree:
            return self.arrays[tree["array"]].copy()
        if "tensor" in tree:
            plain = torch.from_numpy(self.arrays[tree["tensor"]].copy())
            return (plain.view(torch.bfloat16) if tree["type"] == "bfloat16" else plain).to(self.device)
        return self._make(self.kinds[tree["of"]], tree["fields"])

    def _make(self, kind: Any, kept: Mapping[str, Any]) -> Any:
        # Not by its constructor: that would compute what is known, and frozen ones allow no other way.
        made = kind.__new__(kind)
        for part in fields(kind):
            value = self.read(kept[part.name]) if part.name in kept else _default(part)
            object.__setattr__(made, part.name, value)
        return made


def _default(part: Field[Any]) -> Any:
    return part.default if part.default_factory is MISSING else part.default_factory()
