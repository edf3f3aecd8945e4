"""Do tasks of a plan, as often as anybody likes: what is done is passed over.

A task writes beside and renames, as the plain command does, and then leaves a
done-object: the digests of its files. Without that it counts as not done.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import domainsam
from domainsam.cluster.plan import DONE, FAILED, ClusterPlan, Task, gather_facts
from domainsam.documents import read_json
from domainsam.errors import InputError, OutputError, explain
from domainsam.infer.workroom import TakenError
from domainsam.limits import limited
from domainsam.machine import measure_peak_rss
from domainsam.names import show
from domainsam.staging import Staging
from domainsam.weights import file_sha256

log = logging.getLogger(__name__)

State = Literal["done", "earlier", "taken", "failed"]


@dataclass(frozen=True)
class Worked:
    """What became of a task: done now, ``earlier``, ``taken`` by another process, or failed and why."""

    task: Task
    state: State
    reason: str = ""
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        told = {"task": self.task.number, "name": self.task.name, "state": self.state}
        return {**told, **({"reason": self.reason} if self.reason else {})}

    def sentence(self) -> str:
        """The same in a line."""
        words = {"done": f"done in {self.seconds:.1f} s", "earlier": "done already"}
        words |= {"taken": "another process is at it", "failed": f"failed: {self.reason}"}
        return f"task {self.task.number} ({self.task.name}): {words[self.state]}"


def do_tasks(
    plan: ClusterPlan, tasks: Sequence[Task], told: Callable[[Worked], None] | None = None
) -> tuple[Worked, ...]:
    """Do tasks one after another with one model; one that fails costs no other.

    Parameters
    ----------
    told
        Called with what became of each.

    Raises
    ------
    InputError
        If the folder that the plan was made for is not there.
    DomainSamError
        If the model cannot be loaded.
    """
    limits = plan.limits
    answers = []
    with in_folder(plan.work_folder), limited(limits.memory, limits.network, limits.reproducible):
        work = plan.open(tasks)
        run: Callable[[Any], Any] | None = None
        for task, outputs in zip(tasks, work.plans, strict=True):
            if read_done(plan, task) is not None:
                answer = Worked(task, "earlier")
            else:
                # Outside of what is caught: without a model no task can be done.
                run = run or work.prepare()
                answer = _do(plan, task, outputs, run)
            answers.append(answer)
            if told is not None:
                told(answer)
    return tuple(answers)


def _do(plan: ClusterPlan, task: Task, outputs: Any, run: Callable[[Any], Any]) -> Worked:
    begin = perf_counter()
    try:
        _require_same(task)
        # Without overwriting nothing was there when the plan was made: it is this task's own work.
        if plan.overwrite or not outputs.complete:
            run(outputs)
        _write_done(plan, task, outputs, perf_counter() - begin)
    except TakenError:
        return Worked(task, "taken")
    except Exception as error:
        reason, _ = explain(error)
        log.debug("%s", task.name, exc_info=error)
        write_record(plan.folder / FAILED / make_name(task), {"task": task.number, "reason": show(reason)})
        return Worked(task, "failed", show(reason))
    return Worked(task, "done", seconds=perf_counter() - begin)


def _require_same(task: Task) -> None:
    """Refuse an input that is another than when the plan was made."""
    if task.facts is not None and gather_facts(task.entry.source) != task.facts:
        raise InputError(f"{task.entry.source}: was changed or moved after the plan was made; plan anew")


def _write_done(plan: ClusterPlan, task: Task, outputs: Any, seconds: float) -> None:
    if not outputs.complete:
        raise OutputError(f"{task.name}: not every file is there; run the task again")
    files = [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in outputs.files
        if path.is_file()
    ]
    document = {
        "task": task.number,
        "name": task.name,
        "fingerprint": task.fingerprint,
        "domainsam": domainsam.__version__,
        "files": files,
        "seconds": round(seconds, 3),
        "peak_rss_mb": round(measure_peak_rss()) if math.isfinite(measure_peak_rss()) else None,
    }
    write_record(plan.folder / DONE / make_name(task), document)
    (plan.folder / FAILED / make_name(task)).unlink(missing_ok=True)


def read_done(plan: ClusterPlan, task: Task) -> dict[str, Any] | None:
    """A task's done-object; None without one that belongs to this plan, or where a file of it has gone.

    Call it in the plan's folder of work.
    """
    path = plan.folder / DONE / make_name(task)
    if not path.is_file():
        return None
    try:
        document = read_json(path, "a done-object")
        if document["fingerprint"] != task.fingerprint:
            return None
        for file in document["files"]:
            if Path(file["path"]).stat().st_size != file["bytes"]:
                return None
    except (InputError, OSError, KeyError, TypeError):
        return None
    return document


def read_reason(plan: ClusterPlan, task: Task) -> str:
    """Why a task that is not done failed, or that it was not begun."""
    path = plan.folder / FAILED / make_name(task)
    if not path.is_file():
        return "not done"
    try:
        return str(read_json(path, "a record of a failure").get("reason"))
    except InputError:
        return "failed"


def make_name(task: Task) -> str:
    """The name of a task's records."""
    return f"{task.number:07d}.json"


def write_record(path: Path, document: dict[str, Any]) -> None:
    """Write a record so that it appears complete or not at all; a later one replaces it."""
    with Staging([path], overwrite=True) as staging:
        staging.write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Run in a folder: the plan's paths are relative to it.

    Raises
    ------
    InputError
        If it is not there.
    """
    before = Path.cwd()
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"the plan was made in '{folder}', which is not here ({error.strerror}): run tasks where that "
            "folder is seen, or plan anew"
        ) from error
    try:
        yield
    finally:
        os.chdir(before)
