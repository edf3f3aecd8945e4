"""Write output files so that they appear complete or not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from domainsam.errors import ConfigError, OutputError
from domainsam.private import Claim, sweep
from domainsam.remote import find_address


class Staging:
    """Files in the making, out of sight until all of them are done.

    Each file is made in a hidden folder inside its own target folder, hence on
    the same file system. Leaving the ``with`` block normally flushes every file
    to disk and renames it into place; leaving it by an exception removes them
    all, and any target folder that was created for them. Existing files stay
    untouched until the renames, which replace whole files.

    Parameters
    ----------
    targets
        Final paths. Folders that are missing are created.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    OutputError
        On entering, if a target exists and may not be replaced, is a folder or
        is named twice, or if a folder cannot be made or written to; on leaving,
        if a file cannot be put in place.
    """

    def __init__(self, targets: Iterable[Path | str], *, overwrite: bool = False) -> None:
        self.targets = tuple(Path(target) for target in targets)
        self.overwrite = overwrite
        self._staged: dict[Path, Path] = {}
        self._rooms: dict[Path, Claim] = {}
        self._made: list[Path] = []

    def __enter__(self) -> Staging:
        self._check()
        try:
            for target in self.targets:
                self._staged[target] = self._room(target.parent) / target.name
        except OSError as error:
            self._clear(failed=True)
            raise OutputError(
                f"cannot write to folder '{target.parent}' ({error.strerror or error}): "
                "check its permissions, or choose another folder"
            ) from error
        return self

    def __getitem__(self, target: Path | str) -> Path:
        """Where to write what will become ``target``."""
        return self._staged[Path(target)]

    def leave_out(self, target: Path | str) -> None:
        """Do without a target: what was written of it goes, and the others appear all the same."""
        self._staged.pop(Path(target)).unlink(missing_ok=True)
        self.targets = tuple(other for other in self.targets if other != Path(target))

    def write_text(self, target: Path | str, text: str) -> None:
        """Write the whole of a UTF-8 text output.

        Raises
        ------
        OutputError
            If the disk refuses it.
        """
        self.write_bytes(target, text.encode())

    def write_bytes(self, target: Path | str, content: bytes) -> None:
        """Write the whole of an output.

        Raises
        ------
        OutputError
            If the disk refuses it.
        """
        self.write_with(target, lambda path: path.write_bytes(content))

    def write_with(self, target: Path | str, write: Callable[[Path], object]) -> None:
        """Have an output written by a function, which is given the path to write to.

        Raises
        ------
        OutputError
            If the disk refuses it.
        """
        try:
            write(self[target])
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"cannot write '{target}' ({reason}): free some space, or choose another folder"
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._publish()
        except BaseException:
            kind = BaseException
            raise
        finally:
            self._clear(failed=kind is not None)

    def _check(self) -> None:
        if len({target.absolute() for target in self.targets}) < len(self.targets):
            raise OutputError(
                f"an output is named twice among {[str(t) for t in self.targets]}: name each once"
            )
        for target in self.targets:
            if target.is_dir():
                raise OutputError(f"output '{target}' is a folder: name a file in it")
            if target.exists() and not self.overwrite:
                raise OutputError(
                    f"output '{target}' exists: choose another name, or allow it with --overwrite"
                )

    def _room(self, folder: Path) -> Path:
        if folder not in self._rooms:
            missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            for parent in reversed(missing):
                parent.mkdir()
                self._made.append(parent)
            # What a killed run left half made in this place.
            sweep(folder)
            self._rooms[folder] = Claim(folder)
        return self._rooms[folder].path

    def _publish(self) -> None:
        try:
            for staged in self._staged.values():
                _flush(staged)
            self._check()
            for target, staged in self._staged.items():
                staged.replace(target)
            for folder in self._rooms:
                _flush(folder)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot finish '{error.filename or self.targets[0]}' ({error.strerror or error}): "
                "free some space or choose another folder"
            ) from error

    def _clear(self, *, failed: bool) -> None:
        for room in self._rooms.values():
            room.remove()
        if failed:
            for folder in reversed(self._made):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def check_targets(targets: Iterable[Path], overwrite: bool, tried: set[Path] | None = None) -> None:
    """Refuse outputs that exist or cannot be written, before any work is done for them.

    Parameters
    ----------
    tried
        Folders that were found fit for writing, to which those of the targets are added: of ten thousand
        outputs in one folder the first tries it.

    Raises
    ------
    OutputError
        If a file exists and may not be replaced, or a folder cannot be written to.
    """
    targets = tuple(targets)
    for path in targets:
        if find_address(path) is not None:
            raise OutputError(
                f"output '{find_address(path)}' is in an object store, to which 'urban map' alone writes: "
                "name a folder, and copy it there"
            )
        if path.is_dir():
            raise OutputError(f"output '{path}' is a folder: name a file in it")
        if path.exists() and not overwrite:
            raise OutputError(f"output '{path}' exists: choose another name, or allow it with --overwrite")
    tried = set() if tried is None else tried
    for folder in {path.parent for path in targets} - tried:
        _try_folder(folder)
        tried.add(folder)


def check_apart(targets: Iterable[Path], inputs: Iterable[Path], what: str) -> None:
    """Refuse outputs of several inputs that would share a file, or replace an input.

    Parameters
    ----------
    what
        What the inputs are, in the plural: ``"scenes"``.

    Raises
    ------
    ConfigError
        If two outputs are one file.
    OutputError
        If an output is one of the inputs.
    """
    counts = Counter(path.absolute() for path in targets)
    for path, times in counts.most_common(1):
        if times > 1:
            raise ConfigError(
                f"'{path}' would be written {times} times: give a folder, or put {{stem}} into the name "
                f"({what} of one name in several folders need separate runs)"
            )
    given = {path.resolve() for path in inputs}
    for path in counts:
        if path.resolve() in given:
            raise OutputError(f"output '{path}' is one of the {what}: choose another name")


def make_scratch(path: Path) -> Claim:
    """A new hidden folder beside a file in the making; the caller removes it.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        sweep(path.parent, f".{path.name}.")
        return Claim(path.parent, f".{path.name}.")
    except OSError as error:
        raise OutputError(
            f"cannot write to folder {path.parent}: {error.strerror}; choose a folder you may write to"
        ) from error


@contextmanager
def open_scratch(path: Path) -> Iterator[Path]:
    """The folder of :func:`make_scratch`, which goes away whatever happens."""
    with make_scratch(path) as room:
        yield room


def move_into_place(made: Path, path: Path) -> None:
    """Rename a finished file once its bytes are on the disk, then make the name durable."""
    _flush(made)
    made.replace(path)
    _flush(path.parent)


def _try_folder(folder: Path) -> None:
    """Make and remove a trial folder in the nearest folder that exists."""
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        sweep(nearest)
        with Claim(nearest):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to folder '{nearest}' ({error.strerror or error}): "
            "check its permissions, or choose another folder"
        ) from error


def _flush(path: Path) -> None:
    """Have the kernel put a file or folder on the disk; Windows cannot open folders and need not."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
