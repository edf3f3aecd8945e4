"""``domainsam photo segment`` and ``segment-everything``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam_cli.console import format_paths, get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import job_options
from domainsam_photo.commands.shared import (
    PATH,
    close_batch,
    machine_options,
    many_options,
    summarise,
    tell_picture,
)
from domainsam_photo.run import everything_options, segment_options


@click.command("segment")
@click.argument("picture", type=PATH)
@click.option("--boxes", type=PATH, help="Objects as boxes: .json .csv .geojson.")
@click.option("--points", type=PATH, help="Objects as points: .json .csv .geojson.")
@machine_options
def segment_command(picture: Path, **given: Any) -> None:
    """Segment the objects of a picture that points or boxes mark.

    Coordinates are pixels of the picture as it is seen, x to the right and y down.

    \b
    domainsam photo segment image.jpg --points p.json -o masks/
    domainsam photo segment image.jpg --boxes b.json -o masks/
    """  # noqa: D301 - click needs the control character itself
    from domainsam_photo.segment import segment_picture

    options = segment_options(**job_options(given), made_by=get_command_line())
    result = segment_picture(picture, options)
    print_result(given, result.document, [result.sentence(), *format_paths(result.paths)])


@click.command("segment-everything")
@click.argument("pictures", nargs=-1, required=True, type=PATH)
@click.option("--least-area", type=click.IntRange(min=1), default=64, help="Least area in scaled pixels.")
@click.option("--overlap", type=click.FloatRange(0, 1), default=0.7, help="Boxes' IoU of one object.")
@click.option("--least-stability", type=click.FloatRange(0, 1), help="Least stability [default: suits].")
@click.option("--least-iou", type=click.FloatRange(0, 1), help="Least estimated IoU [default: suits].")
@click.option("--per-side", type=click.IntRange(min=1), help="Points along each side [default: every 32 px].")
@many_options
@click.pass_context
def everything_command(ctx: click.Context, /, pictures: tuple[Path, ...], **given: Any) -> None:
    """Segment everything that pictures show: a grid of points, what is stable, nothing twice.

    \b
    domainsam photo segment-everything image.jpg -o masks/
    domainsam photo segment-everything photos/ -o masks/ --per-side 32
    """  # noqa: D301 - click needs the control character itself
    from domainsam_photo.everything import segment_everything

    mark_resumable(ctx)
    options = everything_options(**job_options(given), made_by=get_command_line())
    silent = given["quiet"] or given["as_json"]
    batch = segment_everything(pictures, options, None if silent else tell_picture)
    print_result(given, batch.document, summarise(batch, told=not silent))
    close_batch(ctx, batch)
