"""``domainsam ct evaluate``: score masks against labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import align_rows, echo, format_paths, format_score, get_command_line, print_result
from domainsam_cli.options import NAMES, overwrite_option, seed_option, talk_options
from domainsam_ct.commands.options import identifier_options, make_identifiers

if TYPE_CHECKING:
    from domainsam_ct.evaluate.report import FindImage, WorstSlices
    from domainsam_ct.evaluate.summary import Evaluation, EvaluationOptions

PATH = click.Path(path_type=Path)
PICTURES = 6
"""Pictured slices; each is about a fifth of a megabyte."""


def comparing_options(command: Any) -> Any:
    """Options that say what is compared, and how."""
    for option in (
        click.option("--paper", is_flag=True, help="The papers' definitions: voxels, their empty masks."),
        click.option(
            "--empty",
            type=click.Choice(["leave-out", "worst"]),
            default="leave-out",
            show_default=True,
            help="Organs that a mask lacks: left out where undefined, or the worst value.",
        ),
        click.option(
            "--surfaces",
            type=click.Choice(["area", "voxels"]),
            default="area",
            show_default=True,
            help="HD95 and surface Dice by area (surface-distance), or by voxels (MONAI).",
        ),
        click.option(
            "--tolerance",
            type=click.FloatRange(min=0),
            default=3.0,
            show_default=True,
            help="Distance of surfaces that still agree, in millimetres.",
        ),
        click.option("--organs", type=NAMES, help="Only these organs [default: all that both name]."),
        click.option(
            "--prediction-label-map", help="Names of the predictions' values, where they have others."
        ),
        click.option(
            "--label-map", help="Names of the labels' values: synapse, btcv, totalsegmentator or a file."
        ),
    ):
        command = option(command)
    return command


@click.command("evaluate")
@click.argument("predicted", type=PATH)
@click.argument("truth", type=PATH)
@comparing_options
@click.option("--images", type=PATH, help="The scan, or a folder of scans: shown in the report.")
@click.option("--report", type=PATH, help="Report with the worst slices, one HTML file.")
@click.option("--csv", "csv_path", type=PATH, help="Scores of every case and organ, CSV.")
@identifier_options
@seed_option
@overwrite_option
@talk_options
@click.pass_context
def evaluate(ctx: click.Context, /, predicted: Path, truth: Path, **given: Any) -> None:
    """Compare masks with labels: Dice, HD95 and surface Dice in millimetres.

    PREDICTED and TRUTH are two masks (NIfTI, NRRD, MHA, DICOM SEG, RTSTRUCT),
    or two folders in which X.nii.gz, X_seg.nii.gz and X_label.nii.gz belong
    together; a folder of masks named after organs counts as one mask. Names of values come from the files
    themselves or from --label-map. Exit code 1 if some of several cases could
    not be compared.

    \b
    domainsam ct evaluate pred/ truth/ --label-map labels.toml --report report.html
    domainsam ct evaluate seg.nii.gz truth.nii.gz --label-map totalsegmentator --images ct.nii.gz
    domainsam ct evaluate pred/ truth/ --paper
    """  # noqa: D301 - click needs the control character itself
    from domainsam.progress import report_progress
    from domainsam.staging import Staging
    from domainsam_ct.evaluate.evaluate import Names, evaluate_pairs
    from domainsam_ct.evaluate.labelled import find_pairs
    from domainsam_ct.evaluate.report import WorstSlices
    from domainsam_ct.labels import load_label_map

    maps = [
        None if given[key] is None else load_label_map(given[key])
        for key in ("label_map", "prediction_label_map")
    ]
    pairs, unpaired = find_pairs(predicted, truth)
    outputs = [path for path in (given["csv_path"], given["report"]) if path is not None]
    find_image = make_image_finder(given["images"])
    rule = make_identifiers(given, outputs)
    for pair in pairs:
        rule.hide(pair.case, (pair.predicted, pair.truth, find_image(pair.case)))
    worst = None if given["report"] is None else WorstSlices(PICTURES)
    with Staging(outputs, overwrite=given["overwrite"]) as staging:
        with report_progress("compare", given["quiet"]) as progress:
            result = evaluate_pairs(
                pairs,
                Names(maps[0], maps[1], given["organs"]),
                gather(given),
                worst,
                progress,
                find_image,
            )
        if given["csv_path"] is not None:
            staging.write_text(given["csv_path"], result.csv_text())
        if worst is not None:
            staging.write_text(given["report"], render_page(result, worst, predicted, truth, given))
    print_scores(result, unpaired, outputs, given)
    if result.skipped:
        ctx.exit(1)


def gather(given: dict[str, Any]) -> EvaluationOptions:
    """Options as click gives them, as one value."""
    from domainsam_ct.evaluate.scores import ScoreOptions
    from domainsam_ct.evaluate.summary import EvaluationOptions

    scoring = ScoreOptions(given["tolerance"], given["empty"], given["paper"], given["surfaces"])
    return EvaluationOptions(scoring, seed=given["seed"])


def render_page(
    result: Evaluation, worst: WorstSlices, predicted: Path, truth: Path, given: dict[str, Any]
) -> str:
    """The HTML report."""
    from domainsam_ct.evaluate.report import render_evaluation

    pictures = worst.draw(make_image_finder(given["images"]))
    return render_evaluation(result, pictures, predicted.name, truth.name, get_command_line())


def make_image_finder(images: Path | None) -> FindImage:
    """Where the scan of a case is."""
    from domainsam.errors import MissingInputError
    from domainsam_ct.job import make_case_stem
    from domainsam_ct.read.dicom.files import is_dicom_file
    from domainsam_ct.settings import VOLUME_SUFFIXES

    if images is None:
        return lambda case: None
    if not images.exists():
        raise MissingInputError(f"{images}: no such file or folder; check the path")
    if images.is_file() or not any(
        path.is_dir() or path.name.lower().endswith(VOLUME_SUFFIXES) for path in images.iterdir()
    ):
        return lambda case: images
    found = {make_case_stem(path): path for path in sorted(images.iterdir())}
    # A folder of slices is a scan by itself.
    series = images if any(is_dicom_file(path) for path in images.iterdir()) else None
    return lambda case: found.get(case, series)


def print_scores(
    result: Evaluation, unpaired: tuple[str, ...], outputs: list[Path], given: dict[str, Any]
) -> None:
    """Print the scores, what was skipped and where the outputs are."""
    for case, reason in result.skipped:
        echo(f"domainsam: skipped {case}: {reason}", err=True)
    for case in unpaired:
        echo(f"domainsam: note: {case} has no labels", err=True)
    files = format_paths({path.suffix[1:]: path for path in outputs})
    print_result(given, result.document, chain(format_table(result), files), result.notes())


def format_table(result: Evaluation) -> Iterator[str]:
    """Scores as lines of text, a line an organ and one for the mean of organs."""
    metrics, options = result.options.metrics, result.options
    count = len(result.cases)
    scoring = options.scoring
    cases = f"{count} case{'s' * (count > 1)}"
    yield f"{cases}; HD95 in {options.distance_unit}, {scoring.definition}; {scoring.policy}"
    rows = [["organ", *(metric.title for metric in metrics)]]
    rows += [
        [organ, *(format_score(result.table[organ][metric.key]) for metric in metrics)]
        for organ in result.organs
    ]
    rows.append(["mean of organs", *(format_score(result.overall[metric.key]) for metric in metrics)])
    yield from align_rows(rows)
    if count > 1:
        yield f"[{options.level:.0%} intervals; resampled: {count} cases, drawn whole]"
