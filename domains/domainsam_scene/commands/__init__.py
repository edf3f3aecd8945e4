"""``domainsam scene``: the commands of the pack, each imported when it is called."""

from __future__ import annotations

import click

from domainsam_cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "segment": ("domainsam_scene.commands.segment:segment_command", "One map from all sensors."),
        "train": ("domainsam_scene.commands.train:train", "Train a model on your own sensors."),
        "demo": ("domainsam_scene.commands.demo:demo", "Draw scenes and segment them."),
        "evaluate": (
            "domainsam_scene.commands.evaluate:evaluate",
            "Score a model, also with sensors missing.",
        ),
    },
)
def scene() -> None:
    """Scenes seen by several sensors: one semantic map."""
