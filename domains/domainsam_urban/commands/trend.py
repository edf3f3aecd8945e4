"""``domainsam urban trend``: compare settlement area over the years."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam.infer.spread import spread_options
from domainsam_cli.console import get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    WHOLE_NUMBERS,
    Separated,
    batch_size_option,
    bundle,
    device_option,
    out_option,
    overwrite_option,
    precision_option,
    resume_option,
    seed_option,
    talk_options,
    worker_options,
)
from domainsam_urban.commands.map import PATH, model_options, threshold_option
from domainsam_urban.settings import ReadOptions, RunOptions, ShapeOptions
from domainsam_urban.trend.settings import (
    INSTABILITY,
    GroundOptions,
    ObjectOptions,
    ProductOptions,
    SmoothingOptions,
    TrendOptions,
    UncertaintyOptions,
    ZoneOptions,
)

if TYPE_CHECKING:
    from domainsam_urban.trend.trend import TrendResult

EXTENT = Separated(float, "left,bottom,right,top", "0,0,5000,5000", "N,N,N,N", 4)
RADII = Separated(float, "a list of kilometres", "2,5,10", "N,N,N")
PLACE = Separated(float, "longitude,latitude", "116.39,39.91", "N,N", 2)


year_options = bundle(
    click.option(
        "--reference-year", help="Year that places and brightness are matched to [default: the last]."
    ),
    click.option("--align", is_flag=True, help="Move years onto the reference year by what was measured."),
    click.option(
        "--extent",
        type=EXTENT,
        help="Left, bottom, right, top of the ground in its CRS.",
    ),
    click.option(
        "--pixel",
        type=click.FloatRange(min=0, min_open=True),
        help="Pixel of the ground in metres [default: of the coarsest year].",
    ),
    click.option("--crs", help="CRS of the ground, in metres [default: equal-area around the scenes]."),
    click.option("--asset", help="STAC asset to read, where items have several."),
    click.option("--mask-class", type=WHOLE_NUMBERS, help="Values of mask rasters that are settlement."),
    click.option("--masks", is_flag=True, help="The inputs are masks or polygons, not scenes."),
)
"""Options that say which years are compared, and on what ground."""


reading_options = bundle(
    click.option(
        "--normalize",
        type=click.Choice(["auto", "scene", "dtype", "reference"]),
        default="auto",
        show_default=True,
        help="Radiometry: per scene as urban map, or matched to the reference year.",
    ),
    click.option("--resolution", type=click.FloatRange(min=0, min_open=True), help="Ground pixel in metres."),
    click.option("--nodata", type=float, help="A further value that means no data."),
    click.option(
        "--bands", type=WHOLE_NUMBERS, help="Red, green, blue band numbers, from 1 [default: 1,2,3]."
    ),
)
"""Options that say how scenes are read."""


min_area_option = click.option(
    "--min-area",
    type=click.FloatRange(min=0),
    help="Leave out settlements below this many m² [default: 500].",
)


figure_options = bundle(
    min_area_option,
    click.option(
        "--spread",
        type=click.FloatRange(min=0, max=0.5, max_open=True),
        help="Without a reference: how far the threshold is moved for low and high figures.",
    ),
    click.option(
        "--instability",
        type=click.FloatRange(min=0, max=1, max_open=True),
        help=(
            "Share of an area by which the map may differ for the same ground, added to bounds without a "
            f"reference [default: {INSTABILITY} for scenes, 0 for --masks]."
        ),
    ),
    click.option(
        "--level", type=click.FloatRange(0.5, 1, max_open=True), help="Confidence level [default: 0.95]."
    ),
    click.option("--reference-class", help="Column of the reference with the truth."),
    click.option("--reference-column", help="Column of the reference with the year's label."),
    click.option(
        "--reference",
        type=PATH,
        help="Points or polygons of known truth, for error-adjusted areas; column weight: ha each is worth.",
    ),
    click.option("--ring-polygons", type=PATH, help="Areas within ring roads, in place of circles."),
    click.option("--rings", type=RADII, help="Radii of rings around the centre, in km."),
    click.option("--centre", type=PLACE, help="Longitude,latitude of the city's centre."),
    click.option("--zone-name", help="Column with the zones' names."),
    click.option("--zones", type=PATH, help="Polygons, such as districts, with figures each."),
)
"""Options that say for which places figures are made, and how sure they are."""


def smoothing_options(command: Any) -> Any:
    """Options of the hidden Markov model over the years."""
    rate = click.FloatRange(min=0)
    for option in (
        click.option("--vanish", type=rate, help="Rate a year at which settlement vanishes [default: 0.01]."),
        click.option("--appear", type=rate, help="Rate a year at which settlement appears [default: 0.05]."),
        click.option("--smooth", is_flag=True, help="Smooth over the years too, side by side with the rest."),
    ):
        command = option(command)
    return command


processes_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Years computed at a time, a process each.",
)


@click.command("trend")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@out_option("Folder for tables, polygons, pictures and the report.")
@year_options
@reading_options
@figure_options
@smoothing_options
@click.option("--layers", is_flag=True, help="Write each year's probability on the ground too, as GeoTIFF.")
@click.option("--title", help="Heading of the report.")
@threshold_option
@model_options
@seed_option
@device_option
@precision_option
@batch_size_option
@processes_option
@worker_options
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def trend(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Tell how settlement area changes over the years, and how sure that is.

    INPUT is YEAR=FILE for each year; or files whose date stands in their
    metadata or name; or a CSV with the columns path and datetime; or a STAC
    item, item collection, collection or catalogue.

    \b
    domainsam urban trend 2016=a.tif 2018=b.tif 2020=c.tif -o trend/
    domainsam urban trend catalog.json -o trend/ --zones districts.gpkg --centre 116.39,39.91
    domainsam urban trend --masks 2016=m16.tif 2018=m18.gpkg -o trend/
    domainsam urban trend scenes.csv -o trend/ --align --smooth --workers 2 --resume
    domainsam urban trend catalog.json -o trend/ --scheduler tcp://host:8786
    """  # noqa: D301 - click takes a real backspace for "do not wrap"
    from domainsam_urban.trend.trend import find_finished, run_trend

    mark_resumable(ctx)
    options = gather(given)
    if finished := find_finished(options):
        tell_complete(given, options.out, finished)
        return
    result = run_trend(inputs, options)
    print_result(given, lambda: make_document(result), summarise_run(result))


