"""Fuzz every reader: mutations of small valid files of every format, in processes bounded in time and memory.

::

    python -m tests.fuzz --minutes 5 --seed 1 --keep found/
    python -m tests.fuzz --count 4000

Prints a table by format. Ends with 1 if a reader raised anything but the
package's own errors, went on for more than 10 seconds, took more memory than
the budget, or took its process with it; such files are kept. "Read otherwise"
is damage that passed: what the format cannot tell is listed in the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PIECE = 600
"""Mutations that one process reads: what libraries leak does not add up."""
STUCK_SECONDS = 40
"""A process that says nothing for so long hangs where Python cannot interrupt it."""
FAULTS = ("traceback", "hang", "memory", "crash", "many lines")


def fuzz(count: int, minutes: float, seed: int, keep: Path) -> list[dict[str, Any]]:
    """What became of each mutation, until there are ``count`` or the time is over."""
    found: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * minutes
    number = 0
    while number < count and time.monotonic() < end:
        stop = min(count, number + PIECE)
        for result in run_worker(seed, number, stop, keep, end):
            found.append(result)
            number = result["number"] + 1
    return found


def run_worker(seed: int, start: int, stop: int, keep: Path, end: float) -> Iterator[dict[str, Any]]:
    """Results of one process; one that ends early, or is stuck, is a result too."""
    command = [sys.executable, "-m", "tests.fuzz.worker", *map(str, (seed, start, stop, keep))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    at: dict[str, Any] = {"begin": start, "sample": "start"}
    done, stuck = False, threading.Event()
    watch = _Watch(process, stuck)
    try:
        for line in process.stdout:
            watch.rest()
            told = json.loads(line)
            if "begin" in told:
                at, done = told, False
                continue
            done = True
            yield told
            if time.monotonic() > end:
                return
        process.wait()
        if process.returncode and not done:
            outcome = "hang" if stuck.is_set() else "crash"
            told = f"the process ended with {process.returncode}"
            yield {"number": at["begin"], "sample": at["sample"], "outcome": outcome, "told": told}
    finally:
        watch.stop()
        process.kill()
        process.wait()


class _Watch:
    """Ends a process that has said nothing for :data:`STUCK_SECONDS`."""

    def __init__(self, process: subprocess.Popen[str], stuck: threading.Event) -> None:
        self._process, self._stuck = process, stuck
        self._timer: threading.Timer | None = None
        self.rest()

    def rest(self) -> None:
        self.stop()
        self._timer = threading.Timer(STUCK_SECONDS, self._end)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self._stuck.set()
        self._process.kill()


def table(found: list[dict[str, Any]]) -> str:
    """Counts by format, and what readers choked on."""
    by_sample: dict[str, Counter[str]] = defaultdict(Counter)
    for result in found:
        by_sample[result["sample"]][result["outcome"]] += 1
    columns = ("refused", "same", "read otherwise", *FAULTS)
    lines = ["  ".join([f"{'format':<18}", *(f"{name:>14}" for name in columns)])]
    total: Counter[str] = Counter()
    for name, counts in sorted(by_sample.items()):
        lines.append("  ".join([f"{name:<18}", *(f"{counts[column]:>14}" for column in columns)]))
        total += counts
    whole = f"all {len(found)}"
    lines.append("  ".join([f"{whole:<18}", *(f"{total[column]:>14}" for column in columns)]))
    lines += [
        f"{result['outcome']}: {result['sample']} {result['number']}: {result['told']}"
        for result in found
        if result["outcome"] in FAULTS
    ]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz every reader.")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--count", type=int, default=10**9, help="mutations at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that readers choke on")
    given = parser.parse_args()
    keep = given.keep or Path(tempfile.mkdtemp(prefix="domainsam-fuzz-found-"))
    found = fuzz(given.count, given.minutes, given.seed, keep)
    sys.stdout.write(table(found) + "\n")
    faults = [result for result in found if result["outcome"] in FAULTS]
    if faults:
        sys.stdout.write(f"{len(faults)} faults; files are in {keep}\n")
    return bool(faults) or not found


if __name__ == "__main__":
    sys.exit(main())
