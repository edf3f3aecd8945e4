"""Options that the commands of the pack share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import echo, format_paths
from domainsam_cli.options import (
    bundle,
    device_option,
    out_option,
    overwrite_option,
    precision_option,
    resume_option,
    talk_options,
)

if TYPE_CHECKING:
    from domainsam.infer.batch import Batch
    from domainsam_photo.job import PictureResult

PATH = click.Path(path_type=Path)

machine_options = bundle(
    talk_options,
    overwrite_option,
    precision_option,
    device_option,
    click.option("--foundation", help="Name or checkpoint file [default: the embedded one]."),
    click.option("--overlay/--no-overlay", default=True, help="Also draw objects over pictures [default]."),
    out_option("Folder of the masks."),
)
"""What every job takes."""
many_options = bundle(resume_option, machine_options)
"""What jobs over many pictures take."""


def tell_picture(result: PictureResult) -> None:
    """Print a picture's result as soon as it is there."""
    echo(result.sentence())


def summarise(batch: Batch[Any], told: bool) -> Iterator[str]:
    """What was found and where it is, for a person, unless that was ``told`` as each picture was done."""
    for result in () if told else batch.results:
        yield result.sentence()
        yield from format_paths(result.paths)
    if batch.complete:
        yield f"{len(batch.complete)} complete already"


def close_batch(ctx: click.Context, batch: Batch[Any]) -> None:
    """Say how many pictures failed, and leave with that exit code."""
    if batch.failures:
        total = len(batch.results) + len(batch.failures) + len(batch.complete)
        echo(f"domainsam: {len(batch.failures)} of {total} pictures failed", err=True)
        ctx.exit(batch.exit_code)
