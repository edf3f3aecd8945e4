"""Steps that are done once, whatever happens between them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from domainsam.infer.journal import Journal


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


def file_marks(path: str) -> Mapping[str, Any]:
    """What tells one version of a file from another: its name, size and time of change."""
    try:
        facts = Path(path).stat()
    except OSError:
        return {"path": path}
    return {"path": str(Path(path).resolve()), "size": facts.st_size, "changed": facts.st_mtime_ns}
