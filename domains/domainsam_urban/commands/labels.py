"""Options that say which features of label files are settlements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from domainsam_urban.read.layers import Choice


def choice_options(command: Any) -> Any:
    """Add the options that choose among a label file's features."""
    for option in (
        click.option("--class-value", help="Classes that are settlement, as a,b [default: every feature]."),
        click.option("--class-field", help="Column of classes [default: class, label, type or the like]."),
        click.option(
            "--layer", help="Layer of label files that have several [default: settlements, else the first]."
        ),
    ):
        command = option(command)
    return command


def gather_choice(given: dict[str, Any]) -> Choice:
    """The choice that options make."""
    from domainsam_urban.read.layers import Choice

    values = given["class_value"]
    words = () if values is None else tuple(word.strip() for word in values.split(",") if word.strip())
    return Choice(given["layer"], given["class_field"], words)
