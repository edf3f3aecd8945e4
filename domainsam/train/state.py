"""Training state on disk: written whole, loaded without running code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domainsam.errors import CheckpointError, ConfigError, OutputError

FORMAT = 1


def prepare_run(out: Path, workroom: Path, replace: bool) -> None:
    """Refuse a model file that could not be written, before hours of training, and make the run's folder.

    Parameters
    ----------
    out
        The model file to come.
    workroom
        Folder of the run's state and logs.
    replace
        Whether ``out`` may exist.

    Raises
    ------
    ConfigError
        If the name ends otherwise than in ``.safetensors``.
    OutputError
        If the file exists and may not be replaced, or the folder cannot be made.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"model file '{out}' should end in .safetensors")
    if out.exists() and not replace:
        raise OutputError(f"'{out}' exists: choose another name, or allow it with --overwrite")
    try:
        workroom.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder '{workroom}' cannot be made: {error.strerror}") from error


@dataclass
class RunState:
    """Everything that a stage needs to go on as if it had not stopped.

    ``signature`` stands for recipe, data and foundation. ``step`` counts the
    stage's finished steps. ``trained``, ``ema`` and ``best`` are state
    dictionaries (the last two may be empty), ``best_score`` is that of
    ``best``, ``stale`` the evaluations since. ``history`` holds rows of plain
    values. ``remembered`` are buffers that the objective changes beside what is trained.
    """

    signature: str
    stage: str = ""
    step: int = 0
    done: bool = False
    trained: dict[str, Tensor] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = float("-inf")
    stale: int = 0
    history: list[dict[str, float | str]] = field(default_factory=list)
    remembered: dict[str, Tensor] = field(default_factory=dict)


def copy_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors so that no later step changes them."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def save_state(path: Path, state: RunState) -> None:
    """Write a state; a crash at any moment leaves the earlier or the new one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **vars(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"training state '{path}' cannot be written: {error}") from error


def load_state(path: Path, signature: str, device: torch.device) -> RunState:
    """Read a state that belongs to this very run.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another version, or of another run.
    """
    try:
        values = torch.load(path, map_location=device, weights_only=True)
        version = values.pop("format")
        state = RunState(**values)
    except MemoryError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"training state '{path}' is damaged ({type(error).__name__}): delete it and start anew"
        ) from error
    if version != FORMAT or state.signature != signature:
        raise CheckpointError(
            f"training state '{path}' is of a run with other options, scenes, labels or foundation: "
            "repeat that run's command, or start anew without --resume"
        )
    return state
