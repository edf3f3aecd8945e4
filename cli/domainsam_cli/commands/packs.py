"""``domainsam packs``: list installed domain packs."""

from __future__ import annotations

import json

import click

from domainsam.errors import DependencyError, PackError, absent_packages
from domainsam.packs import find_packs, load_pack
from domainsam_cli.console import echo
from domainsam_cli.options import json_option


@click.command()
@json_option
def packs(as_json: bool) -> None:
    """List the installed domain packs, what they do, and any that cannot be loaded.

    A pack is a Python package with an entry point in the group domainsam.packs.
    """
    rows = [describe(name) for name in find_packs()]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    if not rows:
        echo("no packs installed")
    for row in rows:
        echo(f"{row['name']:<12} {row['summary'] or '(broken) ' + str(row['error'])}")
        if row["labels"]:
            echo(f"{'':<12} classes: {', '.join(row['labels'])}; from {row['distribution']}")
        if absent := absent_packages(str(row["name"])):
            echo(f"{'':<12} needs {', '.join(absent)}: run pip install 'domainsam[{row['name']}]'")


def describe(name: str) -> dict[str, str | list[str] | None]:
    """One pack as plain values; ``error`` says why it cannot be loaded, or is None."""
    entry = find_packs()[name]
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    row: dict[str, str | list[str] | None] = {
        "name": name,
        "summary": None,
        "labels": [],
        "distribution": distribution,
        "module": entry.value,
        "error": None,
    }
    try:
        pack = load_pack(name)
        pack.load("commands")
    except (PackError, DependencyError) as error:
        return {**row, "error": str(error)}
    return {**row, "summary": pack.summary, "labels": list(pack.labels)}
