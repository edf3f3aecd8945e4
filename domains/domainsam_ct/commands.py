"""``domainsam ct``: the commands of the pack, each imported when it is called."""

from __future__ import annotations

import click

from domainsam_cli.lazy import LazyGroup


@click.group(cls=LazyGroup, lazy={})
def ct() -> None:
    """Organs in abdominal CT: masks, volumes, reports."""
