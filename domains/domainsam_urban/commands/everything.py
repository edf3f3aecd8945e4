"""``domainsam urban segment-everything``: outline everything that scenes show."""

from __future__ import annotations

from typing import Any

import click

from domainsam_cli.console import get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    bundle,
    device_option,
    job_options,
    overwrite_option,
    precision_option,
    resume_option,
    spread_options,
    talk_options,
)
from domainsam_urban.commands.map import (
    area_options,
    end_run,
    output_options,
    reading_options,
    summarise_run,
)
from domainsam_urban.run_everything import everything_options

POSITIVE = click.FloatRange(min=0)
SHARE = click.FloatRange(0, 1)

keep_options = bundle(
    click.option("--close-holes", type=POSITIVE, help="Fill holes up to this many m²."),
    click.option("--simplify", type=POSITIVE, help="Simplify outlines by this many metres."),
    click.option("--min-area", type=POSITIVE, help="Drop objects below this many m² [default: 64 pixels]."),
    click.option(
        "--same",
        type=SHARE,
        default=0.7,
        show_default=True,
        help="Of two objects whose boxes overlap more (IoU), the less trusted goes.",
    ),
    click.option(
        "--least-stability",
        type=SHARE,
        help="How little a mask may change with its threshold: IoU of the masks a logit above and below "
        "[default: embedded ones 0.75, else 0.85].",
    ),
    click.option(
        "--least-iou",
        type=SHARE,
        help="Least IoU that the foundation expects of a mask [default: embedded ones 0.2, else 0.7].",
    ),
    click.option(
        "--per-side",
        type=click.IntRange(1, 128),
        help="Points along each side of a window [default: one every 32 pixels].",
    ),
)
"""Options that say what is asked and what of it is kept."""


@click.command("segment-everything")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@output_options
@keep_options
@reading_options
@area_options
@click.option("--foundation", help="Name or checkpoint file [default: embedded_lite].")
@device_option
@precision_option
@resume_option
@overwrite_option
@spread_options
@talk_options
@click.pass_context
def everything_command(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Outline everything that scenes show, as ranked polygons.

    The foundation is asked at a grid of points over the whole scene; what it
    trusts and what is stable is kept, once. Polygons do not overlap: of two
    objects that share ground the smaller one has it. confidence is the IoU
    that the foundation expects of the mask. What counts as a thing depends on
    the pixel: --resolution says at which the scene is looked at.

    \b
    domainsam urban segment-everything scene.tif -o things.gpkg
    domainsam urban segment-everything scene.tif -o things.gpkg --min-area 20 --preview p.png
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.map import map_scenes

    mark_resumable(ctx)
    batch = map_scenes(inputs, everything_options(**job_options(given), made_by=get_command_line()))
    print_result(given, batch.document, summarise_run(batch))
    end_run(ctx, batch)
