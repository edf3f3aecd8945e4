"""``domainsam urban follow``: outlines through the years."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    device_option,
    out_option,
    overwrite_option,
    precision_option,
    resume_option,
    talk_options,
)
from domainsam_urban.commands.map import PATH
from domainsam_urban.commands.trend import EXTENT, gather, reading_options, tell_complete
from domainsam_urban.trend.settings import FollowOptions, TrendOptions

if TYPE_CHECKING:
    from domainsam_urban.trend.follow import FollowProducts
    from domainsam_urban.trend.trend import Compared

NO_MODEL: dict[str, Any] = {
    **dict.fromkeys(("model", "classifier", "mask_class", "tile", "overlap", "instability")),
    **dict.fromkeys(("no_box", "no_mask", "no_sam_embedding", "no_segformer_embedding", "masks"), False),
    "method": "coarse",
    "threshold": 0.5,
    "views": 1,
    "workers": 1,
    "batch_size": 1,
}
"""What stands for the options of models where outlines are followed."""


@click.command("follow")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@out_option("Folder for tables, polygons, pictures and the report.")
@click.option(
    "--from", "outlines", type=PATH, required=True, help="Outlines to follow: polygons, in any CRS."
)
@click.option("--from-year", help="Year that the outlines were drawn in [default: the first].")
@click.option(
    "--reach",
    type=click.FloatRange(min=0, min_open=True),
    help="Metres from its outline that an object may reach [default: half the diameter of its area].",
)
@click.option("--reference-year", help="Year that places and brightness are matched to [default: the last].")
@click.option("--align", is_flag=True, help="Move years onto the reference year by what was measured.")
@click.option("--extent", type=EXTENT, help="Left, bottom, right, top of the ground in its CRS.")
@click.option("--pixel", type=click.FloatRange(min=0, min_open=True), help="Pixel of the ground in metres.")
@click.option("--crs", help="CRS of the ground, in metres [default: equal-area around the scenes].")
@click.option("--asset", help="STAC asset to read, where items have several.")
@reading_options
@click.option("--min-area", type=click.FloatRange(min=0), help="Leave out objects below this many m².")
@click.option("--layers", is_flag=True, help="Write each year's probability on the ground too, as GeoTIFF.")
@click.option("--title", help="Heading of the report.")
@click.option("--foundation", help="Name or checkpoint file [default: embedded_lite].")
@device_option
@precision_option
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def follow_command(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Follow outlines of one year through the others.

    What the outlines look like is learnt in their year and looked for in every
    year on the ground that all of them share. Tables, statuses and report are
    those of urban trend; followed.csv sets what was found of every outline
    against what was drawn.

    \b
    domainsam urban follow 2016=a.tif 2018=b.tif 2020=c.tif --from villages.gpkg -o followed/
    domainsam urban follow *.tif --from pond.geojson --from-year 2018 --reach 100 -o followed/
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.trend.follow import find_finished, run_follow

    mark_resumable(ctx)
    options = gather_follow(given)
    if finished := find_finished(options):
        tell_complete(given, options.out, finished)
        return
    result = run_follow(inputs, options)
    print_result(given, lambda: make_document(result), summarise_run(result))


def gather_follow(given: dict[str, Any]) -> TrendOptions:
    """Options as click gives them, as one value."""
    from dataclasses import replace

    # Whoever draws an outline wants it followed, however small it is.
    least = 0.0 if given["min_area"] is None else given["min_area"]
    options = gather({**NO_MODEL, **given, "min_area": least})
    return replace(options, follow=FollowOptions(given["outlines"], given["from_year"], given["reach"]))


def make_document(result: Compared[FollowProducts]) -> dict[str, Any]:
    """The result as values that JSON can hold."""
    from domainsam_urban.trend.follow import list_years

    return {
        "ground": result.stack.ground.to_dict(),
        "years": list_years(result.years),
        "warnings": list(result.stack.warnings),
        "followed": [one.row() for one in result.products.followed],
        "files": [str(path) for path in result.products.files],
        "resumed": result.resumed,
    }


def summarise_run(result: Compared[FollowProducts]) -> Iterator[str]:
    """Every outline in every year, for a person."""
    ground = result.stack.ground
    yield f"{len(result.years)} years on {ground.width} x {ground.height} pixels of {ground.pixel_m:g} m"
    for one in result.products.followed:
        row = one.row()
        overlap = "" if row["iou"] is None else f", IoU with the outline {row['iou']:.2f}"
        yield (
            f"  {one.outline:<12} {one.year:<8} drawn {one.prompted_m2:.0f} m², found {one.found_m2:.0f} m²"
            f"{overlap}: {one.status}"
        )
    for note in result.products.trend.notes:
        yield f"  note: {note}"
    for path in result.products.files:
        yield f"  {path}"
