"""Hidden work folder beside an output, in which a run stages its files; nobody else may look into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from domainsam.errors import ConfigError, InputError, OutputError
from domainsam.infer.journal import JOURNAL_FILE
from domainsam.limits import format_bytes
from domainsam.private import make_private_folder, open_privately, sweep

try:
    import fcntl
except ImportError:  # Windows: two runs on one output are then the user's own care
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "lock"
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
STAGED_FILE = "staged"
"""Lists the hidden folders of half-made outputs, which ``kill -9`` leaves and the next run removes."""


class TakenError(OutputError):
    """Another run is at work on the same output; it may soon be done."""


class WorkRoom:
    """A folder that belongs to one run at a time.

    Leaving the ``with`` block normally removes it. Leaving by an exception
    keeps it only if there is something to go on with: units of work in its
    journal, and a reason that a second try may cure. Bad input is none; a full
    disk, Ctrl-C and lack of memory are.

    Parameters
    ----------
    folder
        Where; made with its parents if need be.
    resume
        Whether what an earlier run left there is wanted. It is then kept
        whatever happens, until a run succeeds.
    keep_on_bad_input
        Whether bad input too leaves finished work behind: for runs over many
        inputs, one of which may be mended.

    Raises
    ------
    OutputError
        On entering, if the folder cannot be made, is a link or another user's, or another run holds it.
    """

    def __init__(self, folder: Path, resume: bool, keep_on_bad_input: bool = False) -> None:
        self.folder = folder
        self._hopeless = () if keep_on_bad_input else (InputError, ConfigError)
        self._lock: IO[bytes] | None = None
        self._made: list[Path] = []
        self._inherited = resume and count_units(folder) > 0

    def __enter__(self) -> Self:
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            make_private_folder(self.folder)
            self._lock = os.fdopen(open_privately(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT), "wb")
        except OutputError:
            raise
        except OSError as error:
            self._remove_made()
            raise OutputError(
                f"cannot write to folder '{self.folder.parent}' ({error.strerror or error}): "
                "check its permissions, or choose another folder"
            ) from error
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._lock.close()
                raise TakenError(
                    f"another run is at work in '{self.folder}': wait for it, or choose another output"
                ) from error
        self._clear_staged()
        return self

    def note_staged(self, folders: Iterable[Path]) -> None:
        """Remember the folders in which outputs are about to be made."""
        lines = "".join(f"{folder.absolute()}\n" for folder in folders)
        with os.fdopen(open_privately(self.folder / STAGED_FILE, NEW), "w", encoding="utf-8") as file:
            file.write(lines)

    def _clear_staged(self) -> None:
        """Remove what a killed run left half made; its folders had names that only staging gives."""
        try:
            with os.fdopen(open_privately(self.folder / STAGED_FILE, os.O_RDONLY), encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for parent in {Path(line).parent for line in lines}:
            sweep(parent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
        if kind is None or not self._worth_keeping(kind):
            shutil.rmtree(self.folder, ignore_errors=True)
        if kind is not None:
            self._remove_made()

    def _worth_keeping(self, kind: type[BaseException]) -> bool:
        if self._inherited:
            return True
        return not issubclass(kind, self._hopeless) and count_units(self.folder) > 0

    def _remove_made(self) -> None:
        """Remove folders that this run made, as far as they are empty."""
        for path in self._made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def tidy_room(folder: Path) -> None:
    """Remove what a run left that was killed after its last file was in place; a run at work keeps it."""
    if folder.is_dir():
        with suppress(TakenError), WorkRoom(folder, resume=False):
            pass


def count_units(folder: Path) -> int:
    """How many units of work the journal in a folder holds, and pieces that workers have done of it."""
    # Of each, a record that is complete when it appears.
    pieces = sum(1 for _ in folder.glob("pieces-*/*.json"))
    try:
        # The journal's first line is the run's fingerprint.
        return max(0, (folder / JOURNAL_FILE).read_bytes().count(b"\n") - 1) + pieces
    except OSError:
        return 0


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    OutputError
        If fewer than ``needed`` bytes are free where ``folder`` is or will be.
    """
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise OutputError(
            f"disk of '{nearest}' has {format_bytes(free)} free, {purpose} needs about "
            f"{format_bytes(needed)}: free some space or choose another folder"
        )
