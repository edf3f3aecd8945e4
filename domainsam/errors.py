"""Every error that domainsam raises on purpose.

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
130  interrupted by Ctrl-C
==== =============================================================
"""

from __future__ import annotations

import errno


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


class DependencyError(DomainSamError, ImportError):
    """An optional package is not installed; the message names the extra."""

    exit_code = 3


class PackError(DomainSamError, LookupError):
    """A domain pack is unknown, broken, or two packs share one name."""

    exit_code = 3


class OutputError(DomainSamError, OSError):
    """An output cannot be written, or would overwrite a file without permission."""

    exit_code = 4


def explain(error: BaseException) -> tuple[str, int]:
    """One line and the exit code for any exception."""
    if isinstance(error, DomainSamError):
        # An OSError subclass made from several arguments prints an errno; ours carry one sentence.
        return one_line(error), error.exit_code
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory: try a smaller --tile or --batch-size", OutputError.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}: free some space and run again", OutputError.exit_code
    return f"unforeseen {type(error).__name__}: {one_line(error)}", 1


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
