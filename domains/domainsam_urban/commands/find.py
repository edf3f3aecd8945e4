"""``domainsam urban find``: find in scenes what looks like an example, or what words say."""

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
    PATH,
    area_options,
    end_run,
    output_options,
    reading_options,
    summarise_run,
)
from domainsam_urban.run_alike import find_options
from domainsam_urban.settings import WAYS, LikeOptions, WordOptions

PROPOSALS = ("auto", "everything", "map")
POSITIVE = click.FloatRange(min=0)

example_options = bundle(
    click.option(
        "--largest",
        type=click.FloatRange(min=1),
        default=LikeOptions.larger,
        show_default=True,
        help="Greatest area of an object, as a factor of the example's.",
    ),
    click.option(
        "--smallest",
        type=click.FloatRange(0, 1),
        default=LikeOptions.smaller,
        show_default=True,
        help="Least area of an object, as a factor of the example's.",
    ),
    click.option(
        "--most",
        type=click.IntRange(1, 65_535),
        default=LikeOptions.most,
        show_default=True,
        help="So many objects at most, the best.",
    ),
    click.option(
        "--least-score",
        type=click.FloatRange(0, 1),
        help="How much a place has to look like the example, at 0.5 it parts from its surroundings "
        "[default]; or how well a word has to fit [default: 0.3].",
    ),
    click.option(
        "--finetune", is_flag=True, help="With --method persam: learn PerSAM-F's two weights on the example."
    ),
    click.option(
        "--method",
        type=click.Choice(WAYS),
        default=LikeOptions.method,
        show_default=True,
        help="texture: what looks alike in colour and texture, as it is outlined; persam: points that the "
        "foundation makes masks of.",
    ),
    click.option(
        "--not",
        "unlike",
        type=PATH,
        multiple=True,
        help="Outlines of what looks alike and is not wanted. Repeat for several files.",
    ),
    click.option(
        "--like",
        type=PATH,
        multiple=True,
        help="Outlines of one or more examples, in any CRS. Repeat for several files.",
    ),
)
"""Options that say what is looked for, and how far."""
word_options = bundle(
    click.option(
        "--proposals",
        type=click.Choice(PROPOSALS),
        default=WordOptions.proposals,
        show_default=True,
        help="With words: everything that the foundation sees, a map of the words, or what suits the model.",
    ),
    click.option(
        "--against",
        multiple=True,
        metavar="WORD",
        help="With words: what objects may be called instead [default: ground, road, tree and the like].",
    ),
    click.option(
        "--vocabulary-model", metavar="NAME|PATH|NAME:PATH", help="Model of words [default: embedded]."
    ),
    click.option("--vocabulary", type=PATH, help="File of words to look for, one a line."),
    click.option(
        "--words",
        multiple=True,
        metavar="WORD",
        help="A word to look for, in the place of an example; synonyms behind commas. Repeat for several.",
    ),
)
"""Options that say it in words."""


@click.command("find")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@output_options
@word_options
@example_options
@click.option("--close-holes", type=POSITIVE, help="Fill holes up to this many m².")
@click.option("--simplify", type=POSITIVE, help="Simplify outlines by this many metres.")
@click.option("--min-area", type=POSITIVE, help="Drop objects below this many m².")
@reading_options
@area_options
@click.option("--foundation", help="Name or checkpoint file [default: embedded_lite].")
@device_option
@precision_option
@spread_options
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def find_command(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Find in scenes what looks like an example, or what words say, as ranked polygons.

    The example's outline lies in the scene; the whole scene is compared with
    it, and polygons come with rank and score (confidence), the best first.
    Finding nothing is an answer. What is found depends much on the pixel:
    --resolution says at which the scene is looked at.

    \b
    domainsam urban find scene.tif --like example.gpkg -o found.gpkg
    domainsam urban find scene.tif --like roofs.gpkg --not sheds.gpkg -o found.gpkg
    domainsam urban find scene.tif --like one.geojson -o found.gpkg --resolution 0.3 --preview p.png
    domainsam urban find scene.tif --words "building, house" --words pond -o found.gpkg
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.map import map_scenes

    mark_resumable(ctx)
    batch = map_scenes(inputs, find_options(**job_options(given), made_by=get_command_line()))
    print_result(given, batch.document, summarise_run(batch))
    end_run(ctx, batch)
