"""Write and read a plan: the tasks of a job, each with what decides its answer.

A plan is a folder that all machines see: ``plan.json`` (the job and its options),
``tasks.jsonl`` (a task a line, from 1), and what tasks leave in ``done`` and ``failed``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import domainsam
from domainsam.documents import check_document, read_json
from domainsam.errors import ConfigError, InputError, OutputError
from domainsam.infer.many import Entry, ManyJob, Size, WorkList
from domainsam.infer.workroom import tidy_room
from domainsam.limits import Limits, get_limits
from domainsam.packs import load_pack
from domainsam.reading import reading
from domainsam.remote import find_address
from domainsam.staging import Staging, check_targets

PLAN_FILE, TASKS_FILE = "plan.json", "tasks.jsonl"
DONE, FAILED = "done", "failed"
FORMAT = 1
WHO = (
    *("resume", "quiet", "scheduler", "gpus_per_task", "memory_per_task", "retries", "max_failures"),
    *("log", "metrics"),
)
"""Options that say who does the work and how it is told: they are not the plan's business."""
MOST_FILES = 100_000
"""Files of one input whose times and sizes are looked at."""


@dataclass(frozen=True)
class Task:
    """One input of a job, and what decides its answer.

    Parameters
    ----------
    number
        From 1.
    files
        What it writes, as the plan's folder of work has it.
    facts
        Size and time of change of the input's files; None where they are not on this machine.
    fingerprint
        SHA-256 of the job, its options, the version of this package, and the input's facts.
    """

    number: int
    entry: Entry
    name: str
    files: tuple[str, ...]
    size: Size
    facts: tuple[int, ...] | None
    fingerprint: str


