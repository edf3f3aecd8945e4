"""What spreading costs: overhead a task, and efficiency with more workers, on tasks that only wait.

::

    python benchmarks/scale.py                                # processes of this machine, 1 and 2 workers
    python benchmarks/scale.py --workers 64 --tasks 10000 --seconds 0.3 --failing 0.01 --threads

The tasks are files that are written after a wait, through the same batch and
executor as scenes: what is measured is the scheduler's and the executor's own
work, whatever else the machine has to do. With ``--threads`` the workers are threads
of one process with a real scheduler, so that many of them fit on a small machine.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

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


@contextmanager
def open_workers(count: int, threads: bool) -> Iterator[Executor]:
    """An executor over so many workers that are there already."""
    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=not threads,
            dashboard_address=None,
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(count)
        yield OnDask(SpreadOptions(f"local:{count}"), client)


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead and efficiency of spreading tasks.")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=0.1, help="that a task waits")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--failing", type=float, default=0.0, help="share of tasks that fail")
    parser.add_argument("--threads", action="store_true", help="workers are threads of this process")
    given = parser.parse_args()
    work = given.tasks * given.seconds
    if max(given.workers) <= 2:
        taken, _ = measure(InProcess(), given.tasks, given.seconds, given.failing)
        print(
            f"this process: {taken:.2f} s, {(taken - work) / given.tasks * 1e3:.2f} ms a task over its wait"
        )
    for count in given.workers:
        with open_workers(count, given.threads) as executor:
            measure(executor, count, 0.0, 0.0)
            taken, failed = measure(executor, given.tasks, given.seconds, given.failing)
        over = (taken * count - work) / given.tasks * 1e3
        print(
            f"{count} workers: {taken:.2f} s, {given.tasks / taken:.1f} tasks/s, {failed} failed, "
            f"efficiency {work / count / taken:.3f}, {over:.2f} ms a task over its wait",
            flush=True,
        )


if __name__ == "__main__":
    main()
