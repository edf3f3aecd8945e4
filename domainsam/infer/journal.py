"""A record of finished work that survives ``kill -9``.

One line a record: a CRC-32 in hexadecimal, a space, JSON. Every line is on
the disk before the next begins. A line cut short by a crash fails its
checksum and ends the journal there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from zlib import crc32

from domainsam.errors import InputError, OutputError
from domainsam.infer.openfile import OpenFile
from domainsam.infer.store import BINARY, sync_folder

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
            super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | BINARY, 0o644))
            os.ftruncate(self._descriptor, length)
            os.lseek(self._descriptor, length, os.SEEK_SET)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        if not records:
            self._write({"run": dict(fingerprint)})
            sync_folder(path.parent)

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
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
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
    return cast(Record, json.loads(text))


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
