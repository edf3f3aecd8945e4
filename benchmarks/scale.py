"""What spreading costs: overhead a task, and efficiency with more workers, on tasks that only wait.

::

    python benchmarks/scale.py                                # processes of this machine, 1 and 2 workers
    python benchmarks/scale.py --workers 64 --tasks 10000 --seconds 0.3 --failing 0.01 --threads
    python benchmarks/scale.py --workers 64 --tasks 10000 --seconds 0.3 --failing 0.01 --threads --bare

The tasks are files that are written after a wait, through the same batch and
executor as scenes: what is measured is the scheduler's and the executor's own
work, whatever else the machine has to do. With ``--threads`` the workers are threads
of one process, so that many of them fit on a small machine; scheduler and client are processes
of their own and all talk over TCP, as on a cluster. CPU seconds of each of the three tell which would be
the limit on machines of their own. ``--bare`` sends the same tasks by Dask's ``client.map`` alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Client, LocalCluster, Scheduler, Worker, as_completed

from domainsam.errors import InputError
from domainsam.infer.batch import Batch, run_batch
from domainsam.infer.daskwork import OnDask
from domainsam.infer.executor import Executor, InProcess
from domainsam.infer.outputs import OutputPlan
from domainsam.infer.spread import SpreadOptions


@dataclass(frozen=True)
class Waiting(OutputPlan):
    """A task that waits and writes a file."""

    name: str
    out: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.out / self.name,)


@dataclass(frozen=True)
class Waited:
    name: str

    def document(self) -> dict[str, Any]:
        return {"name": self.name}


def prepare(seconds: float, failing: float) -> Callable[[Waiting], Waited]:
    every = round(1 / failing) if failing else 0

    def wait(plan: Waiting) -> Waited:
        time.sleep(seconds)
        if every and int(plan.name) % every == 0:
            raise InputError("this one fails")
        plan.files[0].touch()
        return Waited(plan.name)

    return wait


def measure(executor: Executor, tasks: int, seconds: float, failing: float) -> tuple[float, int]:
    """Seconds of so many tasks, and how many failed."""
    with tempfile.TemporaryDirectory() as folder:
        plans = [Waiting(str(number), Path(folder)) for number in range(tasks)]
        begin = time.perf_counter()
        logging.disable(logging.ERROR)
        batch: Batch[Waited] = run_batch(
            plans,
            attrgetter("name"),
            partial(prepare, seconds, failing),
            Batch,
            resume=False,
            overwrite=False,
            executor=executor,
        )
        logging.disable(logging.NOTSET)
        assert batch.count == tasks
        return time.perf_counter() - begin, len(batch.failures)


def measure_bare(client: Client, tasks: int, seconds: float, failing: float) -> tuple[float, int]:
    """The same by Dask alone."""
    with tempfile.TemporaryDirectory() as folder:
        plans = [Waiting(str(number), Path(folder)) for number in range(tasks)]
        begin = time.perf_counter()
        futures = client.map(prepare(seconds, failing), plans, pure=False)
        failed = sum(future.status == "error" for future in as_completed(futures))
        return time.perf_counter() - begin, failed


def serve(ready: Connection, address: str | None, count: int) -> None:
    """A scheduler, or so many workers of the one at ``address``, until this process is ended."""
    # Each worker watches its process twice a second, which 64 machines do side by side and one does not.
    dask.config.set({"distributed.admin.system-monitor.interval": "60s"})
    dask.config.set({"distributed.worker.profile.enabled": False})

    async def run() -> None:
        async with AsyncExitStack() as stack:
            if address is None:
                scheduler = Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0")
                ready.send((await stack.enter_async_context(scheduler)).address)
            else:
                kind = {"nthreads": 1, "memory_limit": None, "dashboard_address": None}
                for _ in range(count):
                    await stack.enter_async_context(Worker(address, **kind))
                ready.send("")
            await asyncio.Event().wait()

    logging.disable(logging.CRITICAL)
    asyncio.run(run())


@contextmanager
def start(address: str | None = None, count: int = 0) -> Iterator[tuple[str, int]]:
    """A process with what :func:`serve` serves: its address, and its number."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, address, count), daemon=True)
    process.start()
    try:
        yield here.recv(), int(process.pid or 0)
    finally:
        process.kill()
        process.join()


@dataclass(frozen=True)
class Workers:
    """A client of workers that are there already, and processes by what they are."""

    client: Client
    processes: Mapping[str, int]

    def measure_cpu(self) -> dict[str, float]:
        """CPU seconds of each process so far."""
        used = {name: psutil.Process(process).cpu_times() for name, process in self.processes.items()}
        return {name: times.user + times.system for name, times in used.items()}


@contextmanager
def open_workers(count: int, threads: bool) -> Iterator[Workers]:
    """So many workers: threads of one process, or processes."""
    if threads:
        with (
            start() as (address, scheduler),
            start(address, count) as (_, workers),
            Client(address) as client,
        ):
            client.wait_for_workers(count)
            yield Workers(client, {"scheduler": scheduler, "client": os.getpid(), "workers": workers})
        return
    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(count)
        yield Workers(client, {"scheduler and client": os.getpid()})


def run_over(workers: Workers, count: int, given: argparse.Namespace) -> tuple[float, int]:
    """Seconds of all tasks over workers, and how many failed."""
    if given.bare:
        return measure_bare(workers.client, given.tasks, given.seconds, given.failing)
    executor = OnDask(SpreadOptions(f"local:{count}"), workers.client)
    return measure(executor, given.tasks, given.seconds, given.failing)


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead and efficiency of spreading tasks.")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=0.1, help="that a task waits")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--failing", type=float, default=0.0, help="share of tasks that fail")
    parser.add_argument("--threads", action="store_true", help="workers are threads of one process")
    parser.add_argument("--bare", action="store_true", help="by Dask's client.map alone")
    given = parser.parse_args()
    work = given.tasks * given.seconds
    if max(given.workers) <= 2 and not given.bare:
        taken, _ = measure(InProcess(), given.tasks, given.seconds, given.failing)
        print(
            f"this process: {taken:.2f} s, {(taken - work) / given.tasks * 1e3:.2f} ms a task over its wait"
        )
    for count in given.workers:
        with open_workers(count, given.threads) as workers:
            # Imports and connections that come once.
            run_over(workers, count, argparse.Namespace(**{**vars(given), "tasks": count, "seconds": 0.0}))
            before = workers.measure_cpu()
            taken, failed = run_over(workers, count, given)
            used = {name: after - before[name] for name, after in workers.measure_cpu().items()}
        over = (taken * count - work) / given.tasks * 1e3
        cpu = ", ".join(f"{name} {spent / given.tasks * 1e3:.2f}" for name, spent in used.items())
        print(
            f"{count} workers: {taken:.2f} s, {given.tasks / taken:.1f} tasks/s, {failed} failed, "
            f"efficiency {work / count / taken:.3f}, {over:.2f} ms a task over its wait; "
            f"CPU ms a task: {cpu}",
            flush=True,
        )


if __name__ == "__main__":
    main()
