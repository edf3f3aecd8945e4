"""``domainsam photo``: the commands of the pack, each imported when it is called."""

from __future__ import annotations

import click

from domainsam_cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "segment": ("domainsam_photo.commands.segment:segment_command", "Objects marked in a picture."),
        "segment-everything": (
            "domainsam_photo.commands.segment:everything_command",
            "Everything that pictures show.",
        ),
        "find": ("domainsam_photo.commands.find:find_command", "What looks like an example, in pictures."),
        "semantic": (
            "domainsam_photo.commands.semantic:semantic_command",
            "Which of your words every place of pictures shows.",
        ),
        "refer": ("domainsam_photo.commands.refer:refer_command", "What words mean in a picture."),
        "label": ("domainsam_photo.commands.label:label_command", "Name what is marked in a picture."),
        "track": ("domainsam_photo.commands.track:track_command", "Objects followed through a film."),
        "evaluate": ("domainsam_photo.commands.evaluate:evaluate_command", "Score on labelled pictures."),
        "demo": ("domainsam_photo.commands.demo:demo", "Draw pictures; find and follow a ball."),
    },
)
def photo() -> None:
    """Photographs and films: objects marked, found by example, followed."""
