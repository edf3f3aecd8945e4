"""``domainsam photo semantic``: what every place of a picture shows, among words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import echo, format_paths, get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import job_options
from domainsam_photo.commands.shared import PATH, close_batch, many_options, summarise
from domainsam_photo.run_words import semantic_options

if TYPE_CHECKING:
    from domainsam_photo.semantic import MapResult


def tell_map(result: MapResult) -> None:
    """Print a picture's result as soon as it is there."""
    echo(result.sentence())


@click.command("semantic")
@click.argument("pictures", nargs=-1, required=True, type=PATH)
@click.option("--refine/--no-refine", default=False, help="Let the foundation sharpen the map [default: no].")
@click.option("--vocabulary-model", help="Name, NAME:PATH or path [default: the embedded one].")
@click.option("--vocabulary", type=PATH, help="File of words, one a line, synonyms behind commas.")
@click.option("--words", multiple=True, metavar="WORD", help="A word, synonyms behind commas; repeatable.")
@many_options
@click.pass_context
def semantic_command(ctx: click.Context, /, pictures: tuple[Path, ...], **given: Any) -> None:
    """Say of every place of pictures which of your words it shows: a palette PNG, shares, an overlay.

    Output is one .png for one picture, or a folder. 0 in the map: none of the words.

    \b
    domainsam photo semantic image.jpg --vocabulary words.txt -o map.png
    domainsam photo semantic photos/ --words sky --words road --words "car, truck" -o maps/
    """  # noqa: D301 - click needs the control character itself
    from domainsam_photo.semantic import map_pictures

    mark_resumable(ctx)
    options = semantic_options(**job_options(given), made_by=get_command_line())
    silent = given["quiet"] or given["as_json"]
    batch = map_pictures(pictures, options, None if silent else tell_map)
    print_result(given, batch.document, summarise(batch, told=not silent))
    if not silent and len(batch.results) == 1:
        for line in format_paths(batch.results[0].paths):
            echo(line)
    close_batch(ctx, batch)
