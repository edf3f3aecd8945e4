"""``domainsam scene evaluate``: score a model with all sensors and without some."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam_cli.console import align_rows, echo, format_paths, format_score, get_command_line, print_result
from domainsam_cli.options import device_option, overwrite_option, precision_option, seed_option, talk_options
from domainsam_scene.commands.segment import LAYOUT_NAMES, parse_bands, reading_options

if TYPE_CHECKING:
    from domainsam_scene.evaluate.evaluate import EvaluateOptions
    from domainsam_scene.evaluate.summary import Evaluation

PATH = click.Path(path_type=Path)


@click.command("evaluate")
@click.argument("folder", type=PATH)
@click.option("--layout", type=click.Choice(LAYOUT_NAMES), help="How FOLDER is laid out.")
@click.option("--geotiff", is_flag=True, help="FOLDER holds georeferenced rasters, a folder a sensor.")
@click.option("--bands", multiple=True, metavar="NAME=N,N,N", help="Bands of a sensor (--geotiff).")
@click.option(
    "--grid",
    type=click.Choice(["scene", "network"]),
    default="scene",
    show_default=True,
    help="Whose pixels are scored; network as DELIVER's code.",
)
@click.option("--split", help="Part of the data [default: the one that papers report].")
@click.option("--model", type=PATH, help="Model file [default: the one inside the package].")
@click.option("--foundation", help="Name or checkpoint file [default: the model's own].")
@click.option(
    "--missing",
    "protocols",
    multiple=True,
    type=click.Choice(["all", "subsets", "drops", "noise"]),
    help="Also score with sensors missing: every subset, random drops, noise. Repeat for several.",
)
@click.option("--modalities", help="Sensors to use, with commas [default: all that the model knows].")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many samples.")
@click.option("--report", type=PATH, help="Report with charts and pictures, one HTML file.")
@click.option("--csv", "csv_path", type=PATH, help="Scores of every variant and class, CSV.")
@reading_options
@device_option
@precision_option
@seed_option
@overwrite_option
@talk_options
@click.pass_context
def evaluate(ctx: click.Context, /, folder: Path, **given: Any) -> None:
    """Score a model on labelled scenes, with all sensors and without some.

    The mean IoU comes from one confusion matrix over all pixels, with a 95 %
    interval. Exit code 1 if some of several samples could not be scored.

    \b
    domainsam scene evaluate --layout deliver /data/DELIVER --model model.safetensors --report report.html
    domainsam scene evaluate --layout deliver /data/DELIVER --model model.safetensors --missing all
    domainsam scene evaluate --layout plain /data/mine --split val --missing subsets --csv scores.csv
    domainsam scene evaluate --geotiff /data/rasters --model model.safetensors
    """  # noqa: D301 - click needs the control character itself
    from domainsam.machine import keep_freed_memory
    from domainsam.progress import report_progress
    from domainsam.staging import Staging
    from domainsam_scene.evaluate.evaluate import evaluate_layout
    from domainsam_scene.evaluate.report import Gallery
    from domainsam_scene.model.scene import load_model

    if (given["layout"] is None) == (not given["geotiff"]):
        raise ConfigError("say how the folder is laid out: give --layout or --geotiff")
    outputs = [path for path in (given["csv_path"], given["report"]) if path is not None]
    with ExitStack() as stack:
        staging = stack.enter_context(Staging(outputs, overwrite=given["overwrite"]))
        keep_freed_memory()
        model = load_model(given["model"], given["foundation"], given["device"], given["precision"])
        gallery = Gallery()
        progress = stack.enter_context(report_progress(folder.name, given["quiet"]))
        watch = gallery if given["report"] is not None else None
        result = evaluate_layout(
            given["layout"] or "plain", folder, given["split"], model, gather(given), watch, progress
        )
        if given["csv_path"] is not None:
            staging.write_text(given["csv_path"], result.csv_text())
        if given["report"] is not None:
            staging.write_text(given["report"], render_page(result, gallery, folder, model.name, given))
    print_scores(result, outputs, given)
    if result.skipped:
        ctx.exit(1)


def gather(given: dict[str, Any]) -> EvaluateOptions:
    """Options as click gives them, as one value."""
    from domainsam_scene.evaluate.evaluate import EvaluateOptions
    from domainsam_scene.evaluate.missing import PROTOCOLS
    from domainsam_scene.read.modalities import parse_range
    from domainsam_scene.settings import ReadOptions

    names = tuple(name.strip() for name in (given["modalities"] or "").split(",") if name.strip())
    asked = PROTOCOLS if "all" in given["protocols"] else tuple(dict.fromkeys(given["protocols"]))
    if given["bands"] and not given["geotiff"]:
        raise ConfigError("--bands is for georeferenced rasters: give --geotiff too")
    if given["align"] and given["geotiff"]:
        raise ConfigError(
            "--align moves pictures of one view, and georeferenced rasters lie where they say: leave it out"
        )
    read = ReadOptions(
        dict(map(parse_range, given["range"])),
        given["align"],
        given["strict"],
        given["dilate"],
        dict(map(parse_bands, given["bands"])),
    )
    return EvaluateOptions(names, asked, read, given["limit"], given["seed"], given["geotiff"], given["grid"])


def render_page(result: Evaluation, gallery: Any, folder: Path, model: str, given: dict[str, Any]) -> str:
    """The HTML report."""
    from domainsam_scene.evaluate.report import ReportText, render_report

    split = f", split {given['split']}" if given["split"] else ""
    layout = given["layout"] or "georeferenced rasters"
    text = ReportText(model, f"{folder.name} ({layout}{split})", get_command_line())
    return render_report(result, text, gallery.cases)


def print_scores(result: Evaluation, outputs: list[Path], given: dict[str, Any]) -> None:
    """Print the scores, what was skipped and where the outputs are."""
    if result.skipped:
        echo(f"domainsam: {len(result.skipped)} samples could not be scored", err=True)
    files = format_paths({path.suffix[1:]: path for path in outputs})
    print_result(given, result.document, chain(format_table(result), files))


def format_table(result: Evaluation) -> Iterator[str]:
    """Scores as lines of text."""
    count = len(result.samples)
    yield f"{count} sample{'s' * (count > 1)}, {len(result.labels)} classes"
    rows = [
        [
            variant.name,
            format_score(result.interval(variant.name)),
            format_number(result.published_miou(variant.name)),
            format_number(result.accuracy(variant.name)),
        ]
        for variant in result.variants
    ]
    yield from align_rows([["sensors", "mean IoU", "as published", "accuracy"], *rows])
    for kind, values in result.by_condition(result.variants[0].name).items():
        yield f"{kind}: " + ", ".join(
            f"{value} {format_number(score)} ({n})" for value, (score, n) in values.items()
        )
    for protocol, mean in result.protocol_means().items():
        yield f"mean over {protocol}: {format_number(mean)}"
    if result.unscored:
        yield f"left out of the mean, as no sample has these sensors: {', '.join(result.unscored)}"
    yield "[95% intervals; resampled: samples]"


def format_number(value: float) -> str:
    """Three decimals, or ``n/a``."""
    return "n/a" if value != value else f"{value:.3f}"