@dataclass(frozen=True)
class ClusterPlan:
    """A plan in its folder.

    Parameters
    ----------
    folder
        Where it is.
    pack
        Name of the pack whose job it is.
    command
        The plain command that it stands for.
    work_folder
        Folder in which that command was to run: paths are relative to it.
    options
        The command's options by keyword.
    total
        How many tasks there are.
    """

    folder: Path
    pack: str
    command: str
    work_folder: Path
    options: Mapping[str, Any]
    limits: Limits
    total: int

    @property
    def job(self) -> ManyJob:
        """The pack's job."""
        return load_job(self.pack)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, in order.

        Raises
        ------
        InputError
            If the list of tasks is damaged or cut short.
        """
        path = self.folder / TASKS_FILE
        with reading(path, "a list of tasks"), path.open(encoding="utf-8") as lines:
            tasks = tuple(_read_task(json.loads(line), path) for line in lines)
        if [task.number for task in tasks] != list(range(1, self.total + 1)):
            raise InputError(
                f"{path}: holds {len(tasks)} tasks, the plan {self.total}: it was cut short; plan anew"
            )
        return tasks

    def open(self, tasks: Sequence[Task]) -> WorkList[Any, Any]:
        """What is done with tasks, which go on with whatever is there."""
        return self.job.open([task.entry for task in tasks], {**self.options, "resume": True}, self.total)

    @property
    def overwrite(self) -> bool:
        """Whether files that were there before the plan may be replaced."""
        return bool(self.options.get("overwrite"))


def load_job(pack: str) -> ManyJob:
    """A pack's job that can be spread.

    Raises
    ------
    ConfigError
        If it has none.
    PackError
        If there is no such pack, or it cannot be loaded.
    """
    loaded = load_pack(pack)
    if loaded.many is None:
        raise ConfigError(f"the {pack} pack has no job whose inputs can be spread; urban and ct have")
    job: ManyJob = loaded.load("many")
    return job


def write_plan(
    folder: Path,
    pack: str,
    inputs: Sequence[str],
    options: Mapping[str, Any],
    command: str,
    *,
    overwrite: bool = False,
) -> ClusterPlan:
    """List the tasks of a job in a folder, and check all that it will write.

    Parameters
    ----------
    folder
        Where the plan goes; made if need be.
    inputs, options
        Of the pack's command, options by keyword.
    command
        The plain command, as outputs tell it.

    Raises
    ------
    OutputError
        If there is a plan already, an output exists and may not be replaced, or a folder cannot be written.
    DomainSamError
        If inputs or options cannot be used.
    """
    target = folder / PLAN_FILE
    check_targets([target, folder / TASKS_FILE], overwrite)
    job = load_job(pack)
    kept = {name: _plain(value) for name, value in options.items() if name not in WHO}
    if job.tells_command:
        kept["made_by"] = command
    goes_on = bool(options.get("resume"))
    entries, kept = job.list_entries(inputs, kept)
    work = job.open(entries, {**kept, "resume": goes_on}, len(entries))
    stored = next((path for plan in work.plans for path in plan.files if find_address(path)), None)
    if stored is not None:
        raise ConfigError(
            f"'{find_address(stored)}' is in an object store: outputs of a plan go to a folder that all "
            "see; give --scheduler to the plain command instead"
        )
    if not goes_on:
        tried: set[Path] = set()
        for plan in work.plans:
            plan.check(work.overwrite(plan), tried)
            tidy_room(plan.work)
    identity = {"domainsam": domainsam.__version__, "pack": pack, "options": _deciding(kept)}
    tasks = [
        _make_task(number, entry, work.name(plan), plan.files, job.measure(entry, kept), identity)
        for number, (entry, plan) in enumerate(zip(entries, work.plans, strict=True), start=1)
    ]
    made = ClusterPlan(folder, pack, command, Path.cwd(), kept, get_limits(), len(tasks))
    _write(made, tasks, overwrite)
    return made


def _write(plan: ClusterPlan, tasks: Sequence[Task], overwrite: bool) -> None:
    document = {
        "format": FORMAT,
        "domainsam": domainsam.__version__,
        "pack": plan.pack,
        "command": plan.command,
        "folder": str(plan.work_folder),
        "options": plan.options,
        "limits": asdict(plan.limits),
        "tasks": plan.total,
    }
    target, listed = plan.folder / PLAN_FILE, plan.folder / TASKS_FILE
    with Staging([listed, target], overwrite=overwrite) as staging:
        lines = (json.dumps(_as_line(task), ensure_ascii=False) + "\n" for task in tasks)
        staging.write_with(listed, lambda path: _write_lines(path, lines))
        staging.write_text(target, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _write_lines(path: Path, lines: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)


def read_plan(folder: Path) -> ClusterPlan:
    """The plan in a folder.

    Raises
    ------
    MissingInputError
        If there is none.
    InputError
        If it is damaged, or of another version of this package: answers might differ.
    """
    path = folder / PLAN_FILE
    document = read_json(path, "a plan of 'domainsam cluster plan'")
    if document.get("format") != FORMAT or document.get("domainsam") != domainsam.__version__:
        raise InputError(
            f"{path}: was made by domainsam {document.get('domainsam')}, this is {domainsam.__version__}: "
            "use the same version, or plan anew"
        )
    try:
        return ClusterPlan(
            folder,
            str(document["pack"]),
            str(document["command"]),
            Path(document["folder"]),
            dict(document["options"]),
            Limits(**document["limits"]),
            int(document["tasks"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}); plan anew") from error


def choose_tasks(plan: ClusterPlan, task: int | None, part: str | None) -> tuple[Task, ...]:
    """Those that one call of ``work`` does: a task, every n-th from the i-th on, or all.

    Raises
    ------
    ConfigError
        If there is no such task or part.
    """
    if task is not None and part is not None:
        raise ConfigError("--task and --part were both given: a part holds many tasks, choose one of them")
    if task is not None:
        if not 1 <= task <= plan.total:
            raise ConfigError(f"--task {task}: tasks of this plan are numbered from 1 to {plan.total}")
        return (plan.tasks[task - 1],)
    if part is None:
        return plan.tasks
    first, count = parse_part(part)
    return plan.tasks[first - 1 :: count]


def parse_part(part: str) -> tuple[int, int]:
    """Which part, from 1, and of how many.

    Raises
    ------
    ConfigError
        If it is not of the form ``i/n`` with ``i`` from 1 to ``n``.
    """
    words = part.split("/")
    if len(words) == 2 and all(word.strip().isdecimal() and len(word) < 10 for word in words):
        first, count = (int(word) for word in words)
        if 1 <= first <= count:
            return first, count
    raise ConfigError(
        f"--part '{part}' is none: give i/n with i from 1 to n, such as 1/8 to 8/8; part i holds the tasks "
        "i, i + n, i + 2n ..., and all n parts together hold all"
    )


def gather_facts(source: str) -> tuple[int, ...] | None:
    """Count, bytes and latest change (ns) of an input's files; None where it is not on this machine."""
    path = Path(source)
    try:
        if path.is_file():
            facts = path.stat()
            return 1, facts.st_size, facts.st_mtime_ns
        if not path.is_dir():
            return None
        found = [file.stat() for file, _ in zip(path.rglob("*"), range(MOST_FILES), strict=False)]
    except OSError as error:
        raise OutputError(f"cannot look at '{source}' ({error.strerror}): check its permissions") from error
    return (
        len(found),
        sum(facts.st_size for facts in found),
        max((facts.st_mtime_ns for facts in found), default=0),
    )


def _make_task(
    number: int, entry: Entry, name: str, files: Sequence[Path], size: Size, identity: Mapping[str, Any]
) -> Task:
    facts = gather_facts(entry.source)
    told = {**identity, "entry": asdict(entry), "facts": facts, "files": [str(path) for path in files]}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return Task(number, entry, name, tuple(map(str, files)), size, facts, digest)


def _as_line(task: Task) -> dict[str, Any]:
    return {**asdict(task), "task": task.number}


def _read_task(line: object, path: Path) -> Task:
    document = check_document(line, path, "a task")
    try:
        entry, size = dict(document["entry"]), dict(document["size"])
        box = entry.get("box")
        return Task(
            int(document["task"]),
            Entry(**{**entry, "box": None if box is None else tuple(box)}),
            str(document["name"]),
            tuple(document["files"]),
            Size(**size),
            None if document["facts"] is None else tuple(document["facts"]),
            str(document["fingerprint"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a task is damaged ({error}); plan anew") from error


def _deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "overwrite"}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(part) for part in value]
    return value
