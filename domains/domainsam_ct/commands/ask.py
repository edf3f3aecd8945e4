"""``domainsam ct ask``: find in a scan what words mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.asking import ask_options as language_options
from domainsam_cli.console import echo, format_paths, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    device_option,
    job_options,
    overwrite_option,
    precision_option,
    resume_option,
    talk_options,
)
from domainsam_ct.ask.settings import EVERY_MM, WINDOWS
from domainsam_ct.commands.options import PATH, series_option
from domainsam_ct.commands.segment import WINDOW, end_run, output_options
from domainsam_ct.run_ask import ask_options

if TYPE_CHECKING:
    from domainsam_ct.job import Batch, CaseResult


class Window(click.ParamType[Any]):
    """A named window, or two Hounsfield units."""

    name = f"{'|'.join(WINDOWS)}|LOW,HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value in WINDOWS else WINDOW.convert(value, param, ctx)


@click.command("ask")
@click.argument("scan", type=PATH)
@click.argument("phrase")
@output_options
@language_options
@click.option("--allow-remote", is_flag=True, help="Let slices of the patient go to another machine.")
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="So many parts that do not touch at most: 2 for kidneys.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=EVERY_MM,
    show_default=True,
    help="Distance in millimetres of the slices that are asked about.",
)
@click.option("--label", help="What the mask calls it [default: made of the phrase].")
@click.option("--label-map", help="Numbers of the mask: synapse, btcv, totalsegmentator, or a TOML file.")
@click.option(
    "--window", type=Window(), help="Hounsfield units that are shown [default: as the phrase suggests]."
)
@series_option
@click.option("--foundation", help="Name or checkpoint file [default: embedded_lite].")
@device_option
@precision_option
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def ask_command(ctx: click.Context, /, scan: Path, phrase: str, **given: Any) -> None:
    """Ask a language model where in a CT something is; the mask lies on the scan's own grid.

    Slices are shown as a radiologist looks at them. Answers that go on from slice
    to slice become one organ; where it ends and why is told, and stray answers
    are left out. What the model said is kept, so that --resume asks nothing twice.
    Slices never leave this machine unless --allow-remote is said. Not a medical
    device.

    \b
    domainsam ct ask ct.nii.gz "the spleen" --mllm models/Qwen3-VL-4B -o spleen.nii.gz
    domainsam ct ask ct.nii.gz "both kidneys" --parts 2 --mllm models/medgemma -o kidneys.nii.gz
    """  # noqa: D301 - click needs the control character itself
    from domainsam_ct.ask.cases import ask_scan

    mark_resumable(ctx)

    def tell(result: CaseResult) -> None:
        if not given["as_json"] and not given["quiet"]:
            echo(result.sentence())
            for line in tell_asked(result.settings):
                echo(f"  {line}")

    batch = ask_scan(scan, ask_options(phrase=phrase, **job_options(given)), told=tell)
    print_result(given, batch.document, _list_files(batch))
    end_run(ctx, batch, 1)


def _list_files(batch: Batch) -> Iterator[str]:
    for case in batch.complete:
        yield f"{case}: complete already"
    for result in batch.results:
        yield from format_paths(result.paths)


def tell_asked(settings: Mapping[str, Any]) -> Iterator[str]:
    """Where it was found, where it ends and why, and what the model gave no answer to."""
    for name, one in settings.get("asked", {}).items():
        if not one["found"]:
            yield f"{name}: not found on any of {one['slices_asked']} slices that {one['model']} was shown"
        for part in one["parts"]:
            ways = [
                f"{way} to slice {part[key]['slice']} ({part[key]['z_mm']:g} mm): {part[key]['words']}"
                for way, key in (("down", "towards_feet"), ("up", "towards_head"))
            ]
            yield f"{name}: {'; '.join(ways)}"
        if one["strays"]:
            yield f"{name}: {len(one['strays'])} stray answers on other slices are left out"
        if one["unanswered"]:
            yield f"{name}: no answer on {one['unanswered']} of {one['windows']} slices"
