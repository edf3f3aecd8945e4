"""``domainsam urban``: the commands of the pack, each imported when it is called."""

from __future__ import annotations

import click

from domainsam_cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "map": ("domainsam_urban.commands.map:map_command", "Find settlements in scenes, as polygons."),
        "find": (
            "domainsam_urban.commands.find:find_command",
            "Find in scenes what looks like an example, or what words say.",
        ),
        "segment-everything": (
            "domainsam_urban.commands.everything:everything_command",
            "Outline everything that scenes show.",
        ),
        "ask": (
            "domainsam_urban.commands.ask:ask_command",
            "Ask a language model what in a scene a phrase means.",
        ),
        "label": ("domainsam_urban.commands.label:label_command", "Name outlines of any tool by words."),
        "train": ("domainsam_urban.commands.train:train", "Train the settlement model on your own labels."),
        "train-classifier": (
            "domainsam_urban.commands.train_classifier:train_classifier",
            "Train the classifier that passes over ground without settlement.",
        ),
        "evaluate": ("domainsam_urban.commands.evaluate:evaluate", "Compare a model with labels."),
        "sample": (
            "domainsam_urban.commands.sample:sample",
            "Draw the reference sample for an estimate of area or change.",
        ),
        "change": ("domainsam_urban.commands.change:change", "Tell what changed between two scenes."),
        "follow": (
            "domainsam_urban.commands.follow:follow_command",
            "Follow outlines of one year through the others.",
        ),
        "trend": ("domainsam_urban.commands.trend:trend", "Tell how settlements change over the years."),
    },
)
def urban() -> None:
    """Informal settlements from satellite scenes: polygons, areas, changes."""
