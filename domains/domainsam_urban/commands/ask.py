"""``domainsam urban ask``: find in scenes what words mean."""

from __future__ import annotations

from typing import Any

import click

from domainsam_cli.asking import ask_options as language_options
from domainsam_cli.console import get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    device_option,
    job_options,
    overwrite_option,
    precision_option,
    resume_option,
    talk_options,
)
from domainsam_urban.commands.map import (
    area_options,
    end_run,
    output_options,
    reading_options,
    summarise_run,
)
from domainsam_urban.run_ask import ask_options

POSITIVE = click.FloatRange(min=0)


@click.command("ask")
@click.argument("scene", metavar="SCENE")
@click.argument("phrase")
@output_options
@language_options
@click.option("--close-holes", type=POSITIVE, help="Fill holes up to this many m².")
@click.option("--simplify", type=POSITIVE, help="Simplify outlines by this many metres.")
@click.option("--min-area", type=POSITIVE, help="Drop objects below this many m².")
@reading_options
@area_options
@click.option("--foundation", help="Name or checkpoint file [default: embedded_lite].")
@device_option
@precision_option
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def ask_command(ctx: click.Context, /, scene: str, phrase: str, **given: Any) -> None:
    """Ask a language model what in a scene a phrase means; polygons are ranked, the best first.

    The scene is shown tile by tile, as the foundation sees it; what tiles cut is
    joined, and all is in one ranking. Finding nothing is an answer; answers that
    are none are told. What the model said is kept, so that --resume asks nothing
    twice. --resolution says at which pixel the scene is looked at.

    \b
    domainsam urban ask scene.tif "swimming pools" --mllm models/Qwen3-VL-4B -o pools.gpkg
    domainsam urban ask scene.tif "blue roofs" --mllm http://localhost:8000/v1#qwen3-vl -o roofs.gpkg
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.map import map_scenes

    mark_resumable(ctx)
    options = ask_options(phrase=phrase, **job_options(given), made_by=get_command_line())
    batch = map_scenes([scene], options)
    print_result(given, batch.document, summarise_run(batch))
    end_run(ctx, batch)
