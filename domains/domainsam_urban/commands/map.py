"""``domainsam urban map``: map settlements in satellite scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import echo, format_paths, get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    WHOLE_NUMBERS,
    Separated,
    bundle,
    compute_options,
    job_options,
    mark_options,
    out_option,
    overwrite_option,
    resume_option,
    runtime_option,
    spread_options,
    talk_options,
)
from domainsam_urban.run import map_options
from domainsam_urban.settings import METHODS, VIEWS

if TYPE_CHECKING:
    from domainsam_urban.job import Batch

PATH = click.Path(path_type=Path)
BOX = Separated(float, "west,south,east,north", "443200,4411900,443900,4412300", "W,S,E,N", 4)


reading_options = bundle(
    click.option("--allow-no-crs", is_flag=True, help="Accept a scene without CRS: pixel units, no areas."),
    click.option(
        "--normalize",
        type=click.Choice(["auto", "scene", "dtype"]),
        default="auto",
        show_default=True,
        help="Radiometry: percentiles of the scene, range of the data type; auto: dtype for uint8.",
    ),
    click.option("--resolution", type=click.FloatRange(min=0, min_open=True), help="Ground pixel in metres."),
    click.option("--nodata", type=float, help="A further value that means no data."),
    click.option(
        "--bands", type=WHOLE_NUMBERS, help="Red, green, blue band numbers, from 1 [default: 1,2,3]."
    ),
)
"""Options that say how to read a scene."""


area_options = bundle(
    click.option("--date", help="Of a catalogue, only these dates: 2021, 2021-05/2021-09, 2021-05-30/.."),
    click.option(
        "--asset", help="Of a STAC catalogue, the key of the pictures [default: visual, data, ...]."
    ),
    click.option("--aoi", type=PATH, help="Map only inside these polygons; any file that OGR reads."),
    click.option(
        "--bbox-crs", help="CRS of --bbox, such as EPSG:3857 [default: the scene's, of a catalogue degrees]."
    ),
    click.option("--bbox", type=BOX, help="Map only inside this box."),
)
"""Options that say which part of a scene is wanted."""


PROBABILITY = click.FloatRange(0, 1, min_open=True, max_open=True)
threshold_option = click.option(
    "--threshold",
    type=PROBABILITY,
    help="Probability from which a pixel is settlement [default: the model's, commonly 0.5].",
)


def shape_options(command: Any) -> Any:
    """Options that say how probability becomes polygons; a model file may bring other defaults than 0."""
    positive = click.FloatRange(min=0)
    for option in (
        click.option("--close-holes", type=positive, help="Fill holes up to this many m²."),
        click.option("--simplify", type=positive, help="Simplify outlines by this many metres."),
        click.option(
            "--min-area",
            type=positive,
            help="Drop settlements below this many m² [default: the model's, else 500].",
        ),
        threshold_option,
    ):
        command = option(command)
    return command


output_options = bundle(
    click.option(
        "--collection",
        type=PATH,
        help="Folder for all scenes together: partitioned GeoParquet in degrees, and a STAC collection.",
    ),
    click.option("--datetime", help="When the scene was taken, ISO 8601 [default: from the file]."),
    click.option("--stac/--no-stac", default=True, show_default=True, help="STAC item beside the polygons."),
    click.option(
        "--grid", type=click.FloatRange(min=1), help="Share of settlement per cell of this many metres."
    ),
    click.option("--summary", type=PATH, help="Summary as JSON."),
    click.option("--preview", type=PATH, help="Picture of the scene with outlines, PNG."),
    click.option("--mask", type=PATH, help="Mask as Cloud-Optimised GeoTIFF."),
    click.option("--probability", type=PATH, help="Probability as Cloud-Optimised GeoTIFF."),
    out_option("Polygons: .gpkg .parquet .fgb .geojson, or a folder. Repeat for several.", multiple=True),
)
"""Options that name further outputs."""


model_options = bundle(
    click.option("--no-segformer-embedding", is_flag=True, help="Ablation: no SegFormer embedding prompt."),
    click.option("--no-sam-embedding", is_flag=True, help="Ablation: no foundation embedding prompt."),
    click.option("--no-mask", is_flag=True, help="Ablation: no mask prompt."),
    click.option("--no-box", is_flag=True, help="Ablation: no box prompt."),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        help="coarse: the specialist's own answer; full: prompts of it decoded by the foundation, slower "
        "[default: the better on the model's validation ground; coarse for the one inside the package].",
    ),
    click.option(
        "--views",
        type=click.Choice([str(number) for number in VIEWS]),
        default="1",
        show_default=True,
        help="Average the first look over quarter turns (4) and mirror images (8): steadier, as much slower.",
    ),
    click.option("--overlap", type=click.IntRange(min=0), help="Overlap of tiles in pixels."),
    click.option("--tile", type=click.IntRange(min=64), help="Side of a tile in pixels."),
    click.option("--foundation", help="Name or checkpoint file [default: the one the model was trained on]."),
    click.option("--classifier", type=PATH, help="Map only where this classifier expects settlement."),
    click.option("--model", type=PATH, help="Model file [default: the one inside the package]."),
)
"""Options that choose the networks and which prompts they pass."""


@click.command("map")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@output_options
@reading_options
@area_options
@shape_options
@mark_options
@model_options
@compute_options
@runtime_option
@click.option(
    "--merge",
    type=PATH,
    multiple=True,
    help="File for all scenes together, .gpkg .parquet .fgb .geojson or .pmtiles: what lies in several "
    "scenes is one object. Repeat for several.",
)
@click.option("--strict", is_flag=True, help="Refuse a scene whose picture or map is to be doubted.")
@spread_options
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def map_command(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Find informal settlements in satellite scenes and write them as polygons.

    INPUT is anything GDAL reads: GeoTIFF, VRT mosaic, /vsi path; or what
    lists scenes: a STAC .json, a stac-geoparquet .parquet, a .csv with a
    column path, a folder. With several scenes, or with a folder as -o, results
    are named after each; in any output path {stem} stands for its name.

    \b
    domainsam urban map scene.tif -o settlements.gpkg
    domainsam urban map scene.tif -o s.gpkg -o s.parquet --probability p.tif --preview p.png
    domainsam urban map scenes/*.tif -o out/ --device cuda --resume
    domainsam urban map catalog.json -o out/ --date 2021 --scheduler local:4
    domainsam urban map catalog.json -o out/ --merge country.parquet --merge country.pmtiles
    domainsam urban map city.tif -o centre.gpkg --bbox 116.2,39.8,116.3,39.9 --bbox-crs EPSG:4326
    domainsam urban map ikonos.tif -o s.geojson --bands 3,2,1 --min-area 2000 --simplify 2
    domainsam urban map scene.tif -o found.gpkg --points points.gpkg
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.map import map_scenes

    mark_resumable(ctx)
    batch = map_scenes(inputs, map_options(**job_options(given), made_by=get_command_line()))
    print_result(given, batch.document, summarise_run(batch))
    end_run(ctx, batch)


def end_run(ctx: click.Context, batch: Batch) -> None:
    """Say which of several scenes failed, and end with the exit code that follows from it."""
    if batch.failures:
        failed = ", ".join(source for source, _ in batch.failures)
        echo(f"domainsam: {len(batch.failures)} of {batch.count} scenes failed: {failed}", err=True)
        ctx.exit(batch.exit_code)


def summarise_run(batch: Batch) -> Iterator[str]:
    """What was found and where it is, for a person."""
    for result in batch.results:
        yield result.sentence()
        yield from format_paths(result.paths)
    for source in batch.complete:
        yield f"{source}: complete already"
    yield from format_paths(batch.about)
