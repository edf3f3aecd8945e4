"""What a plan will take: hours, memory, bytes and money, as far as tasks that were done tell it.

The model is linear: a task takes ``a + b x`` seconds, x being its pixels or voxels;
``a`` is what opening, writing and renaming take whatever its size, ``b`` is the
network's. Both are fitted to the done-objects by least squares (one alone gives
the ratio). A worker loads the model once, before its first task, which is in no task's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from domainsam.cluster.plan import ClusterPlan, Task
from domainsam.cluster.work import in_folder, read_done, read_reason
from domainsam.limits import format_bytes

HOUR = 3600.0
DISTINCT = 1.05
"""Tasks whose sizes differ by less than this factor tell one ratio, not two parts."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a task: ``fixed + each * elements``; ``told_by`` tasks say so."""

    fixed: float
    each: float
    told_by: int

    def seconds(self, elements: float) -> float:
        """Of a task with so many elements."""
        return self.fixed + self.each * elements


@dataclass(frozen=True)
class Estimate:
    """What is left of a plan.

    Parameters
    ----------
    tasks, done, failed
        Counts; ``failed`` of those that are not done.
    elements, read, written, staged
        Of what is left: pixels or voxels, bytes of inputs, bytes of outputs at most, and the greatest number
        of bytes that one task stages.
    hours, worker_hours
        From now on with so many workers, and of all workers together; None while no task tells the pace.
    longest_s
        Seconds of the greatest task, below which no number of workers brings the end.
    memory_mb
        Largest resident size of a process that did tasks.
    price
        ``worker_hours`` by the user's price of one.
    """

    tasks: int
    done: int
    failed: int
    workers: int
    elements: int
    read: int
    written: int
    staged: int
    hours: float | None
    worker_hours: float | None
    longest_s: float | None
    memory_mb: float | None
    price: float | None

    def document(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The same for a person."""
        failed = f", {self.failed} failed" if self.failed else ""
        told = [
            f"tasks      {self.tasks}, {self.done} done{failed}",
            f"left       {self.elements / 1e6:.1f} million pixels or voxels; {format_bytes(self.read)} to "
            f"read, at most {format_bytes(self.written)} of rasters to write",
            f"staging    {format_bytes(self.staged)} a worker, beside the outputs",
        ]
        if self.hours is None or self.worker_hours is None:
            return [*told, "time       not known before a task is done: give --try 1, or do some tasks"]
        told.append(
            f"time       {self.hours:.2f} h with {self.workers} workers, {self.worker_hours:.2f} h of all of "
            f"them; the longest task {self.longest_s or 0:.0f} s"
        )
        if self.memory_mb is not None:
            told.append(f"memory     {self.memory_mb:.0f} MB a worker")
        if self.price is not None:
            told.append(f"price      {self.price:.2f}")
        return told


def estimate(plan: ClusterPlan, workers: int = 1, price: float | None = None) -> Estimate:
    """What is left of a plan takes with so many workers, each of which costs ``price`` an hour."""
    with in_folder(plan.work_folder):
        done = {task.number: record for task in plan.tasks if (record := read_done(plan, task))}
        left = [task for task in plan.tasks if task.number not in done]
        failed = sum(read_reason(plan, task) != "not done" for task in left)
    finished = [task for task in plan.tasks if task.number in done]
    pace = fit_pace(
        [task.size.elements for task in finished], [float(done[task.number]["seconds"]) for task in finished]
    )
    memory = [float(peak) for record in done.values() if (peak := record.get("peak_rss_mb"))]
    hours, work, longest = _take_time(left, pace, workers)
    return Estimate(
        tasks=plan.total,
        done=len(done),
        failed=failed,
        workers=workers,
        elements=sum(task.size.elements for task in left),
        read=sum(task.size.read for task in left),
        written=sum(task.size.written for task in left),
        staged=max((task.size.staged for task in left), default=0),
        hours=hours,
        worker_hours=work,
        longest_s=longest,
        memory_mb=max(memory, default=None),
        price=None if price is None or work is None else price * work,
    )


def fit_pace(elements: Sequence[int], seconds: Sequence[float]) -> Pace | None:
    """The pace that tasks tell, None without any; neither of its parts is negative."""
    if not seconds:
        return None
    x, y = np.asarray(elements, float), np.asarray(seconds, float)
    if x.max() <= 0:
        return Pace(float(y.mean()), 0.0, len(y))
    if x.max() < DISTINCT * max(x.min(), 1.0):
        return Pace(0.0, float(y.sum() / x.sum()), len(y))
    each, fixed = np.polyfit(x, y, 1)
    if each < 0:
        return Pace(float(y.mean()), 0.0, len(y))
    if fixed < 0:
        return Pace(0.0, float((x @ y) / (x @ x)), len(y))
    return Pace(float(fixed), float(each), len(y))


def _take_time(
    left: Sequence[Task], pace: Pace | None, workers: int
) -> tuple[float | None, float | None, float | None]:
    """Hours to the end, worker hours, and seconds of the longest task."""
    if pace is None:
        return None, None, None
    each = [pace.seconds(task.size.elements) for task in left]
    longest = max(each, default=0.0)
    # Greedy scheduling ends within this bound of the best (R. L. Graham, SIAM J. Appl. Math. 17, 1969).
    last = sum(each) / workers + longest * (1 - 1 / workers)
    return last / HOUR, sum(each) / HOUR, longest
