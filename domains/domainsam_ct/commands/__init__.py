"""``domainsam ct``: the commands of the pack, each imported when it is called."""

from __future__ import annotations

import click

from domainsam_cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "segment": (
            "domainsam_ct.commands.segment:segment_command",
            "Segment organs in CT, as masks on the scan's own grid.",
        ),
        "propagate": (
            "domainsam_ct.commands.alike:propagate_command",
            "Take an organ that is marked on a slice through the volume.",
        ),
        "find": (
            "domainsam_ct.commands.alike:find_command",
            "Find in CT what a mask shows in another one.",
        ),
        "ask": (
            "domainsam_ct.commands.ask:ask_command",
            "Ask a language model where in a CT something is.",
        ),
        "train": ("domainsam_ct.commands.train:train", "Train the organ model on your own labels."),
        "evaluate": ("domainsam_ct.commands.evaluate:evaluate", "Compare masks with labels."),
        "statistics": (
            "domainsam_ct.commands.statistics:statistics",
            "Volumes and Hounsfield units of any existing mask.",
        ),
        "export": (
            "domainsam_ct.commands.export:export_command",
            "DICOM objects, statistics and reports of any existing mask.",
        ),
        "demo": ("domainsam_ct.commands.demo:demo", "Segment a volume that is generated here."),
    },
)
def ct() -> None:
    """Organs in abdominal CT: masks, volumes, reports."""
