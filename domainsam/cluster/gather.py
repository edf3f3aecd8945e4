"""Gather what tasks of a plan have done: nothing may be missing, and files about all are written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainsam.cluster.plan import ClusterPlan, Task
from domainsam.cluster.work import in_folder, read_done, read_reason
from domainsam.errors import ConfigError, DomainSamError, InputError
from domainsam.limits import limited
from domainsam.names import show
from domainsam.staging import Staging
from domainsam.weights import file_sha256

NAMED = 10
"""So many missing tasks are named in a message, the rest is counted."""
ITEM = ".stac.json"


class UnfinishedError(DomainSamError):
    """Tasks of a plan are not done."""

    exit_code = 1


@dataclass(frozen=True)
class Gathered:
    """What was gathered: tasks, their files and bytes, those left out and why, and files about all."""

    tasks: int
    files: int
    bytes: int
    left_out: tuple[tuple[str, str], ...]
    paths: Mapping[str, Path]

    def document(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        left_out = [{"name": name, "reason": reason} for name, reason in self.left_out]
        paths = {kind: str(path) for kind, path in self.paths.items()}
        return {
            "tasks": self.tasks,
            "files": self.files,
            "bytes": self.bytes,
            "left_out": left_out,
            "paths": paths,
        }


def gather(
    plan: ClusterPlan,
    out: Path | None = None,
    *,
    verify: bool = False,
    leave_out: bool = False,
    overwrite: bool = False,
) -> Gathered:
    """Check that every task is done, write the files about all, and copy everything if that is asked for.

    Parameters
    ----------
    out
        Folder that takes copies of all files; by default they stay where the plain command puts them.
    verify
        Whether the digest of every file is compared; sizes always are, and what is copied is compared anyway.
    leave_out
        Whether tasks that are not done are left out and named instead.

    Raises
    ------
    UnfinishedError
        If tasks are not done; the message names them.
    InputError
        If a file is not the one that its task has written.
    OutputError
        If a file cannot be written.
    """
    target = None if out is None else out.absolute()
    limits = plan.limits
    with in_folder(plan.work_folder), limited(limits.memory, limits.network, limits.reproducible):
        done: dict[int, dict[str, Any]] = {}
        missing: list[Task] = []
        for task in plan.tasks:
            found = read_done(plan, task)
            if found is None:
                missing.append(task)
            else:
                done[task.number] = found
        reasons = tuple((task.name, read_reason(plan, task)) for task in missing)
        if missing and not leave_out:
            raise UnfinishedError(_tell_missing(plan, missing, [reason for _, reason in reasons]))
        records = [file for document in done.values() for file in document["files"]]
        if verify and target is None:
            for record in records:
                _require(Path(record["path"]), record["sha256"])
        paths = dict(plan.open(plan.tasks).finish(reasons))
        if target is not None:
            paths = _copy_all(records, paths, target, overwrite)
        return Gathered(len(done), len(records), sum(record["bytes"] for record in records), reasons, paths)


def _tell_missing(plan: ClusterPlan, missing: Sequence[Task], reasons: Sequence[str]) -> str:
    named = [
        f"{task.number} ({task.name}: {reason})"
        for task, reason in zip(missing[:NAMED], reasons, strict=False)
    ]
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return show(
        f"{len(missing)} of {plan.total} tasks are not done: {', '.join(named)}{more}; do them with "
        f"'domainsam cluster work {plan.folder} --task {missing[0].number}' and the like, or give --leave-out"
    )


def _require(path: Path, digest: str) -> None:
    if file_sha256(path) != digest:
        raise InputError(
            f"{path}: is not the file that its task has written; run the task again with the file removed"
        )


def _copy_all(
    records: Sequence[Mapping[str, Any]], about: Mapping[str, Path], out: Path, overwrite: bool
) -> dict[str, Path]:
    """Copy files of tasks, and those about all, to where they lie to each other as before."""
    sources = [Path(record["path"]).absolute() for record in records]
    further = {kind: path.absolute() for kind, path in about.items()}
    base = Path(os.path.commonpath([path.parent for path in (*sources, *further.values())] or [out]))
    if base == out:
        return dict(further)
    if out.is_relative_to(base) or base.is_relative_to(out):
        raise ConfigError(f"-o '{out}' and the folder of the tasks, '{base}', overlap: choose another")
    places = {path: out / path.relative_to(base) for path in (*sources, *further.values())}
    for path, record in zip(sources, records, strict=True):
        _copy(path, places, str(record["sha256"]), overwrite)
    for path in further.values():
        _copy(path, places, None, overwrite)
    return {kind: places[path] for kind, path in further.items()}


def _copy(path: Path, places: Mapping[Path, Path], digest: str | None, overwrite: bool) -> None:
    """Copy a file that appears complete or not at all; a STAC item's links lead on to where they led."""
    target = places[path]
    if digest is not None:
        _require(path, digest)
    with Staging([target], overwrite=overwrite) as staging:
        if path.name.endswith(ITEM):
            document = json.loads(path.read_text(encoding="utf-8"))
            move_links(document, path.parent, target.parent, places)
            staging.write_text(target, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
            return
        staging.write_with(target, lambda staged: shutil.copyfile(path, staged))


def move_links(document: Any, old: Path, new: Path, places: Mapping[Path, Path]) -> None:
    """Have the relative links of a STAC item that lay in one folder hold in another.

    Parameters
    ----------
    places
        Where files have gone that moved with it.
    """
    for link in _links(document):
        href = link.get("href")
        if not isinstance(href, str) or "://" in href or href.startswith(("/", "#")):
            continue
        led = Path(os.path.normpath(old / href))
        relative = Path(os.path.relpath(places.get(led, led), new)).as_posix()
        link["href"] = relative if relative.startswith("..") else f"./{relative}"


def _links(document: Any) -> Iterator[dict[str, Any]]:
    """Links and assets of an item."""
    yield from (link for link in document.get("links", ()) if isinstance(link, dict))
    yield from (asset for asset in document.get("assets", {}).values() if isinstance(asset, dict))
