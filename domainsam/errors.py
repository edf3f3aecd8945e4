"""Error classes of domainsam, with an exit code each.

Each class is also the built-in exception that fits it, so that a caller may
catch either. A message is one line: what was given, what was expected, and
what to do about it. The command line prints that line and exits with the
class's ``exit_code``; the codes are part of the public interface:

==== =============================================================
code meaning
==== =============================================================
0    success
1    an unforeseen failure, or some of several inputs failed
2    wrong usage or bad input (also click's own code for usage)
3    a model, weight file or optional package is missing or unfit
4    an output could not be written
129  ended by SIGHUP
130  interrupted by Ctrl-C
141  whoever read the output has gone
143  ended by SIGTERM
==== =============================================================
"""

from __future__ import annotations

import errno
import re
from pathlib import Path


class DomainSamError(Exception):
    """Root of all errors raised on purpose; its text is one line for a person."""

    exit_code = 1


class InputError(DomainSamError, ValueError):
    """The user's data cannot be used as given."""

    exit_code = 2


class MissingInputError(InputError, FileNotFoundError):
    """An input path does not exist or cannot be opened."""


class ConfigError(DomainSamError, ValueError):
    """A configuration file or option has an unknown key or an impossible value."""

    exit_code = 2


class CheckpointError(DomainSamError, ValueError):
    """A model file is damaged, unsafe, or does not fit what it is used with."""

    exit_code = 3


class WeightsError(DomainSamError, FileNotFoundError):
    """Published weights are absent or their checksum is wrong."""

    exit_code = 3


class EndpointError(DomainSamError, ConnectionError):
    """A server that stands for a model is down, slow, or answers something else than it should."""

    exit_code = 3


class DependencyError(DomainSamError, ImportError):
    """An optional package is not installed; the message names the extra."""

    exit_code = 3


class PackError(DomainSamError, LookupError):
    """A domain pack is unknown, broken, or two packs share one name."""

    exit_code = 3


class OutputError(DomainSamError, OSError):
    """An output cannot be written, or would overwrite a file without permission."""

    exit_code = 4


PROJECT = "domainsam"
UMBRELLAS = ("all", "dev", "docs")
"""Extras that hold others, or nothing that the library imports."""
MODULES = {"PIL": "pillow"}
"""Modules whose package has another name, beyond case and hyphens."""


def extras() -> dict[str, tuple[str, ...]]:
    """Packages of every extra, from the metadata of the installed project; empty without any."""
    from importlib.metadata import PackageNotFoundError, requires

    found: dict[str, list[str]] = {}
    try:
        lines = requires(PROJECT) or []
    except PackageNotFoundError:
        lines = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name and extra and name.group() != PROJECT:
            found.setdefault(extra.group(1), []).append(name.group())
    return {extra: tuple(names) for extra, names in found.items()}


def absent_packages(extra: str) -> tuple[str, ...]:
    """Packages of an extra that are not installed."""
    from importlib.metadata import PackageNotFoundError, version

    absent = []
    for name in extras().get(extra, ()):
        try:
            version(name)
        except PackageNotFoundError:
            absent.append(name)
    return tuple(absent)


def missing_extra(error: BaseException) -> DependencyError | None:
    """The error that names the extra to install, if ``error`` is a missing package that an extra has.

    Of several extras it is that of the pack whose code asked for the package.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.partition(".")[0]
    package = _plain_name(MODULES.get(module, module))
    offering = [
        extra
        for extra, names in extras().items()
        if extra not in UMBRELLAS and package in map(_plain_name, names)
    ]
    if not offering:
        return None
    asking = (name for name in _packages_of(error) if name in offering)
    extra = next(asking, offering[0])
    return DependencyError(f"{module} is not installed: run pip install '{PROJECT}[{extra}]'")


def _plain_name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _packages_of(error: BaseException) -> list[str]:
    """Names of packages whose code the error passed through, ``domainsam_ct`` as ``ct``, outermost first."""
    names, trace = [], error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        names.append(module.partition(".")[0].removeprefix(f"{PROJECT}_"))
        trace = trace.tb_next
    return names


def explain(error: BaseException) -> tuple[str, int]:
    """One line and the exit code for any exception."""
    error = missing_extra(error) or error
    if isinstance(error, DomainSamError):
        # An OSError subclass made from several arguments prints an errno; ours carry one sentence.
        return one_line(error), error.exit_code
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory: try a smaller --tile or --batch-size", OutputError.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}: free some space and run again", OutputError.exit_code
    if isinstance(error, FileNotFoundError) and error.filename and _lost_its_folder(str(error.filename)):
        return (
            f"'{error.filename}' is gone: its folder was removed or renamed during the run; run again",
            OutputError.exit_code,
        )
    return f"unforeseen {type(error).__name__}: {one_line(error)}", 1


def _lost_its_folder(name: str) -> bool:
    """Whether not even the folder of a file is there: inputs that are absent are told of long before."""
    return not Path(name).absolute().parent.is_dir()


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
