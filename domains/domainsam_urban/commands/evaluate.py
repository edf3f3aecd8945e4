"""``domainsam urban evaluate``: score predictions against labels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import align_rows, echo, format_paths, format_score, get_command_line, print_result
from domainsam_cli.options import compute_options, overwrite_option, seed_option, talk_options
from domainsam_urban.commands.labels import choice_options, gather_choice
from domainsam_urban.commands.map import reading_options, threshold_option
from domainsam_urban.settings import MapOptions, OutputOptions, ReadOptions, RunOptions, ShapeOptions

if TYPE_CHECKING:
    from domainsam_urban.evaluate.evaluate import Predict
    from domainsam_urban.evaluate.summary import Evaluation, EvaluationOptions

PATH = click.Path(path_type=Path)
EMBEDDED = "the model inside the package"


def comparing_options(command: Any) -> Any:
    """Options that say what is compared, and how."""
    positive = click.FloatRange(min=0, min_open=True)
    for option in (
        click.option(
            "--block",
            type=positive,
            default=250.0,
            show_default=True,
            help="Side of the spatial blocks that are resampled, in metres.",
        ),
        click.option(
            "--units",
            type=click.Choice(["auto", "scenes", "blocks"]),
            default="auto",
            show_default=True,
            help="What the intervals resample; auto takes scenes from 10 of them on.",
        ),
        click.option(
            "--boundary-tolerance",
            type=click.FloatRange(min=0),
            help="Distance of outlines that still agree, in metres [default: 0.8 % of a tile's diagonal].",
        ),
        click.option(
            "--min-area",
            type=click.FloatRange(min=0),
            default=0.0,
            help="Predicted objects below this many m² take no part in object scores.",
        ),
        threshold_option,
    ):
        command = option(command)
    return command


def answering_options(command: Any) -> Any:
    """Options that say where predictions come from."""
    for option in (
        click.option("--ablation", is_flag=True, help="Also switch prompt parts off one by one."),
        click.option("--overlap", type=click.IntRange(min=0), help="Overlap of tiles in pixels."),
        click.option("--tile", type=click.IntRange(min=64), help="Side of a tile in pixels."),
        click.option("--foundation", help="Name or checkpoint file [default: the model's own]."),
        click.option("--predictions", type=PATH, help="Existing rasters or polygons instead of a model."),
        click.option("--model", type=PATH, help="Model file [default: the one inside the package]."),
    ):
        command = option(command)
    return command


@click.command("evaluate")
@click.argument("inputs", nargs=-1, required=True, metavar="SCENE...")
@click.option("--labels", type=PATH, required=True, help="Polygons, a mask raster, or a folder of either.")
@choice_options
@answering_options
@comparing_options
@click.option("--report", type=PATH, help="Report with charts and pictures, one HTML file.")
@click.option("--csv", "csv_path", type=PATH, help="Scores of every scene, CSV.")
@reading_options
@compute_options
@seed_option
@overwrite_option
@talk_options
@click.pass_context
def evaluate(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Compare a model's settlements with labels, with 95 % intervals.

    SCENE is a raster or a folder of them. In a folder of labels the file for
    X.tif or X_image.tif is X_mask.tif, X.tif or X.gpkg. Polygons may be in
    any CRS. Exit code 1 if some of several scenes could not be evaluated.

    \b
    domainsam urban evaluate scenes/ --labels labels.gpkg --report report.html
    domainsam urban evaluate val/ --labels val/ --model model.safetensors --ablation
    domainsam urban evaluate scene.tif --labels truth.gpkg --predictions settlements.gpkg
    """  # noqa: D301 - click needs the control character itself
    from domainsam.io.pairing import find_scenes
    from domainsam.progress import report_progress
    from domainsam.staging import Staging
    from domainsam_urban.evaluate.evaluate import evaluate_scenes

    check_options(given)
    given["threshold"] = choose_threshold(given)
    scenes = find_scenes(inputs)
    options = gather(given)
    outputs = [path for path in (given["csv_path"], given["report"]) if path is not None]
    with ExitStack() as stack:
        staging = stack.enter_context(Staging(outputs, overwrite=given["overwrite"]))
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="domainsam-")))
        # While a model maps, mapping shows its own bars.
        hidden = given["quiet"] or given["predictions"] is None
        progress = stack.enter_context(report_progress("compare", hidden))
        result = evaluate_scenes(scenes, given["labels"], choose_answers(given), workdir, options, progress)
        if given["csv_path"] is not None:
            staging.write_text(given["csv_path"], result.csv_text())
        if given["report"] is not None:
            staging.write_text(given["report"], render_page(result, given))
    print_scores(result, outputs, given)
    if result.skipped:
        ctx.exit(1)


