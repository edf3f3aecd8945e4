"""Answers that cost much, kept in a run's journal so that none is asked for twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from domainsam.infer.journal import JOURNAL_FILE, Journal, Steps


class KeptAnswers:
    """Answers in a journal: a :class:`~domainsam.prompter.language.answers.Memory`.

    Parameters
    ----------
    folder
        The run's folder.
    identity
        Everything that decides the answers but what their keys say; a run is only resumed with the same.
    resume
        Whether answers of an earlier run are taken.

    Raises
    ------
    InputError
        If the run to resume was another one.
    OutputError
        If the journal cannot be written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], resume: bool) -> None:
        self._journal = Journal(folder / JOURNAL_FILE, identity, resume)
        self._steps = Steps(self._journal)
        self.resumed = bool(self._journal.records)

    def recall(self, key: str) -> Any:
        """What was kept under a key, None if nothing was."""
        return self._steps.recall(("answer", key))

    def keep(self, key: str, value: Any) -> None:
        """Keep what JSON can hold; it is on the disk when this returns."""
        self._steps.finish(("answer", key), value)

    def close(self) -> None:
        """Close the journal, which stays."""
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
