"""Journal of finished work units that survives ``kill -9``, for resuming.

One line a record: a CRC-32 in hexadecimal, a space, JSON. Every line is on
the disk before the next begins. A line cut short by a crash fails its
checksum and ends the journal there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard
from zlib import crc32

from domainsam.errors import InputError, OutputError
from domainsam.infer.store import OpenFile, sync_folder
from domainsam.private import open_privately
from domainsam.versions import content_digest

Record = dict[str, Any]


class Journal(OpenFile):
    """An append-only file: the run's fingerprint, then one record for each finished unit.

    Parameters
    ----------
    path
        The journal's file.
    fingerprint
        Everything that decides the answer: input, model and options. A run
        may only continue a journal with the same fingerprint.
    resume
        Continue the journal at ``path`` where there is one; otherwise start anew.

    Raises
    ------
    InputError
        If the journal found is of another run; the message names what differs.
    OutputError
        If it cannot be written.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any], resume: bool = False) -> None:
        self.path = path
        records, length = _read(path) if resume else ([], 0)
        if records:
            _check_same_run(path, records[0].get("run", {}), fingerprint)
        self.records: list[Record] = records[1:]
        """Records of earlier runs, in order."""
        self.resumed = bool(records)
        try:
            super().__init__(open_privately(path, os.O_RDWR | os.O_CREAT))
            os.ftruncate(self._descriptor, length)
            os.lseek(self._descriptor, length, os.SEEK_SET)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        if not records:
            self._write({"run": dict(fingerprint)})
            sync_folder(path.parent)

    def read_all(self) -> list[Record]:
        """Records of earlier runs and of this one, in order.

        Raises
        ------
        OutputError
            If it cannot be read again.
        """
        return _read(self.path)[0][1:]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it is on the disk when this returns."""
        self._write(record)

    def _write(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        try:
            os.write(self._descriptor, f"{crc32(text.encode()):08x} {text}\n".encode())
            os.fsync(self._descriptor)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error


def _read(path: Path) -> tuple[list[Record], int]:
    """Whole records of a journal, and the length in bytes that they take."""
    try:
        with os.fdopen(open_privately(path, os.O_RDONLY), "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return [], 0
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    records: list[Record] = []
    length = 0
    for line in content.splitlines(keepends=True):
        record = _parse(line)
        if record is None:
            break
        records.append(record)
        length += len(line)
    return records, length


def _parse(line: bytes) -> Record | None:
    """The record of a line, or None if the line is not whole."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != f"{crc32(text):08x}".encode():
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if _is_record(record) else None


def _is_record(record: object) -> TypeGuard[Record]:
    """Whether a line is of the type that lines are: an object, its unit a key, its run an object."""
    if not isinstance(record, dict) or not isinstance(record.get("run", {}), dict):
        return False
    unit = record.get("unit", [])
    return isinstance(unit, list) and all(isinstance(part, str | int) for part in unit)


def _check_same_run(path: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    # Through JSON and back, as the earlier one went, so that tuples and lists compare equal.
    current = json.loads(json.dumps(dict(now)))
    for key in sorted(set(earlier) | set(current)):
        if earlier.get(key) != current.get(key):
            raise InputError(
                f"cannot resume {path.parent}: {key} was {_short(earlier.get(key))} and is now "
                f"{_short(current.get(key))}; give the same or run without --resume"
            )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Steps:
    """What a run has finished, by key, in the run's journal.

    A step counts as done if it is in the journal and its files are there.
    A file appears under its name only when it is complete, so a step that was
    cut short is simply done again.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._done = {tuple(record["unit"]): record.get("value") for record in journal.records}

    def is_done(self, key: tuple[str, ...], files: tuple[Path, ...] = ()) -> bool:
        """Whether a step need not be done again."""
        return key in self._done and all(path.is_file() for path in files)

    def recall(self, key: tuple[str, ...]) -> Any:
        """The result of a step that is done, None of one that is not."""
        return self._done.get(key)

    def finish(self, key: tuple[str, ...], value: Any = None) -> None:
        """Write down that a step is done, with what JSON can hold of its result."""
        self._journal.append({"unit": list(key), "value": value})
        self._done[key] = value

    def once(self, key: tuple[str, ...], work: Callable[[], Any], files: tuple[Path, ...] = ()) -> Any:
        """The result of a step, from the journal where it is done."""
        if not self.is_done(key, files):
            self.finish(key, work())
        return self._done[key]


def digest(values: Any) -> str:
    """Eight hexadecimal digits that tell inputs apart, for keys and file names."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def mark_file(path: str) -> Mapping[str, Any]:
    """Identify a version of a file by its name, size, time of change and samples of its content."""
    try:
        facts = Path(path).stat()
    except OSError:
        return {"path": path}
    return {
        "path": str(Path(path).resolve()),
        "size": facts.st_size,
        "changed": facts.st_mtime_ns,
        "content": content_digest([Path(path)]),
    }


JOURNAL_FILE = "journal"
