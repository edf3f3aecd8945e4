"""``domainsam photo label``: what is marked in a picture, named by words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam_cli.console import format_paths, get_command_line, print_result
from domainsam_cli.options import (
    device_option,
    job_options,
    out_option,
    overwrite_option,
    precision_option,
    talk_options,
)
from domainsam_photo.commands.shared import PATH
from domainsam_photo.run_words import label_options


@click.command("label")
@click.argument("picture", type=PATH)
@click.option("--boxes", type=PATH, help="Objects as boxes: .json .csv .geojson.")
@click.option("--points", type=PATH, help="Objects as points: .json .csv .geojson.")
@click.option("--masks", type=PATH, help="Numbers of objects, PNG.")
@click.option("--vocabulary", type=PATH, help="File of words, one a line, synonyms behind commas.")
@click.option(
    "--words", multiple=True, metavar="WORD", help="A word, synonyms behind commas. Repeat for several."
)
@click.option("--vocabulary-model", metavar="NAME|PATH|NAME:PATH", help="Model of words [default: embedded].")
@click.option(
    "--least-score", type=click.FloatRange(0, 1), default=0.0, help="A word that fits less is none."
)
@out_option("Folder of masks and labels [default: they are only printed].", required=False)
@click.option("--overlay/--no-overlay", default=True, help="Also draw objects over the picture [default].")
@click.option("--foundation", help="Who outlines boxes and points: name or file [default: the embedded one].")
@device_option
@precision_option
@overwrite_option
@talk_options
def label_command(picture: Path, **given: Any) -> None:
    """Name what is marked in a picture, among words that you give.

    Coordinates are pixels of the picture as it is seen, x to the right and y down.

    \b
    domainsam photo label image.jpg --boxes boxes.json --vocabulary words.txt
    domainsam photo label image.jpg --points p.json --words dog --words "cat, kitten" -o out/
    """  # noqa: D301 - click needs the control character itself
    from domainsam_photo.label import label_picture

    result = label_picture(picture, label_options(**job_options(given), made_by=get_command_line()))
    print_result(given, result.document, [*result.lines(), *format_paths(result.paths)])
