"""How a training run begins: its recipe, where it writes, its devices, and what tells it from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from domainsam.config import read_config
from domainsam.errors import MissingInputError
from domainsam.foundation import load_foundation
from domainsam.machine import choose_device
from domainsam.private import Claim, sweep
from domainsam.progress import report_progress
from domainsam.protocols import Foundation
from domainsam.train.devices import Devices, Precision, choose_devices, choose_training_precision
from domainsam.train.loop import Run
from domainsam.train.state import prepare_run

Recipe = TypeVar("Recipe")

SCRATCH = "scratch-"
"""How folders of a run begin that go away at its end."""


@dataclass(frozen=True)
class RunOptions:
    """What every pack's training takes beside its recipe; packs add their own.

    Parameters
    ----------
    out
        The model file.
    device, devices, precision
        As ``--device``, ``--devices`` and ``--precision`` say it.
    workers
        Threads that read ahead.
    """

    out: Path
    device: str = "auto"
    devices: int = 1
    precision: str = "auto"
    workers: int = 2
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False

    @property
    def workroom(self) -> Path:
        """Folder of the run's state and logs, beside the model file."""
        return self.out.with_name(f"{self.out.stem}.training")


@dataclass(frozen=True)
class Trained:
    """What a run has made.

    Parameters
    ----------
    out
        The model file.
    folder
        Logs and state.
    metrics
        Scores on what was kept for validation, by name.
    notes
        What the user ought to know.
    rank
        Number of this process; the first one, 0, speaks for all.
    """

    out: Path
    folder: Path
    metrics: dict[str, float]
    notes: tuple[str, ...]
    rank: int = 0

    def document(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        return {
            "model": str(self.out),
            "folder": str(self.folder),
            "metrics": self.metrics,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Training:
    """A run whose devices are at work; :func:`start_run` makes it.

    Parameters
    ----------
    options
        Where it writes and how it runs.
    devices
        This process's view of them.
    precision
        What they compute in.
    scratch
        Empty folder within the run's own that goes away at the end.
    """

    options: RunOptions
    devices: Devices
    precision: Precision
    scratch: Path

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch calls it."""
        dtype: torch.dtype = getattr(torch, self.precision)
        return dtype

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes the model file."""
        return self.devices.rank == 0

    def load_foundation(self, name: str, dtype: torch.dtype | None = None) -> Foundation:
        """The frozen generalist on this process's device, by default in the run's precision.

        Raises
        ------
        WeightsError, CheckpointError
            If its weights are absent or damaged.
        """
        return load_foundation(name, self.devices.device, dtype or self.dtype)

    @contextmanager
    def run(self, words: Sequence[Any]) -> Iterator[Run]:
        """What the stages share, progress included.

        Parameters
        ----------
        words
            All that decides the answer beside seed and precision: recipe,
            foundation and material as values that JSON can hold. A state of
            other words is not gone on with.
        """
        options = self.options
        told = json.dumps([*words, options.seed, self.precision])
        signature = hashlib.sha256(told.encode()).hexdigest()
        with report_progress("train", options.quiet or not self.writes) as progress:
            seed, resume, workers = options.seed, options.resume, options.workers
            yield Run(options.workroom, signature, self.devices, seed, resume, workers, progress)

    def made(self, metrics: dict[str, float], notes: tuple[str, ...]) -> Trained:
        """What the run has made."""
        return Trained(self.options.out, self.options.workroom, metrics, notes, self.devices.rank)


@contextmanager
def start_run(options: RunOptions) -> Iterator[Training]:
    """Check the model file, make the run's folder and put the devices to work.

    On leaving normally all processes wait for one another: write the model
    file before.

    Raises
    ------
    ConfigError
        If the model file's name, device or precision cannot be used.
    OutputError
        If the model file exists and may not be replaced, or the folder cannot be made.
    """
    prepare_run(options.out, options.workroom, options.overwrite or options.resume)
    device = choose_device(options.device)
    precision = choose_training_precision(options.precision, device)
    devices = choose_devices(device, options.devices, precision)
    # Copies of labels and the like, which a killed run leaves.
    sweep(options.workroom, SCRATCH)
    with Claim(options.workroom, SCRATCH) as scratch:
        yield Training(options, devices, precision, scratch)
    devices.close()


def read_recipe(kind: type[Recipe], given: Path, shipped: Path) -> Recipe:
    """A recipe from TOML; what it leaves out keeps its default.

    Parameters
    ----------
    kind
        The dataclass that it becomes.
    given
        A file, or the name of one in ``shipped`` without its ending.
    shipped
        Folder of the recipes that come with the package.

    Raises
    ------
    MissingInputError
        If there is no such file or name.
    ConfigError
        If it has an unknown key or an impossible value.
    """
    named = shipped / f"{given}.toml"
    if not given.is_file() and given.name == str(given):
        if named.is_file():
            return read_config(kind, named, kind())
        names = ", ".join(sorted(path.stem for path in shipped.glob("*.toml")))
        if names and not given.suffix:
            raise MissingInputError(
                f"no configuration file {given}, and no recipe of that name; shipped: {names}"
            )
    return read_config(kind, given, kind())
