"""``domainsam foundations``: the generalists there are, how well and how fast they do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from domainsam.errors import WeightsError
from domainsam.foundation import DEFAULT
from domainsam.foundations import FoundationSpec, find_foundations
from domainsam.weights import find_weights
from domainsam_cli.console import align_rows, echo
from domainsam_cli.options import json_option

HIDDEN = ("fake",)
"""Rows for tests only."""
HEAD = ("name", "encoder M", "GMACs", "prompts", "file", "licence", "input")


@click.group()
def foundations() -> None:
    r"""Frozen generalists: what each costs, takes and understands.

    \b
    Examples:
      domainsam foundations list
      domainsam foundations list --json
    """


@foundations.command("list")
@json_option
def list_foundations(as_json: bool) -> None:
    """Known foundations: size and cost of the encoder, prompts, licence, and whether the file is here.

    Any of them is --foundation NAME of a pack's command. GMACs are for one
    image of the encoder's own size.
    """
    rows = [describe(row) for name, row in find_foundations().items() if name not in HIDDEN]
    if as_json:
        echo(json.dumps({"foundations": rows}, indent=2))
        return
    for line in align_rows([HEAD, *map(_cells, rows)]):
        echo(line)
    for line in _explain(rows):
        echo(line)


def describe(row: FoundationSpec) -> dict[str, Any]:
    """One foundation as values that JSON can hold."""
    file = row.weights
    return {
        "name": row.name,
        "default": row.name == DEFAULT,
        "encoder_million_parameters": row.parameters,
        "encoder_gmacs": row.gmacs,
        "input": row.input,
        "prompts": list(row.prompts),
        "licence": row.licence,
        "notice": row.notice,
        "file": None if file is None else file.file,
        "megabytes": None if file is None else file.megabytes,
        "url": None if file is None else file.url or None,
        "sha256": None if file is None else file.sha256,
        "included": file is None,
        "path": None if file is None else _place(row.name),
    }


def _place(name: str) -> str | None:
    try:
        return str(find_weights(name))
    except WeightsError:
        return None


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    return (
        row["name"],
        "" if row["encoder_million_parameters"] is None else f"{row['encoder_million_parameters']:.1f}",
        "" if row["encoder_gmacs"] is None else f"{row['encoder_gmacs']:.1f}",
        ", ".join(row["prompts"]) if len(row["prompts"]) < len(ALL_PROMPTS) else "all",
        _file(row),
        row["licence"],
        row["input"],
    )


ALL_PROMPTS = FoundationSpec.prompts


def _file(row: Mapping[str, Any]) -> str:
    if row["included"]:
        return "included"
    if row["path"] is not None:
        return "here"
    return f"{row['megabytes']} MB" if row["url"] else "your own"


def _explain(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield f"prompts: all are {', '.join(ALL_PROMPTS)}; what one does not understand is refused or told."
    absent = [row["name"] for row in rows if row["path"] is None and row["url"]]
    if absent:
        yield f"A file that is not here: domainsam weights fetch NAME (for instance {absent[0]})."
