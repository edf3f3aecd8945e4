"""Objects found window by window, on disk, so that a run that was killed goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam.infer.journal import Journal, Steps
from domainsam.private import open_privately
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.everything import Look
from domainsam.protocols import SceneObject, Window


class StagedWindows:
    """The objects of each window, computed once: what ``once`` of an everything-mode asks.

    Masks lie in a file a window and are mapped, not held: what is in memory does not grow with the scene.

    Parameters
    ----------
    folder
        Takes the files.
    journal
        Of the run; its fingerprint has to say all that decides the objects.
    total
        Windows in all, for ``progress``.
    """

    def __init__(
        self, folder: Path, journal: Journal, total: int, progress: Progress = report_nothing
    ) -> None:
        self.folder, self._steps, self._total, self._progress = folder, Steps(journal), total, progress
        self._done = 0

    def once(self, window: Window, look: Look) -> list[SceneObject]:
        """The objects of a window, with mask and box.

        Raises
        ------
        OutputError
            If the disk refuses them.
        """
        name = f"{window.frame}_{window.row}_{window.col}"
        path = self.folder / f"objects_{name}.u8"
        rows = self._steps.once(("window", name), lambda: _store(path, look()), (path,))
        self._done += 1
        self._progress("search", self._done, self._total)
        return _restore(path, rows, window.frame)


def _store(path: Path, found: Sequence[SceneObject]) -> list[list[Any]]:
    """Write masks one after another; the rest of every object as values that JSON keeps exactly."""
    making = path.with_suffix(".part")
    try:
        with os.fdopen(open_privately(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            for one in found:
                file.write(np.ascontiguousarray(one.mask).tobytes())
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write '{path}' ({error.strerror or error}): free some space, or choose another folder"
        ) from error
    return [[one.bounds.row, one.bounds.col, one.bounds.height, one.bounds.width, one.score] for one in found]


def _restore(path: Path, rows: Sequence[Sequence[Any]], frame: int) -> list[SceneObject]:
    if not rows:
        return []
    # The map lives as long as one of the masks that are views of it.
    masks: NDArray[np.bool_] = np.asarray(np.memmap(path, np.bool_, "r"))
    found, begin = [], 0
    for row, col, height, width, score in rows:
        bounds = Window(row, col, height, width, frame)
        mask = masks[begin : begin + height * width].reshape(height, width)
        found.append(SceneObject(bounds, score=score, box=bounds.box, mask=mask))
        begin += height * width
    return found
