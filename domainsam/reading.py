"""The boundary of every reader: whatever a library raises becomes one line with the file's name.

Files are damaged, cut short or hostile in more ways than their libraries
foresee. Each reader of a format stands behind :func:`reading` or
:func:`reads`, so that no failure of a library passes as one of the program.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from domainsam.errors import ConfigError, DomainSamError, InputError, MissingInputError, one_line
from domainsam.names import show

Rest = ParamSpec("Rest")
Result = TypeVar("Result")
Source = TypeVar("Source")
Owner = TypeVar("Owner")

OURS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
"""Errors of the system that say nothing of the file: full disks, too many open files."""
REASON_LENGTH = 160


@contextmanager
def reading(name: object, what: str, kind: type[InputError | ConfigError] = InputError) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one line that names it.

    Our own errors pass, and so do missing packages and what the system says of
    itself (:data:`OURS`).

    Parameters
    ----------
    name
        The file as the user knows it.
    what
        What it was to be read as: ``"a CT"``.
    kind
        Class of the error.

    Raises
    ------
    MissingInputError
        If the system does not let it be read.
    InputError
        Or ``kind``, if its content cannot be read.
    """
    try:
        yield
    except (DomainSamError, ImportError):
        raise
    except MemoryError as error:
        raise kind(
            f"{name}: takes more memory than there is when it is read as {what}: give a smaller part of it, "
            "or check whether its header tells the truth"
        ) from error
    except RecursionError as error:
        raise kind(f"{name}: is nested too deeply for {what}; export it again") from error
    except FileNotFoundError as error:
        raise MissingInputError(f"{name}: no such file; check the path") from error
    except (PermissionError, IsADirectoryError) as error:
        raise MissingInputError(
            f"{name}: cannot be read ({error.strerror or one_line(error)}); check path and permissions"
        ) from error
    except OSError as error:
        if error.errno in OURS:
            raise
        raise kind(_damage(name, what, error)) from error
    except Exception as error:
        raise kind(_damage(name, what, error)) from error


def reads(
    what: str, kind: type[InputError | ConfigError] = InputError
) -> Callable[[Callable[Concatenate[Source, Rest], Result]], Callable[Concatenate[Source, Rest], Result]]:
    """Decorate a reader whose first parameter is the file: :func:`reading` around every call."""

    def decorate(
        reader: Callable[Concatenate[Source, Rest], Result],
    ) -> Callable[Concatenate[Source, Rest], Result]:
        @wraps(reader)
        def guarded(source: Source, /, *arguments: Rest.args, **keywords: Rest.kwargs) -> Result:
            with reading(source, what, kind):
                return reader(source, *arguments, **keywords)

        return guarded

    return decorate


def reads_by(
    what: str,
) -> Callable[
    [Callable[Concatenate[Owner, Source, Rest], Result]], Callable[Concatenate[Owner, Source, Rest], Result]
]:
    """Decorate a method whose first parameter after ``self`` is the file, as :func:`reads` does functions."""

    def decorate(
        reader: Callable[Concatenate[Owner, Source, Rest], Result],
    ) -> Callable[Concatenate[Owner, Source, Rest], Result]:
        @wraps(reader)
        def guarded(self: Owner, source: Source, /, *arguments: Rest.args, **keywords: Rest.kwargs) -> Result:
            with reading(source, what):
                return reader(self, source, *arguments, **keywords)

        return guarded

    return decorate


def give_reason(error: BaseException) -> str:
    """A library's own words, short and on one line; the kind of error where it says nothing."""
    return show(one_line(error))[:REASON_LENGTH]


def _damage(name: object, what: str, error: BaseException) -> str:
    reason = give_reason(error)
    return (
        f"{name}: cannot be read as {what} ({reason}): damaged, cut short or of another form; "
        "copy or export it again"
    )
