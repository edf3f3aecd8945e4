"""A training run of the recipes: on one processor, gone on with where it was stopped, told line by line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from domainsam.progress import Progress
from domainsam.train.devices import OneDevice, Precision
from domainsam.train.loop import Run


def make_run(folder: Path, decided: Sequence[object], precision: Precision, every: int, seed: int = 0) -> Run:
    """A run in a folder, which is made; its name stands before every line.

    Parameters
    ----------
    decided
        What decides the answer, as JSON can hold it: a run goes on only where this is the same.
    precision
        What is computed in.
    every
        Steps from one line to the next.
    seed
        What all random numbers of the run follow from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return Run(
        folder,
        hashlib.sha256(json.dumps(decided).encode()).hexdigest(),
        OneDevice(torch.device("cpu"), precision),
        resume=True,
        seed=seed,
        workers=1,
        progress=print_progress(folder.name, every),
    )


def print_progress(name: str, every: int) -> Progress:
    """A progress function that prints a line now and then."""

    def progress(stage: str, done: int, total: int) -> None:
        if done % every == 0:
            print(f"{name}: {stage} {done} of {total}", flush=True)

    return progress
