"""What a command says at its end: JSON for a program, lines for a person, or nothing."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click


def answer(
    given: Mapping[str, Any],
    document: Callable[[], Any],
    lines: Iterable[str],
    notes: Sequence[str] = (),
) -> None:
    """Print a result as ``--json`` and ``--quiet`` ask for it.

    Parameters
    ----------
    given
        The command's options, ``as_json`` and ``quiet`` among them.
    document
        Gives the whole result as values that JSON can hold.
    lines
        The result for a person, on stdout.
    notes
        What a person ought to know besides, on stderr.
    """
    if given["as_json"]:
        click.echo(json.dumps(document(), indent=2))
    elif not given["quiet"]:
        for note in notes:
            click.echo(f"domainsam: note: {note}", err=True)
        for line in lines:
            click.echo(line)


def path_lines(paths: Mapping[str, Path]) -> Iterator[str]:
    """A line for each output: its kind and where it is."""
    width = max([12, *map(len, paths)])
    for kind, path in paths.items():
        yield f"  {kind:<{width}} {path}"


def command_line() -> str:
    """The command that is running, as outputs tell it.

    Without ``--resume``: a resumed run ends in the same bytes as an unbroken one.
    """
    words = (word for word in sys.argv[1:] if word != "--resume")
    return shlex.join([Path(sys.argv[0]).name, *words])
