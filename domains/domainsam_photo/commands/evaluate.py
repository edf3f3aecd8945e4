"""``domainsam photo evaluate``: score a method on labelled pictures or films."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam_cli.console import align_rows, echo, format_paths, format_score, get_command_line, print_result
from domainsam_cli.options import device_option, overwrite_option, precision_option, seed_option, talk_options
from domainsam_photo.commands.shared import PATH

if TYPE_CHECKING:
    from domainsam_photo.evaluate.evaluate import Evaluation
    from domainsam_photo.evaluate.word_scores import WordEvaluation

PLAIN = ("davis", "youtube-vos", "mose", "perseg", "folder")
WORDS = ("coco", "lvis", "ade20k", "voc", "pascal-context", "semantic", "refcoco")
"""Layouts that score models of words."""
WORD_OPTIONS = ("vocabulary_model", "annotations", "answers", "boxes", "refine")


@click.command("evaluate")
@click.argument("folder", type=PATH)
@click.option("--layout", type=click.Choice((*PLAIN, *WORDS)), required=True, help="How FOLDER is laid out.")
@click.option("--method", help="Films: features, still, sam2; pictures: example, persam, boxes, ...")
@click.option("--vocabulary-model", help="Words: name, NAME:PATH or path [default: the embedded one].")
@click.option("--annotations", type=PATH, help="Words: the JSON, or RefCOCO's list, if not found by itself.")
@click.option("--answers", type=PATH, help="refcoco: folder of masks SENTENCE.png.")
@click.option("--boxes", is_flag=True, help="coco, lvis: give true objects as boxes, not as masks.")
@click.option("--refine", is_flag=True, help="Maps: let the foundation sharpen them.")
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
    pictures are example, example-f, persam, persam-f, boxes and points. Models of words:
    accuracy on true objects (coco, lvis), mean IoU of maps (ade20k, voc, pascal-context,
    semantic), cIoU and gIoU of answers to sentences (refcoco).

    \b
    domainsam photo evaluate DAVIS --layout davis --split val --report report.html
    domainsam photo evaluate PerSeg --layout perseg --method example-f
    domainsam photo evaluate mine --layout folder --method boxes --csv scores.csv
    domainsam photo evaluate coco/ --layout coco --vocabulary-model embedded
    domainsam photo evaluate ADEChallengeData2016/ --layout ade20k --vocabulary-model samclip:m.safetensors
    """  # noqa: D301 - click needs the control character itself
    from domainsam.progress import report_progress
    from domainsam.staging import Staging
    from domainsam_photo.evaluate.report import Gallery, render_report

    outputs = [path for path in (given["csv_path"], given["report"]) if path is not None]
    watch: Gallery | None = Gallery() if given["report"] is not None else None
    with Staging(outputs, overwrite=given["overwrite"]) as staging:
        with report_progress(folder.name, given["quiet"] or given["as_json"]) as progress:
            result: Any = _score(folder, given, watch, progress)
        if given["csv_path"] is not None:
            staging.write_text(given["csv_path"], result.csv())
        if watch is not None:
            page = render_report(result, folder.name, get_command_line(), watch.cases)
            staging.write_text(given["report"], page)
    files = format_paths({path.suffix[1:]: path for path in outputs})
    print_result(given, result.document, chain(format_table(result), files))
    if result.skipped:
        echo(f"domainsam: {len(result.skipped)} could not be scored", err=True)
        ctx.exit(1)


def _score(folder: Path, given: dict[str, Any], watch: Any, progress: Any) -> Any:
    """The scores of a folder, by the evaluator that its layout asks for.

    Raises
    ------
    ConfigError
        If an option is of no use with the layout.
    """
    from domainsam_photo.evaluate.evaluate import EvaluateOptions, evaluate_folder
    from domainsam_photo.evaluate.words import WordOptions, evaluate_words

    words = given["layout"] in WORDS
    for name in ("method", "report") if words else WORD_OPTIONS:
        if given[name]:
            raise ConfigError(
                f"--{name.replace('_', '-')} is of no use with --layout {given['layout']}: leave it out"
            )
    shared = ("layout", "split", "limit", "foundation", "device", "precision", "seed")
    chosen = {name: given[name] for name in (*shared, *(WORD_OPTIONS if words else ("method",)))}
    if words:
        return evaluate_words(folder, WordOptions(**chosen), progress)
    return evaluate_folder(folder, EvaluateOptions(**chosen), watch, progress)


def format_table(result: Evaluation | WordEvaluation) -> Iterator[str]:
    """Scores as lines of text."""
    count, unit = len(result.units), "picture" if result.layout in WORDS else "object"
    yield f"{result.method} with {result.foundation}: {count} {unit}{'s' * (count > 1)}"
    rows = [[name, format_score(result.interval(name))] for name in result.measures]
    yield from align_rows([["measure", "mean"], *rows])
    for name, reason in result.skipped:
        yield f"{name}: {reason}"
    refused = getattr(result, "left_out", {})
    if refused:
        names = ", ".join(list(refused)[:5])
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        yield f"{len(refused)} classes not understood, counted as wrong: {names}{more}"
    yield f"[95% intervals; resampled: {unit}s]"
