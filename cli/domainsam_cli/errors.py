"""Print failures as one line and return the exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click

from domainsam.errors import DomainSamError, explain
from domainsam.licences import forget_told
from domainsam.limits import limited
from domainsam.names import lift_veils
from domainsam.network import lock_process
from domainsam.progress import show_progress
from domainsam_cli.console import ReaderGoneError, echo, show_pixel_progress

ENDINGS = ("SIGTERM", "SIGHUP")
"""Signals that end a run as Ctrl-C does: with a line, and after it has put its things away."""
NO_READER = 141
"""128 + SIGPIPE: whoever read the output has gone."""
TORCH_LEVEL = "TORCH_CPP_LOG_LEVEL"
"""Variable that torch reads once, when it is imported: what its C++ parts print, past Python's warnings."""


@dataclass
class RunState:
    """What a command learns while parsing that the error handler needs afterwards."""

    verbose: bool = False
    resumable: bool = False


def mark_resumable(ctx: click.Context) -> None:
    """Have an interruption say that ``--resume`` goes on with the run."""
    state = ctx.find_object(RunState)
    if state is not None:
        state.resumable = True


def run_guarded(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a command; print every failure as one line on stderr; return the exit code."""
    state = RunState()
    lift_veils()
    forget_told()
    if "--allow-network" not in (sys.argv if arguments is None else arguments):
        lock_process()
    with quiet_libraries(), show_progress(show_pixel_progress), limited(), ending_by_signals():
        try:
            result = command.main(
                args=None if arguments is None else list(arguments),
                prog_name="domainsam",
                standalone_mode=False,
                obj=state,
            )
            flush_output()
        # SystemExit passes: it is somebody's deliberate exit code.
        except (Exception, KeyboardInterrupt) as error:
            return report(error, state)
    return result if isinstance(result, int) else 0


def report(error: BaseException, state: RunState) -> int:
    """Print one line about a failure, or a traceback with ``--verbose``, and return its exit code."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        ended = error if isinstance(error, EndedError) else error.__cause__
        number = ended.number if isinstance(ended, EndedError) else signal.SIGINT
        hint = "; run the same command with --resume to go on" if state.resumable else ""
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        return say(f"interrupted{by}{hint}", SIGNALLED + number)
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, ReaderGoneError | BrokenPipeError):
        drop_output()
        return say("whoever read the output has gone; files that were finished are kept", NO_READER)
    if isinstance(error, UnprintableError):
        drop_output()
        return say(f"the result cannot be printed ({error}); files that were finished are kept", 4)
    if state.verbose:
        echo("".join(traceback.format_exception(error)), err=True, nl=False)
    line, code = explain(error)
    if isinstance(error, DomainSamError) or state.verbose or code != 1:
        return say(line, code)
    return say(f"{line}; run with --verbose for the trace", code)


def say(line: str, code: int) -> int:
    """Print ``domainsam: line`` on stderr, if there is one, and return ``code``."""
    with suppress(OSError, ReaderGoneError):
        echo(f"domainsam: {line}", err=True)
    return code


SIGNALLED = 128
"""What shells add to the number of the signal that ended a command."""


class EndedError(KeyboardInterrupt):
    """A signal asked the run to end; handled wherever Ctrl-C is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class UnprintableError(Exception):
    """What was printed cannot be written: a full disk behind ``>``, for instance."""


@contextmanager
def ending_by_signals() -> Iterator[None]:
    """Raise :class:`EndedError` for signals of :data:`ENDINGS`; a second one ends the process at once.

    What is ignored stays so: ``nohup`` means it.
    """
    before: dict[int, Any] = {}

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise EndedError(number)

    for name in ENDINGS:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) == signal.SIG_IGN:
            continue
        # Only the main thread may set handlers.
        with suppress(ValueError):
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def flush_output() -> None:
    """Have what was printed written now, while a failure can still be told.

    Raises
    ------
    BrokenPipeError
        If whoever read it has gone.
    UnprintableError
        If the system refuses it.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnprintableError(error.strerror or str(error)) from error


def drop_output() -> None:
    """Send what is left to be printed nowhere, so that Python does not complain again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StderrLines(logging.Handler):
    """Log records as lines on stderr: ours always, those of libraries when they are asked for."""

    everything = False

    def filter(self, record: logging.LogRecord) -> bool:
        return self.everything or record.name.startswith("domainsam")

    def emit(self, record: logging.LogRecord) -> None:
        echo(f"domainsam: {record.levelname.lower()}: {record.getMessage().strip()}", err=True)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show our own warnings as lines; hide those of libraries until :func:`speak_up`."""
    root, handler = logging.getLogger(), StderrLines()
    level, torch_level = root.level, os.environ.get(TORCH_LEVEL)
    os.environ.setdefault(TORCH_LEVEL, "ERROR")
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)
        if torch_level is None:
            del os.environ[TORCH_LEVEL]
        else:
            os.environ[TORCH_LEVEL] = torch_level


def speak_up() -> None:
    """Let warnings and log lines of libraries through."""
    warnings.simplefilter("default")
    logging.captureWarnings(True)
    os.environ[TORCH_LEVEL] = "WARNING"
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in root.handlers:
        if isinstance(handler, StderrLines):
            handler.everything = True
