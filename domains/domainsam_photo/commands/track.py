"""``domainsam photo track``: objects followed through a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam_cli.console import format_paths, get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import bundle, job_options
from domainsam_photo.commands.shared import PATH, many_options
from domainsam_photo.run import track_options
from domainsam_photo.settings import TRACKERS

tracking_options = bundle(
    click.option("--seed", type=click.IntRange(min=0), default=0, help="Random seed of points."),
    click.option("--patience", type=click.IntRange(min=1), help="Give up after so many pictures without it."),
    click.option("--patches", is_flag=True, help="Drop points whose surroundings change."),
    click.option("--horizon", type=click.IntRange(min=2), default=24, help="Pictures between new points."),
    click.option(
        "--reinit",
        type=click.Choice(["fixed", "median", "similar", "synced"]),
        help="Set points anew on the mask with that area [default: never].",
    ),
    click.option("--least-iou", type=click.FloatRange(0, 1), default=0.5, help="Least estimated IoU."),
    click.option("--extent/--no-extent", default=True, help="Carry the mask's box along [default]."),
    click.option(
        "--likeness/--no-likeness",
        default=None,
        help="Also judge by how the object looked where it was marked [default: suits the foundation].",
    ),
    click.option(
        "--bends", is_flag=True, help="The object changes its shape, as people and animals do [slower]."
    ),
    click.option("--refinements", type=click.IntRange(min=0), default=3, help="Decodings with the own box."),
    click.option(
        "--pick",
        type=click.Choice(["kmedoids", "random", "shi-tomasi", "mixed"]),
        default="kmedoids",
        help="How points are picked [default: kmedoids].",
    ),
    click.option("--points-per-object", type=click.IntRange(min=1), default=16, help="Points on an object."),
    click.option("--tracker-weights", type=PATH, help="File of RAFT or PIPS (--tracker raft, pips)."),
    click.option(
        "--tracker", type=click.Choice(TRACKERS), default="features", help="Who follows [default: features]."
    ),
)
"""Options that say how objects are followed."""


@click.command("track")
@click.argument("film", type=PATH)
@tracking_options
@click.option("--video", type=PATH, help="Film with the objects drawn over it, .mp4.")
@click.option("--mask", type=PATH, help="Numbers of the objects in picture 0, PNG.")
@click.option("--boxes", type=PATH, help="Objects as boxes; slice is the picture: .json .csv.")
@click.option("--points", type=PATH, help="Objects as points; slice is the picture: .json .csv.")
@many_options
@click.pass_context
def track_command(ctx: click.Context, /, film: Path, **given: Any) -> None:
    """Follow objects through a film, or a folder of pictures, forwards and backwards.

    \b
    domainsam photo track clip.mp4 --points p.json -o masks/ --video overlay.mp4
    domainsam photo track frames/ --mask first.png -o masks/
    """  # noqa: D301 - click needs the control character itself
    from domainsam.progress import report_progress
    from domainsam_photo.track import track_film

    mark_resumable(ctx)
    options = track_options(**job_options(given), made_by=get_command_line())
    with report_progress(film.name, given["quiet"] or given["as_json"]) as progress:
        result = track_film(film, options, progress)
    print_result(given, result.document, [*result.lines(), *format_paths(result.paths)])