def check_options(given: dict[str, Any]) -> None:
    """Refuse options that contradict each other.

    Raises
    ------
    click.UsageError
        If predictions are given together with a model to make them.
    """
    if given["predictions"] is None:
        return
    for name in ("model", "foundation", "ablation"):
        if given[name]:
            raise click.UsageError(f"--predictions are compared as they are: leave out --{name}")


def choose_threshold(given: dict[str, Any]) -> float:
    """The threshold that was given, else the model's; existing predictions have the ordinary one."""
    from domainsam_urban.model.settlement import get_shape_settings

    if given["predictions"] is not None:
        return float(given["threshold"] or ShapeOptions.threshold)
    return get_shape_settings(given["model"], {"threshold": given["threshold"]}).threshold


def gather(given: dict[str, Any]) -> EvaluationOptions:
    """Options as click gives them, as one value."""
    from domainsam_urban.evaluate.scores import ScoringOptions
    from domainsam_urban.evaluate.summary import EvaluationOptions

    scoring = ScoringOptions(
        given["threshold"], given["boundary_tolerance"], given["min_area"], given["block"]
    )
    return EvaluationOptions(scoring, units=given["units"], seed=given["seed"], labels=gather_choice(given))


def choose_answers(given: dict[str, Any]) -> Predict:
    """Where predictions come from: files, or the model and its variants."""
    from domainsam_urban.evaluate.evaluate import look_up_answers

    if given["predictions"] is not None:
        return look_up_answers(given["predictions"])
    from domainsam_urban.evaluate.evaluate import ABLATION, make_answers, order_stages
    from domainsam_urban.model.settlement import get_method

    read = ReadOptions(
        given["bands"], given["nodata"], given["resolution"], given["normalize"], given["allow_no_crs"]
    )
    run = RunOptions(
        given["device"],
        given["precision"],
        given["tile"],
        given["overlap"],
        given["batch_size"],
        given["workers"],
    )
    options = MapOptions(
        OutputOptions(vectors=()),
        given["model"],
        given["foundation"],
        read,
        run,
        ShapeOptions(given["threshold"]),
        quiet=given["quiet"],
    )
    return make_answers(options, ABLATION if given["ablation"] else order_stages(get_method(given["model"])))


def render_page(result: Evaluation, given: dict[str, Any]) -> str:
    """The HTML report."""
    from domainsam_urban.evaluate.report import ReportText, render_report

    answered = given["predictions"] or given["model"]
    name = answered.name if answered is not None else EMBEDDED
    return render_report(result, ReportText(name, given["labels"].name, get_command_line()))


def print_scores(result: Evaluation, outputs: list[Path], given: dict[str, Any]) -> None:
    """Print the scores, what was skipped and where the outputs are."""
    for name, reason in result.skipped:
        echo(f"domainsam: skipped {name}: {reason}", err=True)
    files = format_paths({path.suffix[1:]: path for path in outputs})
    print_result(given, result.document, chain(format_table(result), files), result.notes())


def format_table(result: Evaluation) -> Iterator[str]:
    """Scores as lines of text: all of them for the model, the main ones for an ablation."""
    from domainsam_urban.evaluate.scores import ABLATED, METRICS

    scenes = len(result.scenes)
    yield f"{scenes} scene{'s' * (scenes > 1)}, threshold {result.options.scoring.threshold:g}"
    leads = {
        name: format_score(result.lead[name], "+") if name in result.lead else "" for name in result.variants
    }
    rows = [
        [metric.title, *(format_score(result.table[name][metric.key]) for name in result.shown)]
        for metric in METRICS
    ]
    if result.lead:
        rows.append(["Lead in IoU", *(leads[name] for name in result.shown)])
    yield from align_rows([["", *result.shown], *rows])
    if result.variants != result.shown:
        yield ""
        head = ["Ablation", *(metric.title for metric in ABLATED), "Lead in IoU"]
        yield from align_rows(
            [
                head,
                *(
                    [name, *(format_score(result.table[name][metric.key]) for metric in ABLATED), leads[name]]
                    for name in result.variants
                ),
            ]
        )
    yield f"[{result.options.level:.0%} intervals; resampled: {result.units}]"