def tell_complete(given: dict[str, Any], out: Path, files: Sequence[Path]) -> None:
    """Say that nothing of a run is left to do."""
    listed = [str(path) for path in files]
    line = f"complete: all {len(listed)} files of {out} are there"
    print_result(given, lambda: {"complete": True, "files": listed}, [line])


def make_document(result: TrendResult) -> dict[str, Any]:
    """The result as values that JSON can hold."""
    stack = result.stack
    return {
        "ground": stack.ground.to_dict(),
        "years": [
            {
                "label": year.label,
                "datetime": None if year.moment is None else year.moment.isoformat(),
                "date_from": year.stated,
                "source": year.path,
                "registration": None if layer.registration is None else asdict(layer.registration),
            }
            for year, layer in zip(result.years, stack.years, strict=True)
        ],
        "warnings": list(stack.warnings),
        "notes": list(result.products.notes),
        "files": [str(path) for path in result.products.files],
        "resumed": result.resumed,
    }


def summarise_run(result: TrendResult) -> Iterator[str]:
    """The years, their dates and what was written, for a person."""
    ground = result.stack.ground
    yield (f"{len(result.years)} years on {ground.width} x {ground.height} pixels of {ground.pixel_m:g} m")
    for year in result.years:
        when = "" if year.moment is None else f"{year.moment:%Y-%m-%d} (date from {year.stated})  "
        yield f"  {year.label:<12} {when}{year.path}"
    for note in result.products.notes:
        yield f"  note: {note}"
    for path in result.products.files:
        yield f"  {path}"


