"""``domainsam urban change``: compare the settlements of two scenes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    batch_size_option,
    device_option,
    out_option,
    overwrite_option,
    precision_option,
    resume_option,
    talk_options,
)
from domainsam_urban.commands.map import model_options, threshold_option
from domainsam_urban.commands.trend import (
    gather,
    min_area_option,
    processes_option,
    reading_options,
    year_options,
)

if TYPE_CHECKING:
    from domainsam_urban.trend.measure.bounds import Estimate
    from domainsam_urban.trend.trend import ChangeProducts


@click.command("change")
@click.argument("before")
@click.argument("after")
@out_option("GeoPackage: a layer for either scene, and one of what changed.")
@year_options
@reading_options
@min_area_option
@threshold_option
@model_options
@device_option
@precision_option
@batch_size_option
@processes_option
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def change(ctx: click.Context, /, before: str, after: str, **given: Any) -> None:
    """Tell which settlements appeared, grew, shrank or vanished between two scenes.

    BEFORE and AFTER are files, with a date before them or not. For areas with
    their uncertainty use domainsam urban trend, which takes two years too.

    \b
    domainsam urban change before.tif after.tif -o change.gpkg
    domainsam urban change 2016=a.tif 2020=b.tif -o change.gpkg --align
    domainsam urban change --masks m16.gpkg m20.gpkg -o change.gpkg
    """  # noqa: D301 - click takes a real backspace for "do not wrap"
    from domainsam_urban.trend.trend import run_change

    mark_resumable(ctx)
    result = run_change(before, after, gather(given))
    products = result.products
    counts = dict(sorted(products.counts.items()))
    told = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no settlement"
    print_result(
        given,
        lambda: {
            "path": str(given["out"]),
            "settlements": counts,
            "areas": [
                {"year": year.year, "valid_ha": year.valid_ha, "area_ha": asdict(year.area)}
                for year in products.years
            ],
            "change": {
                name: asdict(getattr(products.change, key))
                for name, key in (("net_ha", "net"), ("gain_ha", "gain"), ("loss_ha", "loss"))
            },
            "warnings": [*result.stack.warnings, *products.cautions],
        },
        [
            f"{' to '.join(result.stack.labels)}: {told}",
            f"  {format_areas(products)}",
            *(f"  caution: {words}" for words in products.cautions),
            f"  {given['out']}",
        ],
    )


def format_areas(products: ChangeProducts) -> str:
    """Both areas and the net change with their bounds, in a line."""

    def told(estimate: Estimate, sign: str = "") -> str:
        return f"{estimate.central:{sign}.1f} ha [{estimate.low:{sign}.1f}, {estimate.high:{sign}.1f}]"

    early, late = products.years
    return f"settlement {told(early.area)} to {told(late.area)}; net change {told(products.change.net, '+')}"
