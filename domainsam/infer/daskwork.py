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

import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, as_completed

from domainsam.errors import ConfigError, DomainSamError, OutputError, explain
from domainsam.infer.daskcluster import (
    SETTINGS,
    check_resources,
    check_shared,
    compare_versions,
    connect,
    find_resources,
    send_plugin,
    start_workers,
    tell_dashboard,
)
from domainsam.infer.daskworker import FailedError, Packed, TaskPlugin, UnfitError, do_task
from domainsam.infer.executor import Outcome, Tasks
from domainsam.infer.spread import SpreadOptions
from domainsam.licences import tell_once
from domainsam.limits import get_limits

BATCH = 1000
"""Inputs that are with the scheduler at a time."""
WORKERS_S = 60
"""Seconds that the first worker may take to be there."""


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
            with dask.config.set(SETTINGS), start_workers(self.options) as cluster, Client(cluster) as client:
                yield client
        else:
            with dask.config.set(SETTINGS), connect(str(self.options.scheduler)) as client:
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
            check_resources(client, needed)
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
            for notice in outcome.notices:
                tell_once(notice)
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
