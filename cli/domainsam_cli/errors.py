"""Print failures as one line and return the exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click

from domainsam.errors import DomainSamError, explain
from domainsam.progress import show_progress
from domainsam_cli.console import echo, show_pixel_progress

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""
TORCH_LEVEL = "TORCH_CPP_LOG_LEVEL"
"""Variable that torch reads once, when it is imported: what its C++ parts print, past Python's warnings."""


@dataclass
class RunState:
    """What a command learns while parsing that the error handler needs afterwards."""

    verbose: bool = False
    resumable: bool = False


def run_guarded(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a command; print every failure as one line on stderr; return the exit code."""
    state = RunState()
    with quiet_libraries(), show_progress(show_pixel_progress):
        try:
            result = command.main(
                args=None if arguments is None else list(arguments),
                prog_name="domainsam",
                standalone_mode=False,
                obj=state,
            )
        # SystemExit passes: it is somebody's deliberate exit code.
        except (Exception, KeyboardInterrupt) as error:
            return report(error, state)
    return result if isinstance(result, int) else 0


def report(error: BaseException, state: RunState) -> int:
    """Print one line about a failure, or a traceback with ``--verbose``, and return its exit code."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        hint = "; run the same command with --resume to go on" if state.resumable else ""
        return say(f"interrupted{hint}", INTERRUPTED)
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # The reader of a pipe has gone; stop Python from complaining again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if state.verbose:
        echo("".join(traceback.format_exception(error)), err=True, nl=False)
    line, code = explain(error)
    if isinstance(error, DomainSamError) or state.verbose or code != 1:
        return say(line, code)
    return say(f"{line}; run with --verbose for the trace", code)


def say(line: str, code: int) -> int:
    """Print ``domainsam: line`` on stderr and return ``code``."""
    echo(f"domainsam: {line}", err=True)
    return code


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
