"""Trained model files: one safetensors file with a header that says what it fits on.

Only trained tensors are stored, never the frozen foundation's. The header is
JSON under the metadata key ``domainsam``. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from domainsam.errors import CheckpointError, OutputError
from domainsam.protocols import Foundation

FORMAT_VERSION = 1
METADATA_KEY = "domainsam"
PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of torch.save's zip archive and of a bare pickle, protocol 2 and later."""
DIGEST_SHOWN = 12
"""Hexadecimal digits of a digest that an error message shows."""


@dataclass(frozen=True)
class CheckpointHeader:
    """What a model file says of itself.

    Parameters
    ----------
    pack
        Name of the domain pack it was trained for.
    foundation, foundation_sha256
        Name and digest of the frozen foundation it was trained on.
    labels
        Class names, background first.
    config
        The configuration it was built and trained with, as nested tables.
    metrics
        Scores on the validation blocks, by name.
    format_version
        Version of this format; readers accept their own only.
    """

    pack: str
    foundation: str
    foundation_sha256: str
    labels: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model file: its header and its tensors on the CPU, by name."""

    path: Path
    header: CheckpointHeader
    tensors: Mapping[str, Tensor]

    def restore(self, module: nn.Module, prefix: str) -> None:
        """Fill a module with the tensors whose names start with ``prefix.``, cast to its types.

        Raises
        ------
        CheckpointError
            Naming tensors that are missing, left over, or of another shape.
        """
        own = {
            name.removeprefix(prefix + "."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix + ".")
        }
        wanted = module.state_dict()
        faults = [
            *_listed("missing", [f"{prefix}.{name}" for name in wanted if name not in own]),
            *_listed("unexpected", [f"{prefix}.{name}" for name in own if name not in wanted]),
            *_listed(
                "of another shape",
                [
                    f"{prefix}.{name} {tuple(own[name].shape)} for {tuple(tensor.shape)}"
                    for name, tensor in wanted.items()
                    if name in own and own[name].shape != tensor.shape
                ],
            ),
        ]
        if faults:
            raise CheckpointError(
                f"{self.path} does not fit the model its header describes: {'; '.join(faults)}"
            )
        module.load_state_dict({name: own[name].to(tensor.dtype) for name, tensor in wanted.items()})


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{len(names)} tensors {what}: {', '.join(names[:3])}{more}"]


def module_tensors(module: nn.Module, prefix: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """A module's tensors under ``prefix.``, floats cast to ``dtype`` if one is given."""
    return {
        f"{prefix}.{name}": tensor.detach().to(
            dtype if dtype and tensor.is_floating_point() else tensor.dtype
        )
        for name, tensor in module.state_dict().items()
    }


def save(path: Path, tensors: Mapping[str, Tensor], header: CheckpointHeader) -> None:
    """Write a model file; it appears under its name only when complete.

    Raises
    ------
    OutputError
        If it cannot be written; an earlier file of that name is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(stored, temporary, {METADATA_KEY: json.dumps(asdict(header), sort_keys=True)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"model file {path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, foundation: Foundation | None = None, pack: str = "urban") -> Checkpoint:
    """Read a model file and check what it fits on.

    Parameters
    ----------
    path
        A file written by :func:`save`.
    foundation
        The foundation it will be used with; None if it will not be used with any.
    pack
        The domain pack that wants it.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, a pickle, of another format version
        or pack, or was trained on another foundation.
    """
    header, tensors = _read(path, with_tensors=True)
    if header.pack != pack:
        raise CheckpointError(f"{path} is a model of pack {header.pack!r}, expected one of pack {pack!r}")
    if foundation is not None and header.foundation_sha256 != foundation.sha256:
        raise CheckpointError(
            f"{path} was trained on {_named(header.foundation, header.foundation_sha256)} but is used with "
            f"{_named(foundation.name, foundation.sha256)}: load that foundation, or train again on this one"
        )
    return Checkpoint(path, header, tensors)


def read_header(path: Path) -> CheckpointHeader:
    """The header alone, for instance to learn which foundation to load.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, a pickle, or of another format version.
    """
    return _read(path, with_tensors=False)[0]


def _named(name: str, digest: str) -> str:
    return f"foundation {name!r} (sha256 {digest[:DIGEST_SHOWN]})"


def _read(path: Path, with_tensors: bool) -> tuple[CheckpointHeader, dict[str, Tensor]]:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"model file {path} cannot be read: {error.strerror}") from error
    if start.startswith(PICKLE_STARTS):
        raise CheckpointError(f"{path} is a pickle, which could run any code: give a safetensors model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no safetensors file, or is truncated or damaged ({error}): copy it again"
        ) from error
    return _parse_header(path, metadata.get(METADATA_KEY)), tensors


def _parse_header(path: Path, text: str | None) -> CheckpointHeader:
    if text is None:
        raise CheckpointError(
            f"{path} holds tensors but no domainsam header: give a file that training wrote"
        )
    try:
        values = json.loads(text)
        version = values["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"the header of {path} cannot be read: {error}") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this domainsam reads {FORMAT_VERSION}: "
            f"{'upgrade domainsam' if isinstance(version, int) and version > FORMAT_VERSION else 'train again'}"
        )
    names = {item.name for item in fields(CheckpointHeader)}
    if set(values) != names:
        raise CheckpointError(f"the header of {path} has keys {sorted(values)}, expected {sorted(names)}")
    return CheckpointHeader(**{**values, "labels": tuple(values["labels"])})
