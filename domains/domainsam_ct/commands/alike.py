"""``domainsam ct propagate`` and ``domainsam ct find``: organs by what was shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import echo, format_paths, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    NAMES,
    bundle,
    compute_options,
    job_options,
    mark_options,
    overwrite_option,
    resume_option,
    talk_options,
)
from domainsam_ct.alike.settings import KINDS
from domainsam_ct.commands.options import PATH, series_option
from domainsam_ct.commands.segment import WINDOW, end_run, output_options
from domainsam_ct.run_alike import find_options, propagate_options

if TYPE_CHECKING:
    from domainsam_ct.job import Batch, CaseResult

network_options = bundle(
    series_option,
    click.option("--window", type=WINDOW, help="Hounsfield units told apart [default: the model's]."),
    click.option("--foundation", help="Name or checkpoint file, for clicks and --features foundation."),
    click.option("--model", type=PATH, help="Model file, abdomen, or abdomen_open [default: abdomen]."),
    click.option(
        "--features",
        type=click.Choice(KINDS),
        default=KINDS[0],
        show_default=True,
        help="What places are compared by: features of the organ model, or of the foundation.",
    ),
    click.option(
        "--label-map", help="Names of the mask's numbers: synapse, btcv, totalsegmentator, or a TOML file."
    ),
    click.option("--organs", type=NAMES, help="Only these organs of the mask [default: all]."),
)
"""Options that say which organs of a mask are meant, and what they are compared by."""


@click.command("propagate")
@click.argument("scan", type=PATH)
@output_options
@click.option("--mask", type=PATH, help="The organ on one slice or some; anything that ct export reads.")
@mark_options
@network_options
@compute_options
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def propagate_command(ctx: click.Context, /, scan: Path, **given: Any) -> None:
    """Take an organ that is marked on a slice through the volume, both ways.

    What parts it from its surroundings is learnt on the marked slices; it is
    followed from slice to slice until it ends, and where and why is told.
    Clicks and boxes on a slice are first decoded by the foundation; marks with
    one label are one organ. Not a medical device.

    \b
    domainsam ct propagate ct.nii.gz --mask slice_mask.nii.gz -o organ.nii.gz
    domainsam ct propagate ct.nii.gz --points clicks.json -o organ.nii.gz --preview
    """  # noqa: D301 - click needs the control character itself
    from domainsam_ct.alike.cases import propagate_scan

    mark_resumable(ctx)
    batch = propagate_scan(scan, propagate_options(**job_options(given)), told=_teller(given))
    _finish(ctx, given, batch, 1)


@click.command("find")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=PATH)
@output_options
@click.option(
    "--like", required=True, metavar="SCAN:MASK", help="The example: a CT, and a mask of the organ in it."
)
@network_options
@compute_options
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def find_command(ctx: click.Context, /, inputs: tuple[Path, ...], **given: Any) -> None:
    """Find in CT the organ that a mask shows in another one.

    The largest part that looks like the example is the answer; where nothing
    does, that is told and the mask is empty. Not a medical device.

    \b
    domainsam ct find other.nii.gz --like ct.nii.gz:organ.nii.gz -o organ2.nii.gz
    domainsam ct find cohort/*.nii.gz --like ct.nii.gz:organs.nii.gz --organs liver -o out/
    """  # noqa: D301 - click needs the control character itself
    from domainsam_ct.alike.cases import find_in_scans

    mark_resumable(ctx)
    batch = find_in_scans(inputs, find_options(**job_options(given)), told=_teller(given))
    _finish(ctx, given, batch, len(inputs))


def _teller(given: Mapping[str, Any]) -> Any:
    """Prints a result as soon as it is there, unless that was not wanted."""

    def tell(result: CaseResult) -> None:
        if not given["as_json"] and not given["quiet"]:
            echo(result.sentence())
            for line in tell_making(result.settings):
                echo(f"  {line}")

    return tell


def _finish(ctx: click.Context, given: dict[str, Any], batch: Batch, inputs: int) -> None:
    print_result(given, batch.document, _list_files(batch))
    end_run(ctx, batch, inputs)


def _list_files(batch: Batch) -> Iterator[str]:
    for case in batch.complete:
        yield f"{case}: complete already"
    for result in batch.results:
        yield from format_paths(result.paths)


def tell_making(settings: Mapping[str, Any]) -> Iterator[str]:
    """Where every organ ends and why, or how sure it is that it was found."""
    for name, one in settings.get("propagated", {}).items():
        marked = ", ".join(map(str, one["marked_slices"][:6])) + (
            " ..." if len(one["marked_slices"]) > 6 else ""
        )
        ways = [
            f"{way} to slice {one[key]['slice']} ({one[key]['z_mm']:g} mm): {one[key]['words']}"
            for way, key in (("down", "towards_feet"), ("up", "towards_head"))
        ]
        yield f"{name}, marked on slice {marked}: {'; '.join(ways)}"
    for name, one in settings.get("like", {}).items():
        if not one["found"]:
            yield f"{name}: not found; nothing looks enough like what was shown"
            continue
        known = one["dice_on_the_example"]
        left_out = "" if known is None else f"; Dice {known:.2f} on slices of the example that were left out"
        yield f"{name}: found, mean probability {one['score']:.2f}{left_out}"
