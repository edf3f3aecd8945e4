"""Tell versions of files apart: by name, size and time, and by samples of all of their content.

Files are changed in place by tools that keep size and time (``rsync
--times``, ``touch -r``, mounts that count in whole seconds), so that neither
they nor a file's first bytes suffice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SAMPLED_BYTES = 64 << 20
"""Bytes read of all files together; what is smaller is read whole. Takes a tenth of a second."""
PIECE = 64 << 10
"""Bytes of a sample; headers and the end are always among them."""


def file_facts(path: Path) -> list[Any]:
    """Name, size in bytes and time of change in nanoseconds."""
    facts = path.stat()
    return [path.name, facts.st_size, facts.st_mtime_ns]


def content_digest(files: Iterable[Path]) -> str:
    """SHA-256 over the files' content, in order.

    Of more than :data:`SAMPLED_BYTES` it takes pieces of :data:`PIECE` bytes
    at even distances, first and last included: a change of fewer bytes than
    lie between two pieces may escape.
    """
    paths = [path for path in files if path.is_file()]
    total = sum(path.stat().st_size for path in paths)
    digest = hashlib.sha256()
    for path in paths:
        _take(path, digest, total)
    return digest.hexdigest()


def _take(path: Path, digest: Any, total: int) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        for start in _choose_pieces(size, total):
            file.seek(start)
            digest.update(file.read(PIECE))


def _choose_pieces(size: int, total: int) -> Sequence[int]:
    """Where the pieces of a file begin."""
    if total <= SAMPLED_BYTES:
        return range(0, size, PIECE)
    count = max(2, int(SAMPLED_BYTES * (size / total)) // PIECE)
    last = max(0, size - PIECE)
    return [last * number // (count - 1) for number in range(count)]
