"""Read and write named tensors in safetensors files, and load them into networks.

Reading runs nothing that a file contains; writing leaves either the whole
file under its name or what was there before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from domainsam.errors import CheckpointError, OutputError

COUNTER = "num_batches_tracked"
"""Ending of batch norms' counters, which some files leave out and nothing reads at inference."""
NAMES_SHOWN = 4
"""Tensor names that an error message lists before it says how many more there are."""
MAX_HEADER = 2**32
"""Bytes; a longer header is taken for a file of another kind."""

Network = TypeVar("Network", bound=nn.Module)


def is_safetensors(path: Path) -> bool:
    """Whether the file starts as a safetensors file does: 8 bytes of length, then a JSON object."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < MAX_HEADER


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU, in the types they are stored in.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(describe_damage(path, error)) from error
    check_finite(path, tensors)
    return tensors


def check_finite(path: object, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite: a network of them finds nothing and says so with certainty.

    Raises
    ------
    CheckpointError
        Naming the tensors.
    """
    unfit = [
        name
        for name, tensor in tensors.items()
        if (tensor.is_floating_point() or tensor.is_complex()) and not _is_finite(tensor)
    ]
    if unfit:
        raise CheckpointError(
            f"weight file {path} holds values that are NaN or infinite in {list_names(unfit)}: damaged, or "
            "from a training that failed; fetch or copy it again"
        )


def _is_finite(tensor: Tensor) -> bool:
    # Types of 8 bits have no such test of their own.
    values = tensor.float() if tensor.dtype.itemsize < 2 else tensor
    return bool(torch.isfinite(values).all())


def read_metadata(path: Path) -> dict[str, str]:
    """The header's free texts of a safetensors file.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(describe_damage(path, error)) from error


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that appears under its name only when complete.

    The folder is made if it is absent. An earlier file of that name is
    replaced at the very end, or stays as it was.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    # Tensors that share memory, as tied weights do, are refused by the format: each gets its own.
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # save_file would make a file that only its owner can read, whatever the umask.
        with temporary.open("wb") as file:
            file.write(serialise(stored, dict(metadata)))
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OutputError(
            f"cannot write {path} ({reason}): free the place or name a file in a folder that can be written"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def halve(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors to float16 where they are floats.

    Raises
    ------
    CheckpointError
        If a value is not a number, or too large for float16.
    """
    small = {
        name: tensor.detach().half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    unfit = [name for name, tensor in small.items() if not torch.isfinite(tensor).all()]
    if unfit:
        raise CheckpointError(
            f"not finite as float16, so it cannot be stored so: {list_names(unfit)}; "
            "store float32, or train again"
        )
    return small


def load_strict(
    network: Network,
    tensors: Mapping[str, Tensor],
    source: str,
    assign: bool = False,
    names: Mapping[str, str] | None = None,
) -> Network:
    """Put tensors into a network whose names and shapes they must match exactly.

    ``assign`` makes the network keep the given tensors themselves, as one
    built on the meta device must; otherwise they are cast to its types.
    ``names`` says what the file calls the network's tensors, where that differs.
    Numbers of batches that norms have seen (:data:`COUNTER`) may be absent: nothing that answers uses them.

    Raises
    ------
    CheckpointError
        Naming the missing, unexpected and wrongly shaped tensors in one line.
    """
    state = network.state_dict()
    names = names or {name: name for name in state}
    counted = {names[name]: value for name, value in state.items() if name.endswith(COUNTER)}
    tensors = {**counted, **tensors}
    expected = {names[name]: value for name, value in state.items()}
    faults = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "wrong shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in sorted(expected.keys() & tensors.keys())
            if tensors[name].shape != expected[name].shape
        ],
    }
    if any(faults.values()):
        told = "; ".join(f"{kind}: {list_names(names)}" for kind, names in faults.items() if names)
        raise CheckpointError(f"{source} does not fit {type(network).__name__}: {told}")
    found = {name: tensors[given] for name, given in names.items()}
    network.load_state_dict(found, strict=True, assign=assign)
    return network


def list_names(names: Sequence[str]) -> str:
    """List the first few names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def describe_damage(path: Path, error: Exception) -> str:
    """Describe in one line why a weight file cannot be read."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return f"weight file {path} is damaged or cut short ({reason}); fetch or copy it again"
