"""How a job over many inputs is spread over workers, as one frozen value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import ConfigError
from domainsam.limits import parse_size

SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
"""Addresses of Dask's schedulers."""
MOST_LOCAL = 1024


@dataclass(frozen=True)
class SpreadOptions:
    """Who does the inputs of a job.

    Parameters
    ----------
    scheduler
        ``local:N`` for N processes of this machine, or a Dask scheduler's address; None for this process.
    gpus_per_task
        Of the resource ``GPU`` that workers declare; 0 asks for none.
    memory_per_task
        Bytes of the resource ``MEMORY`` that workers declare; None asks for none.
    retries
        How often an input is tried again after a failure that another try may cure.
    max_failures
        The run stops once more inputs than this failed; None goes on to the end.
    log
        File that takes a JSON object a line for whatever happens.
    metrics
        File of the run's figures for Prometheus; see :mod:`domainsam.infer.gauges`.
    """

    scheduler: str | None = None
    gpus_per_task: float = 0.0
    memory_per_task: int | None = None
    retries: int = 2
    max_failures: int | None = None
    log: Path | None = None
    metrics: Path | None = None

    @property
    def local_workers(self) -> int | None:
        """How many processes of this machine, None where a scheduler is named or there is none."""
        found = re.fullmatch(r"local:(\d+)", self.scheduler or "")
        return int(found[1]) if found else None


def spread_options(
    scheduler: str | None,
    gpus_per_task: float,
    memory_per_task: int | str | None,
    retries: int,
    max_failures: int | None,
    log: str | Path | None,
    metrics: str | Path | None,
) -> SpreadOptions:
    """The options as one value.

    Raises
    ------
    ConfigError
        If one is impossible.
    """
    if scheduler is not None:
        count = re.fullmatch(r"local:(\d{1,9})", scheduler)
        if (count is None and not scheduler.startswith(SCHEMES)) or (
            count is not None and not 1 <= int(count[1]) <= MOST_LOCAL
        ):
            raise ConfigError(
                f"--scheduler '{scheduler}' is none: give local:4 for four processes of this machine, or the "
                "address of a Dask scheduler such as tcp://host:8786"
            )
    elif gpus_per_task or memory_per_task:
        raise ConfigError("--gpus-per-task and --memory-per-task say what workers have: give --scheduler too")
    if not 0 <= gpus_per_task <= 1024:
        raise ConfigError(f"--gpus-per-task is {gpus_per_task:g}, expected 0 or more")
    if retries < 0 or (max_failures is not None and max_failures < 0):
        raise ConfigError("--retries and --max-failures are counts: expected 0 or more")
    size = None if memory_per_task is None else parse_size(memory_per_task, "--memory-per-task")
    path, figures = (None if given is None else Path(given) for given in (log, metrics))
    if figures is not None and figures.suffix != ".prom":
        raise ConfigError(
            f"--metrics '{figures}' must end in .prom: Prometheus' node exporter takes up no other file"
        )
    return SpreadOptions(scheduler, float(gpus_per_task), size, retries, max_failures, path, figures)
