"""``domainsam photo evaluate``: score a method on labelled pictures or films."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import align_rows, echo, format_paths, format_score, get_command_line, print_result
from domainsam_cli.options import device_option, overwrite_option, precision_option, seed_option, talk_options
from domainsam_photo.commands.shared import PATH

if TYPE_CHECKING:
    from domainsam_photo.evaluate.evaluate import Evaluation

LAYOUTS = ("davis", "youtube-vos", "mose", "perseg", "folder")


@click.command("evaluate")
@click.argument("folder", type=PATH)
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="How FOLDER is laid out.")
@click.option("--method", help="Films: features, still, sam2; pictures: example, persam, boxes, ...")
@click.option("--split", help="List of films, such as val [default: all].")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many.")
@click.option("--foundation", help="Name or checkpoint file [default: the embedded one].")
@click.option("--report", type=PATH, help="Report with pictures, one HTML file.")
@click.option("--csv", "csv_path", type=PATH, help="Scores of every object, CSV.")
@device_option
@precision_option
@seed_option
@overwrite_option
@talk_options
@click.pass_context
def evaluate_command(ctx: click.Context, /, folder: Path, **given: Any) -> None:
    """Score a method on labelled pictures or films, with 95 % intervals over objects.

    Films give DAVIS's J, F and their mean; pictures IoU and boundary IoU. The methods of
    pictures are example, example-f, persam, persam-f, boxes and points.

    \b
    domainsam photo evaluate DAVIS --layout davis --split val --report report.html
    domainsam photo evaluate PerSeg --layout perseg --method example-f
    domainsam photo evaluate mine --layout folder --method boxes --csv scores.csv
    """  # noqa: D301 - click needs the control character itself
    from domainsam.progress import report_progress
    from domainsam.staging import Staging
    from domainsam_photo.evaluate.evaluate import EvaluateOptions, evaluate_folder
    from domainsam_photo.evaluate.report import Gallery, render_report

    outputs = [path for path in (given["csv_path"], given["report"]) if path is not None]
    names = ("layout", "method", "split", "limit", "foundation", "device", "precision", "seed")
    options = EvaluateOptions(**{name: given[name] for name in names})
    gallery = Gallery()
    with Staging(outputs, overwrite=given["overwrite"]) as staging:
        with report_progress(folder.name, given["quiet"] or given["as_json"]) as progress:
            watch = gallery if given["report"] is not None else None
            result = evaluate_folder(folder, options, watch, progress)
        if given["csv_path"] is not None:
            staging.write_text(given["csv_path"], result.csv())
        if given["report"] is not None:
            page = render_report(result, folder.name, get_command_line(), gallery.cases)
            staging.write_text(given["report"], page)
    files = format_paths({path.suffix[1:]: path for path in outputs})
    print_result(given, result.document, chain(format_table(result), files))
    if result.skipped:
        echo(f"domainsam: {len(result.skipped)} could not be scored", err=True)
        ctx.exit(1)


def format_table(result: Evaluation) -> Iterator[str]:
    """Scores as lines of text."""
    count = len(result.units)
    yield f"{result.method} with {result.foundation}: {count} object{'s' * (count > 1)}"
    rows = [[name, format_score(result.interval(name))] for name in result.measures]
    yield from align_rows([["measure", "mean"], *rows])
    for name, reason in result.skipped:
        yield f"{name}: {reason}"
    yield "[95% intervals; resampled: objects]"
