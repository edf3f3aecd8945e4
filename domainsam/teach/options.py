"""What every method of ``domainsam train-words`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from domainsam.errors import ConfigError
from domainsam.train.start import RunOptions

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class TeachOptions(RunOptions):
    """Length and rate of the stages, beside where a run writes and how it runs.

    Parameters
    ----------
    batch_size
        Pictures in a batch.
    epochs, steps, rates
        Instead of the published ones, one a stage; the last also holds for those that follow. Steps go
        before epochs.
    every
        Steps between judgements, at which states are saved.
    held_back
        Share of the pictures that judge and do not teach.

    Raises
    ------
    ConfigError
        If a number is impossible.
    """

    batch_size: int = 8
    epochs: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    every: int = 100
    held_back: float = 0.1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.every < 1:
            raise ConfigError(f"batch {self.batch_size}, every {self.every}: expected 1 or more")
        if not 0 <= self.held_back < 1:
            raise ConfigError(f"share held back {self.held_back}: expected 0 to below 1")
        for name, values in (("--epochs", self.epochs), ("--steps", self.steps), ("--lr", self.rates)):
            if any(value <= 0 for value in values):
                raise ConfigError(f"{name} {','.join(map(str, values))}: expected numbers above 0")

    def count_steps(self, number: int, epoch: int, epochs: int) -> int:
        """Steps of the stage ``number`` (from 0): as told, else ``epochs`` passes of ``epoch`` steps each."""
        if self.steps:
            return pick(self.steps, number, 1)
        return max(1, pick(self.epochs, number, epochs) * epoch)


def pick(values: Sequence[Value], number: int, usual: Value) -> Value:
    """The value of a stage, the last one for stages beyond; ``usual`` where there is none."""
    return values[min(number, len(values) - 1)] if values else usual
