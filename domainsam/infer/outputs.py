"""Where the results of an input go: paths as given, in a folder, or with ``{stem}`` for its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from domainsam.errors import ConfigError
from domainsam.infer.workroom import count_units
from domainsam.staging import check_targets


class OutputPlan:
    """One input and every file that its run will write; packs add which files those are."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        """Whether every file is there already."""
        return all(path.is_file() for path in self.files)

    @property
    def begun(self) -> bool:
        """Whether any file is there already."""
        return any(path.exists() for path in self.files)

    @property
    def written(self) -> int:
        """Bytes of the files that are there; of those in an object store none."""
        return sum(path.stat().st_size for path in self.files if path.is_file())

    @property
    def work(self) -> Path:
        """Hidden folder beside the first file, for what an interrupted run leaves to go on with."""
        first = self.files[0]
        return first.with_name(f".{first.stem}.domainsam")

    def check(self, overwrite: bool, tried: set[Path] | None = None) -> None:
        """Refuse files that exist or cannot be written, before any work; ``tried`` as of the function.

        Raises
        ------
        OutputError
            If one exists and may not be replaced, or a folder cannot be written to.
        """
        check_targets(self.files, overwrite, tried)

    def may_replace(self, overwrite: bool, resume: bool) -> bool:
        """Whether files may be replaced: asked for, or some were put in place by the run to go on with."""
        return overwrite or (resume and count_units(self.work) > 0)


def safe_name(text: str, otherwise: str) -> str:
    """A file name for an input, safe on any system; ``otherwise`` where nothing of ``text`` is left."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("._") or otherwise


def without_ending(name: str, endings: Iterable[str]) -> str:
    """A file's name without the longest of some endings that it has, in whatever case."""
    fitting = [ending for ending in endings if name.lower().endswith(ending)]
    return name[: len(name) - max(map(len, fitting), default=0)]


def fill_stem(given: Path, name: str) -> Path:
    """A path with the input's name in the place of ``{stem}``."""
    return Path(str(given).replace("{stem}", name))


def resolve_output(given: Path, name: str, default: str) -> Path:
    """Where an output of an input goes.

    Parameters
    ----------
    given
        A file, a folder (one that exists, or a name without extension), or either with ``{stem}``.
    name
        The input's name, which takes the place of ``{stem}``.
    default
        What the file is called in a folder; may hold ``{stem}`` too.
    """
    path = fill_stem(given, name)
    if path.is_dir() or not path.suffix:
        return path / default.format(stem=name)
    return path


def check_suffix(file: Path, option: str, suffixes: tuple[str, ...]) -> None:
    """Refuse a file of another format than an option writes.

    Raises
    ------
    ConfigError
        If its name ends in none of ``suffixes``.
    """
    if file.suffix.lower() not in suffixes:
        raise ConfigError(f"--{option} '{file}' must end in {' or '.join(suffixes)}")
