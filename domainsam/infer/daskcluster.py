"""Dask's schedulers and workers: start or reach them, and refuse those that would answer otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, LocalCluster, WorkerPlugin

from domainsam.errors import ConfigError, MissingInputError
from domainsam.infer.daskworker import PAUSE_S, pause
from domainsam.infer.spread import SpreadOptions
from domainsam.machine import measure_library_bytes

log = logging.getLogger(__name__)

CONNECT_S = 10
"""Seconds that a scheduler may take to answer."""
TRIES = 5
"""Times that workers are asked, or given something, while one of them goes away."""
COMPARED = ("domainsam", "torch", "torchvision", "numpy", "scipy", "rasterio", "nibabel", "pydicom")
"""Packages whose versions may change bytes; those that are not installed here are not asked for."""
SETTINGS = {
    # What a worker holds are models and blocks, none of which it may put on the disk.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # Nor does it hold less for waiting; what it may hold is what was said, and not 95 % of it.
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 1.0,
    # Moving tasks between workers has killed some (dask/distributed#7523); ours are long, so it gains little.
    "distributed.scheduler.work-stealing": False,
}


def find_resources(options: SpreadOptions) -> dict[str, float]:
    """What an input takes of the resources that workers declare."""
    needed = {"GPU": options.gpus_per_task, "MEMORY": float(options.memory_per_task or 0)}
    return {name: amount for name, amount in needed.items() if amount}


def start_workers(options: SpreadOptions) -> LocalCluster:
    """Processes of this machine, one thread each.

    Raises
    ------
    ConfigError
        If an input takes a GPU: nobody has said which process has which.
    """
    if options.gpus_per_task:
        raise ConfigError(
            "--gpus-per-task goes with workers that declare their GPUs: start each with "
            "'CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1 --resources GPU=1' and name ADDRESS"
        )
    return LocalCluster(
        n_workers=options.local_workers,
        threads_per_worker=1,
        processes=True,
        # None would be port 8787 of all addresses, even where nothing is served.
        dashboard_address="127.0.0.1:0",
        # Dask counts the libraries' pages in every process, though there is one copy for all of them.
        memory_limit=options.memory_per_task + measure_library_bytes() if options.memory_per_task else "auto",
        silence_logs=logging.CRITICAL,
    )


def connect(address: str) -> Client:
    """A client of a scheduler.

    Raises
    ------
    ConfigError
        If none answers.
    """
    try:
        return Client(address, timeout=CONNECT_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"no scheduler answers at {address}: start one with 'dask scheduler', or give local:4 for four "
            "processes of this machine"
        ) from error


def tell_dashboard(client: Client) -> None:
    """Say where the scheduler's own pages are, to whoever listens (``--verbose``), if it has any."""
    if "dashboard" in client.scheduler_info(n_workers=0).get("services", {}):
        log.info("Dask's dashboard: %s", client.dashboard_link)


def check_resources(client: Client, needed: Mapping[str, float]) -> None:
    """Refuse to wait for what no worker has.

    Raises
    ------
    ConfigError
        If none declares as much as an input takes.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    declared = [worker.get("resources", {}) for worker in workers]
    if not any(all(has.get(name, 0) >= amount for name, amount in needed.items()) for has in declared):
        words = ", ".join(f"{name}={amount:g}" for name, amount in needed.items())
        raise ConfigError(
            f"no worker declares {words}, which an input takes: start workers with --resources '{words}'"
        )


def compare_versions(client: Client) -> None:
    """Refuse workers whose packages are of other versions than here: their answers may differ.

    Raises
    ------
    ConfigError
        If a worker has another version, or lacks a package; the message names the first.
    """

    def tell(names: tuple[str, ...]) -> dict[str, str]:
        # Sent by value: the worker may lack even this package.
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for name in names:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "none"
        return found

    here = {name: version for name, version in tell(COMPARED).items() if version != "none"}
    for worker, there in ask_workers(client, tell, tuple(here)).items():
        for name, version in here.items():
            if there[name] != version:
                raise ConfigError(
                    f"worker {worker} has {name} {there[name]}, this process {version}: install the same "
                    "versions on all, or answers may differ"
                )


def check_shared(client: Client, files: Sequence[Path]) -> None:
    """Refuse workers that do not see the folder that results go to.

    Raises
    ------
    ConfigError
        If one does not; the message names it.
    """
    for file in files:
        nearest = next(parent for parent in file.absolute().parents if parent.exists())
        try:
            mark = nearest / f".domainsam-shared-{uuid4().hex}"
            mark.touch()
        except OSError as error:
            raise MissingInputError(f"cannot write to folder '{nearest}' ({error.strerror})") from error
        try:
            seen = ask_workers(client, os.path.exists, str(mark))
        finally:
            mark.unlink(missing_ok=True)
        for worker, sees in seen.items():
            if not sees:
                raise ConfigError(
                    f"worker {worker} does not see folder '{nearest}', where results go: name one that all "
                    "workers share"
                )


def ask_workers(client: Client, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What a function answers on each worker; one that goes away while it is asked is left out.

    Raises
    ------
    ConfigError
        If no worker is left.
    OSError
        If the scheduler goes away.
    """
    for _ in range(TRIES):
        answers = client.run(function, *arguments, on_error="return")
        for answer in answers.values():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):
                raise answer
        there = {worker: answer for worker, answer in answers.items() if not isinstance(answer, OSError)}
        if there:
            return there
        pause(PAUSE_S)
    raise ConfigError("all workers went away as they were asked: see what they say, and start some again")


def send_plugin(client: Client, plugin: WorkerPlugin, name: str) -> None:
    """Give workers what they need; those that join later get it from the scheduler.

    Raises
    ------
    OSError
        If workers went away each time, or the scheduler did.
    """
    for left in reversed(range(TRIES)):
        try:
            client.register_plugin(plugin, name)
        except OSError:
            # A worker that goes away just now costs the others nothing.
            if not left:
                raise
            pause(PAUSE_S)
        else:
            return
