"""Do the inputs of a job on Dask's workers: processes of this machine, or of many.

The scheduler is handed the plan of each input, as some hundred bytes that it does
not look into, and hands back results of some kilobytes. How the model is loaded goes
to a worker once, as a plugin; the model is loaded on the worker and stays there.
All plans to all workers would be more, the more of both there are. Inputs go
out in batches, because a graph of 10^5 nodes at once stalls a scheduler
(dask/distributed#3761), and functions are not pure, because a repeated run has to
look at its files again.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, LocalCluster, WorkerPlugin, as_completed, get_worker

from domainsam.errors import ConfigError, DomainSamError, InputError, MissingInputError, OutputError, explain
from domainsam.infer.executor import Outcome, Tasks
from domainsam.infer.spread import SpreadOptions
from domainsam.infer.workroom import TakenError, tidy_room
from domainsam.limits import Limits, get_limits, set_limits
from domainsam.machine import measure_library_bytes
from domainsam.network import lock_process

log = logging.getLogger(__name__)

BATCH = 1000
"""Inputs that are with the scheduler at a time."""
CONNECT_S, WORKERS_S = 10, 60
"""Seconds that a scheduler, and its first worker, may take to answer."""
PATIENCE_S, PAUSE_S = 900.0, 1.0
"""Seconds that a worker waits for another run to let go of an input, and between looks."""
TRIES = 5
"""Times that workers are asked, or given something, while one of them goes away."""
COMPARED = ("domainsam", "torch", "torchvision", "numpy", "scipy", "rasterio", "nibabel", "pydicom")
"""Packages whose versions may change bytes; those that are not installed here are not asked for."""
SETTINGS = {
    # What a worker holds are models and blocks, none of which it may put on the disk.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # Moving tasks between workers has killed some (dask/distributed#7523); ours are long, so it gains little.
    "distributed.scheduler.work-stealing": False,
}


class FailedError(Exception):
    """A failure on a worker that another try may cure; Dask repeats the task on it."""


@dataclass(frozen=True)
class Packed:
    """An input on its way to a worker.

    Parameters
    ----------
    index
        Its number.
    plan
        Its plan, pickled: a scheduler need not know what it is.
    fresh
        Whether none of its files was there when the run began: where all are there later, an earlier try
        has made them.
    """

    index: int
    plan: bytes
    fresh: bool


class UnfitError(FailedError):
    """A worker cannot load what the job needs: no input is to blame, and every other would fail there."""


class TaskPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """What a worker needs for a job: how the model is loaded, and where the client ran.

    Parameters
    ----------
    tasks
        Those of the job; their plans are not sent with it.
    """

    def __init__(self, tasks: Tasks, folder: str, limits: Limits) -> None:
        self.tasks, self.folder, self.limits = replace(tasks, plans=()), folder, limits
        self._run: Callable[[Any], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}

    def setup(self, worker: Any) -> None:
        """Called by Dask on every worker, those that join later too."""
        if not self.limits.network:
            lock_process()

    def do(self, packed: Packed) -> Outcome:
        """Do an input.

        Raises
        ------
        FailedError
            If it failed in a way that another try may cure.
        """
        begin = time.perf_counter()
        plan = pickle.loads(packed.plan)
        where = f"{socket.gethostname()}:{os.getpid()}"
        failure: FailedError | None = None
        try:
            self._enter()
            done = self._finish(packed, plan)
        except (InputError, ConfigError) as error:
            done = Outcome(packed.index, error=plain_error(error))
        except UnfitError as error:
            failure = UnfitError(str(error))
        except Exception as error:
            log.debug("%s", self.tasks.name(plan), exc_info=error)
            failure = FailedError(explain(error)[0])
        # Raised out here: Dask would send along what it came from, which our classes do not survive.
        if failure is not None:
            raise failure
        return replace(done, seconds=time.perf_counter() - begin, worker=where)

    def _enter(self) -> None:
        """Take the client's folder, to which paths are relative, and its limits."""
        set_limits(self.limits)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise OutputError(
                f"worker on {socket.gethostname()} has no folder '{self.folder}' ({error.strerror}): start "
                "workers where they see the folder that the command is run in"
            ) from error

    def _finish(self, packed: Packed, plan: Any) -> Outcome:
        """Do an input unless it is done, waiting for another run that may be at it."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            if packed.fresh and plan.complete:
                tidy_room(plan.work)
                return Outcome(packed.index, complete=True)
            run = self._run = self._run or self._prepare()
            try:
                return Outcome(packed.index, run(plan))
            except TakenError:
                # A client that was killed leaves the inputs in the hands of workers, which finish them.
                if time.monotonic() > give_up:
                    raise
                pause(PAUSE_S)

    def _prepare(self) -> Callable[[Any], Any]:
        """Load the model, the first time."""
        try:
            return self.tasks.prepare()
        except Exception as error:
            raise UnfitError(f"{socket.gethostname()}:{os.getpid()}: {explain(error)[0]}") from None


def pause(seconds: float) -> None:
    """Wait; other tasks of the worker do too, for it has one thread."""
    time.sleep(seconds)


def plain_error(error: Exception) -> Exception:
    """An error that can be sent: of our own classes as it is, with its line alone."""
    line, _ = explain(error)
    kind = type(error) if isinstance(error, DomainSamError) else InputError
    return kind(line)


def do_task(packed: Packed, plugin: str) -> Outcome:
    """Do an input on the worker that this is called on."""
    task: TaskPlugin = get_worker().plugins[plugin]
    return task.do(packed)


class OnDask:
    """Does inputs on the workers of a Dask scheduler; see :class:`~domainsam.infer.executor.Executor`.

    Parameters
    ----------
    options
        Which scheduler, and what an input takes of a worker.
    client
        A client that is open already, in place of the scheduler; it stays open.
    """

    def __init__(self, options: SpreadOptions, client: Client | None = None) -> None:
        self.options, self._client = options, client

    def run(self, tasks: Tasks, waiting: Sequence[int]) -> Iterator[Outcome]:
        """See :class:`~domainsam.infer.executor.Executor`.

        Raises
        ------
        ConfigError
            If the scheduler does not answer, has no workers or none with what is asked for, or they have
            other versions of packages or another file system.
        OutputError
            If the scheduler goes away during the run.
        """
        fresh = frozenset(index for index in waiting if not tasks.plans[index].begun)

        def pack(index: int) -> Packed:
            return Packed(index, pickle.dumps(tasks.plans[index]), index in fresh)

        with self._open() as client:
            name = f"domainsam-{uuid4().hex}"
            try:
                self._check(client, tasks, waiting)
                send_plugin(client, TaskPlugin(tasks, str(Path.cwd()), get_limits()), name)
            except (OSError, CancelledError) as error:
                raise self._tell_gone() from error
            try:
                yield from self._collect(client, name, map(pack, waiting))
            finally:
                with suppress(Exception):
                    client.unregister_worker_plugin(name)

    @contextmanager
    def _open(self) -> Iterator[Client]:
        """A client of the scheduler; of processes of this machine, which end with it."""
        if self._client is not None:
            yield self._client
        elif self.options.local_workers is not None:
            with dask.config.set(SETTINGS), _start(self.options) as cluster, Client(cluster) as client:
                yield client
        else:
            with dask.config.set(SETTINGS), _connect(str(self.options.scheduler)) as client:
                tell_dashboard(client)
                yield client

    def _check(self, client: Client, tasks: Tasks, waiting: Sequence[int]) -> None:
        """Refuse workers that would not give the same answer, or none at all."""
        address = self.options.scheduler
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as error:
            raise ConfigError(
                f"the scheduler at {address} has no workers: start some with 'dask worker {address}'"
            ) from error
        needed = find_resources(self.options)
        if needed and self.options.local_workers is None:
            _check_resources(client, needed)
        compare_versions(client)
        if self.options.local_workers is None:
            check_shared(client, [tasks.plans[index].files[0] for index in waiting[:1]])

    def _collect(self, client: Client, plugin: str, rest: Iterator[Packed]) -> Iterator[Outcome]:
        """Hand out inputs in batches and take what becomes of them."""
        numbers: dict[str, int] = {}
        flight = as_completed([], raise_errors=False)
        needed = find_resources(self.options) if self.options.local_workers is None else {}

        def refill() -> None:
            batch = list(islice(rest, BATCH - len(numbers)))
            if not batch:
                return
            keys = [f"{plugin}-{packed.index}" for packed in batch]
            numbers.update(zip(keys, (packed.index for packed in batch), strict=True))
            flight.update(
                client.map(
                    do_task,
                    batch,
                    plugin=plugin,
                    key=keys,
                    pure=False,
                    retries=self.options.retries,
                    resources=needed or None,
                )
            )

        refill()
        for futures in flight.batches():
            # All that have ended in one question to the scheduler: one each would wait for it in turn.
            finished = {future.key: future for future in futures if future.status == "finished"}
            outcomes = client.gather(finished, errors="skip") if finished else {}
            for future in futures:
                index = numbers.pop(future.key)
                yield self._take(index, future, outcomes.get(future.key))
                future.release()
                if len(numbers) <= BATCH // 2:
                    refill()

    def _take(self, index: int, future: Any, outcome: Outcome | None) -> Outcome:
        """What became of an input, from its future and what that has brought, if anything."""
        if outcome is not None:
            return outcome
        if future.status == "error":
            error = future.exception()
            if isinstance(error, UnfitError):
                raise ConfigError(
                    f"a worker cannot load what the job needs, {error}; give it the same "
                    "files, and run the same command with --resume"
                )
            return Outcome(index, error=explain_failure(error))
        raise self._tell_gone()

    def _tell_gone(self) -> OutputError:
        """That the scheduler has gone."""
        return OutputError(
            f"the scheduler at {self.options.scheduler} has gone; what was finished is kept: run the same "
            "command with --resume to go on"
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


def send_plugin(client: Client, plugin: TaskPlugin, name: str) -> None:
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


def explain_failure(error: BaseException) -> DomainSamError:
    """Why an input failed for good."""
    if isinstance(error, FailedError):
        return OutputError(str(error))
    if type(error).__name__ == "KilledWorker":
        return OutputError(
            "its worker died each time that it was tried, most often for lack of memory: give workers more, "
            "or try a smaller --tile or --batch-size"
        )
    return OutputError(explain(error)[0])


def find_resources(options: SpreadOptions) -> dict[str, float]:
    """What an input takes of the resources that workers declare."""
    needed = {"GPU": options.gpus_per_task, "MEMORY": float(options.memory_per_task or 0)}
    return {name: amount for name, amount in needed.items() if amount}


def _start(options: SpreadOptions) -> LocalCluster:
    """Processes of this machine, one thread each."""
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


def _connect(address: str) -> Client:
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


def _check_resources(client: Client, needed: Mapping[str, float]) -> None:
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