NO_FIGURES: dict[str, Any] = {
    **dict.fromkeys(("reference", "reference_column", "reference_class", "spread", "level", "title")),
    "instability": None,
    **dict.fromkeys(("zones", "zone_name", "centre", "rings", "ring_polygons", "appear", "vanish")),
    **dict.fromkeys(("scheduler", "memory_per_task", "log", "metrics")),
    "gpus_per_task": 0.0,
    "retries": 2,
    "seed": 0,
    "smooth": False,
    "layers": False,
}
"""What stands for the options of figures, and of workers, where a command has none."""


def gather(given: dict[str, Any]) -> TrendOptions:
    """Options as click gives them, as one value."""
    figures = {**NO_FIGURES, **given}
    parts = ("box", "mask", "sam_embedding", "segformer_embedding")
    disabled = frozenset(part for part in parts if given[f"no_{part}"])
    uncertainty = UncertaintyOptions(
        reference=figures["reference"],
        year_column=figures["reference_column"],
        class_column=figures["reference_class"],
        seed=figures["seed"],
        instability=_instability(figures),
        **_set(figures, "spread", "level"),
    )
    products = ProductOptions(
        zones=ZoneOptions(
            figures["zones"],
            figures["zone_name"],
            figures["centre"],
            figures["rings"],
            figures["ring_polygons"],
        ),
        uncertainty=uncertainty,
        objects=ObjectOptions(**_set(given, "min_area")),
        command=get_command_line(),
        **_set(figures, "title"),
    )
    spread = spread_options(
        figures["scheduler"],
        figures["gpus_per_task"],
        figures["memory_per_task"],
        figures["retries"],
        None,
        figures["log"],
        figures["metrics"],
    )
    if spread.scheduler is not None and given["workers"] > 1:
        raise ConfigError("--scheduler says who computes the years: leave out --workers")
    return TrendOptions(
        out=given["out"],
        model=given["model"],
        foundation=given["foundation"],
        threshold=_threshold(given),
        masks=given["masks"],
        mask_class=given["mask_class"],
        asset=given["asset"],
        reference_year=given["reference_year"],
        align=given["align"],
        workers=given["workers"],
        spread=spread,
        classifier=given["classifier"],
        smoothing=SmoothingOptions(**_set(figures, "appear", "vanish")) if figures["smooth"] else None,
        ground=GroundOptions(given["crs"], given["pixel"], given["extent"]),
        products=products,
        read=ReadOptions(given["bands"], given["nodata"], given["resolution"], given["normalize"]),
        run=RunOptions(
            device=given["device"],
            views=int(given["views"]),
            precision=given["precision"],
            tile=given["tile"],
            overlap=given["overlap"],
            batch_size=given["batch_size"],
            method=_method(given, disabled),
            disabled=disabled,
        ),
        layers=figures["layers"],
        overwrite=given["overwrite"],
        resume=given["resume"],
        quiet=given["quiet"],
    )


def _method(given: dict[str, Any], disabled: Collection[str]) -> str:
    """The method that was given, else the model's; masks need none."""
    if given["masks"]:
        return str(given["method"] or "coarse")
    from domainsam_urban.model.settlement import get_method

    return get_method(given["model"], given["method"], disabled)


def _threshold(given: dict[str, Any]) -> float:
    """The threshold that was given, else the model's; masks have the ordinary one."""
    if given["threshold"] is not None or given["masks"]:
        return float(given["threshold"] or ShapeOptions.threshold)
    from domainsam_urban.model.settlement import get_shape_settings

    return get_shape_settings(given["model"], {}).threshold


def _instability(given: dict[str, Any]) -> float:
    """What was given, else what is asked of models; of masks nobody knows whether they hold still."""
    if given["instability"] is not None:
        return float(given["instability"])
    return 0.0 if given["masks"] else INSTABILITY


def _set(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those options that were given; the rest keep the defaults of their dataclass."""
    return {name: given[name] for name in names if given[name] is not None}
