"""Kill workers, clients and schedulers at random moments, go on, and compare with a run of one process.

::

    python -m tests.kills_cluster --count 21 --seed 1

Scenes, a cohort, and one scene in pieces, all generated, are spread over two workers of a Dask
scheduler, all of them processes that are forked from this one, with models
that need no training. In turn a worker, the client or the scheduler is gone
after a random time, as by ``kill -9``. A worker is replaced and its client has
to end well by itself; after the others the same command is run again with
``--resume``. Every output has to have the bytes of the plain command without a
scheduler, and nothing hidden may be left. Ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kills import contents, prepare_models, run

KINDS = ("worker", "client", "scheduler")
SCENES, CASES = 5, 6
PATIENCE = 180.0
"""Seconds after which a client is said to hang."""
JOBS = {
    "urban": "urban map scenes.csv -o out/ --mask out/ --summary out/ --tile 64 --overlap 16 --device cpu -q "
    "--reproducible",
    "ct": "ct segment cohort.csv -o out/ --statistics -q --reproducible",
    # A scene by itself is cut into pieces.
    "pieces": "urban map large.tif -o out/a.gpkg --mask out/ --tile 64 --overlap 16 --device cpu -q "
    "--reproducible",
}


def write_inputs(folder: Path) -> None:
    """Scenes and scans, and the tables that name them."""
    from domainsam.testing.synthetic import make_settlement_scene
    from tests.ct.standin import write_case
    from tests.urban.tiny import write_scene

    for number in range(SCENES):
        write_scene(folder / f"scene{number}.tif")
    for number in range(CASES):
        write_case(folder / f"ct{number}.nii.gz")
    write_scene(folder / "large.tif", make_settlement_scene(480, 360, seed=3).image)
    rows = [f"scene{number}.tif" for number in range(SCENES)]
    (folder / "scenes.csv").write_text("\n".join(["path", *rows]))
    rows = [f"ct{number}.nii.gz" for number in range(CASES)]
    (folder / "cohort.csv").write_text("\n".join(["path", *rows]))


def fork(work: Callable[[], Any], folder: Path) -> int:
    """Run a function in a process of its own, in a folder and silent; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        code = int(work() or 0)
    finally:
        os._exit(code)


def end(process: int) -> None:
    """Kill a process that may have gone, and wait for it."""
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def wait(process: int, seconds: float) -> int | None:
    """Exit code of a process, None if it has not ended after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def serve_scheduler(port: int) -> None:
    import asyncio

    from distributed import Scheduler

    async def serve() -> None:
        async with Scheduler(host="127.0.0.1", port=port, dashboard_address="127.0.0.1:0") as scheduler:
            await scheduler.finished()

    asyncio.run(serve())


def serve_worker(address: str, scratch: Path) -> None:
    import asyncio

    from distributed import Worker

    async def serve() -> None:
        place = {"local_directory": str(scratch), "dashboard_address": None}
        async with Worker(address, nthreads=1, memory_limit=None, **place) as worker:
            await worker.finished()

    asyncio.run(serve())


@dataclass
class Cluster:
    """A scheduler and two workers, processes of this machine."""

    scratch: Path
    port: int = 0
    scheduler: int = 0
    workers: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.scheduler = fork(lambda: serve_scheduler(self.port), self.scratch)
        self.workers = [self.add_worker() for _ in range(2)]

    def add_worker(self) -> int:
        return fork(lambda: serve_worker(self.address, self.scratch), self.scratch)

    def replace_worker(self, number: int) -> None:
        end(self.workers[number])
        self.workers[number] = self.add_worker()

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            end(process)


def start_client(words: list[str], folder: Path) -> int:
    def work() -> int:
        from domainsam_cli import main

        sys.argv = ["domainsam", *words]
        return main(words)

    return fork(work, folder)


def kill_once(
    kind: str, words: list[str], cluster: Cluster, folder: Path, seconds: float, chance: int
) -> str:
    """Kill one process while a job runs, and bring the job to its end; what went wrong, nothing usually."""
    spread = [*words, "--scheduler", cluster.address]
    client = start_client(spread, folder)
    time.sleep(seconds)
    if kind == "worker":
        cluster.replace_worker(chance % 2)
        code = wait(client, PATIENCE)
        end(client)
        return "" if code == 0 else f"the client ended with {code}"
    if kind == "client":
        end(client)
    else:
        end(cluster.scheduler)
        code = wait(client, PATIENCE)
        end(client)
        if code is None:
            return "the client hangs without its scheduler"
        cluster.stop()
        cluster.start()
    again = start_client([*words, "--resume", "--scheduler", cluster.address], folder)
    code = wait(again, PATIENCE)
    end(again)
    return "" if code == 0 else f"going on ended with {code}"


def compare(folder: Path, whole: dict[str, Any]) -> list[str]:
    """What differs from the plain command's outputs, and what is left over."""
    found = contents(folder)
    faults = [f"{name} is missing" for name in whole if name not in found]
    faults += [f"{name} differs" for name in whole if name in found and found[name] != whole[name]]
    faults += [f"{name} is left over" for name in found if name not in whole]
    return faults + [f"folder {path.name} is left over" for path in folder.rglob(".*") if path.is_dir()]


def kill(count: int, seed: int) -> list[str]:
    """Kill ``count`` times in turn; what went wrong, a line each."""
    prepare_models()
    rng, faults = random.Random(seed), list[str]()
    with tempfile.TemporaryDirectory(prefix="domainsam-kills-") as name:
        scratch = Path(name)
        inputs = scratch / "inputs"
        inputs.mkdir()
        write_inputs(inputs)
        wholes, lasted = {}, {}
        for job, line in JOBS.items():
            folder = scratch / f"plain-{job}"
            shutil.copytree(inputs, folder)
            begin = time.monotonic()
            if run(tuple(line.split()), folder):
                return [f"{line}: fails unbroken"]
            wholes[job], lasted[job] = contents(folder / "out"), time.monotonic() - begin
        cluster = Cluster(scratch)
        cluster.start()
        try:
            for number in range(count):
                kind, job = KINDS[number % len(KINDS)], list(JOBS)[number // len(KINDS) % len(JOBS)]
                folder = scratch / f"{number}"
                shutil.copytree(inputs, folder)
                seconds = rng.random() * (2.0 + lasted[job])
                words = JOBS[job].split()
                fault = kill_once(kind, words, cluster, folder, seconds, rng.randrange(2))
                found = ([fault] if fault else []) + compare(folder / "out", wholes[job])
                faults += [f"{number}: {job}, {kind} killed after {seconds:.2f} s: {one}" for one in found]
                sys.stdout.write(f"{number}: {job}, {kind} after {seconds:.2f} s: {found or 'same bytes'}\n")
                sys.stdout.flush()
        finally:
            cluster.stop()
    return faults


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kills_cluster", description="Kill a cluster's parts."
    )
    parser.add_argument("--count", type=int, default=21, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faults = kill(given.count, given.seed)
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    sys.stdout.write(f"{given.count} kills: {len(faults)} faults\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
