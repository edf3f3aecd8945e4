"""``domainsam urban label``: name outlines of any tool by words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam_cli.console import print_result
from domainsam_cli.options import (
    WHOLE_NUMBERS,
    device_option,
    job_options,
    out_option,
    overwrite_option,
    precision_option,
    talk_options,
)
from domainsam_urban.commands.map import PATH
from domainsam_urban.run_label import label_options


@click.command("label")
@click.argument("outlines", type=PATH)
@click.argument("scene")
@out_option("Outlines with what they are called: .gpkg .parquet .fgb .geojson.")
@click.option("--vocabulary", type=PATH, help="File of words, one a line, synonyms behind commas.")
@click.option(
    "--words", multiple=True, metavar="WORD", help="A word, synonyms behind commas. Repeat for several."
)
@click.option("--vocabulary-model", metavar="NAME|PATH|NAME:PATH", help="Model of words [default: embedded].")
@click.option(
    "--least-score",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="A word that fits less is none.",
)
@click.option("--layer", help="Layer of OUTLINES, where it has several.")
@click.option("--bands", type=WHOLE_NUMBERS, help="Red, green, blue band numbers, from 1 [default: 1,2,3].")
@click.option("--nodata", type=float, help="A further value that means no data.")
@click.option("--resolution", type=click.FloatRange(min=0, min_open=True), help="Ground pixel in metres.")
@click.option(
    "--normalize",
    type=click.Choice(["auto", "scene", "dtype"]),
    default="auto",
    show_default=True,
    help="Radiometry: percentiles of the scene, range of the data type; auto: dtype for uint8.",
)
@device_option
@precision_option
@overwrite_option
@talk_options
def label_command(outlines: Path, scene: str, **given: Any) -> None:
    """Name OUTLINES by what SCENE shows inside them, among words that you give.

    Outlines come from any tool and in any CRS; rows, attributes and geometry stay as
    they are, and columns word, word_score, second_word, second_score and answer are
    added. An outline outside of the scene stays, and its answer says so.

    \b
    domainsam urban label outlines.gpkg scene.tif --vocabulary words.txt -o labelled.gpkg
    domainsam urban label roofs.geojson scene.tif --words roof --words "pond, pool" -o labelled.gpkg
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.label import label_outlines

    result = label_outlines(outlines, scene, label_options(**job_options(given)))
    print_result(given, result.document, result.lines())
