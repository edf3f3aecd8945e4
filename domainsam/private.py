"""Files and folders where others may write too: never through a link, never another's, never open to all.

A run's work room lies beside its output, often in a shared folder. Whoever may
write there could put a link in the place of a file that the run is about to
open, and have it overwrite what the user may write elsewhere.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from domainsam.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: claims are then never told from what a killed run left, which stays
    fcntl = None  # type: ignore[assignment]

LOCKS: bool = fcntl is not None
"""Whether the system has locks that end with their process."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
AT_ONCE = getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe for reading would else wait for somebody who writes; files are read as ever."""
FILE_MODE, FOLDER_MODE = 0o600, 0o700
MARK, END = ".domainsam-", ".part"
"""How folders begin and end in which outputs are made out of sight."""


def open_privately(path: Path, flags: int) -> int:
    """A descriptor of a file of one's own, made if ``flags`` say so; the caller closes it.

    A link in its place is not followed, and neither is a file used that is
    another user's, is no plain file, or has a second name elsewhere.

    Parameters
    ----------
    flags
        As of :func:`os.open`; ``O_TRUNC`` takes effect only once the file was found to be one's own.

    Raises
    ------
    OutputError
        If the file is not one's own alone.
    OSError
        If the system refuses.
    """
    try:
        descriptor = os.open(path, (flags & ~os.O_TRUNC) | NO_LINK | AT_ONCE, FILE_MODE)
    except OSError:
        if path.is_symlink():
            raise _strange(path, "is a link") from None
        raise
    try:
        _require_own(path, os.fstat(descriptor))
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; one that is there must be one's own and no link.

    Raises
    ------
    OutputError
        If it is a link, or another's.
    OSError
        If the system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            raise _strange(path, "is a link") from None
        if not stat.S_ISDIR(facts.st_mode):
            raise
        if os.name != "nt" and facts.st_uid != os.geteuid():
            raise _strange(path, "belongs to another user") from None
        if stat.S_IMODE(facts.st_mode) & 0o077:
            path.chmod(FOLDER_MODE)


def _require_own(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise _strange(path, "is no plain file")
    if os.name != "nt" and (facts.st_uid != os.geteuid() or facts.st_nlink > 1):
        raise _strange(path, "belongs to another user or has a second name")


def _strange(path: Path, why: str) -> OutputError:
    return OutputError(
        f"'{path}' {why}, so that work files are not written there: remove it, or choose an output in a "
        "folder of your own"
    )


class Claim:
    """A new hidden folder that no other run removes while this object lives.

    The folder is locked, not the process remembered: a lock ends with its
    process, however that ends. :func:`sweep` removes folders whose lock is free.

    Parameters
    ----------
    parent
        Where.
    prefix
        First letters of its name, :data:`MARK` by default.

    Raises
    ------
    OSError
        If it cannot be made.
    """

    def __init__(self, parent: Path, prefix: str = MARK) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, suffix=END, dir=parent))
            # Another run may be sweeping it away between its making and its locking: wait for it and see.
            self._descriptor = _lock(self.path, wait=True)
            if self.path.exists() and (self._descriptor is None or _is_same(self._descriptor, self.path)):
                return
            self.release()

    def release(self) -> None:
        """Give up the folder, which stays; whoever sweeps may then remove it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.remove()


def sweep(parent: Path, prefix: str = MARK) -> None:
    """Remove hidden folders in ``parent`` that runs left which were killed; those at work keep theirs."""
    if not LOCKS:
        return
    with suppress(OSError):
        for path in parent.glob(f"{glob.escape(prefix)}*{END}"):
            _sweep_one(path)


def _sweep_one(path: Path) -> None:
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        return
    descriptor = _lock(path)
    if descriptor is None:
        return
    try:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _lock(path: Path, wait: bool = False) -> int | None:
    """A descriptor that holds the lock of a folder; None where it is held (without ``wait``) or cannot be."""
    if not LOCKS:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_LINK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def hold(descriptor: int) -> None:
    """Wait until no other process holds a file, and hold it until it is closed, where there are locks."""
    if LOCKS:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False
