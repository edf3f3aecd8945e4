"""``domainsam photo find``: what looks like an example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam_cli.console import get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import job_options
from domainsam_photo.commands.shared import (
    PATH,
    close_batch,
    many_options,
    summarise,
    tell_picture,
)
from domainsam_photo.run import find_options


@click.command("find")
@click.argument("pictures", nargs=-1, required=True, type=PATH)
@click.option("--always", is_flag=True, help="Give every picture's best place, however little alike.")
@click.option("--most", type=click.IntRange(min=1), default=100, help="So many objects a picture at most.")
@click.option("--least", type=click.FloatRange(0, 1), default=0.5, help="Least likeness [default: 0.5].")
@click.option("--parity", is_flag=True, help="The published order of operations (SAM's decoder only).")
@click.option("--finetune", is_flag=True, help="Learn two weights on the examples first (PerSAM-F).")
@click.option("--not", "unlike", multiple=True, metavar="PICTURE:MASK", help="A counter-example.")
@click.option("--like", multiple=True, required=True, metavar="PICTURE:MASK", help="An example.")
@many_options
@click.pass_context
def find_command(ctx: click.Context, /, pictures: tuple[Path, ...], **given: Any) -> None:
    """Find in pictures what looks like an example; a picture without it gets an empty mask.

    \b
    domainsam photo find photos/ --like ref.jpg:ref_mask.png -o out/
    domainsam photo find photos/ --like ref.jpg:ref_mask.png -o out/ --finetune
    """  # noqa: D301 - click needs the control character itself
    from domainsam_photo.find import find_in_pictures

    mark_resumable(ctx)
    options = find_options(**job_options(given), made_by=get_command_line())
    silent = given["quiet"] or given["as_json"]
    batch = find_in_pictures(pictures, options, None if silent else tell_picture)
    print_result(given, batch.document, summarise(batch, told=not silent))
    close_batch(ctx, batch)
