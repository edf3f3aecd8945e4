"""``domainsam photo evaluate``: score a method on labelled pictures or films."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from domainsam.errors import ConfigError
from domainsam_cli.asking import manner_options, mllm_option
from domainsam_cli.console import align_rows, echo, format_paths, format_score, get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    device_option,
    overwrite_option,
    precision_option,
    resume_option,
    seed_option,
    talk_options,
)
from domainsam_photo.commands.shared import PATH

if TYPE_CHECKING:
    from domainsam_photo.evaluate.evaluate import Evaluation
    from domainsam_photo.evaluate.word_scores import WordEvaluation

PLAIN = ("davis", "youtube-vos", "mose", "perseg", "folder")
NAMES, MAPS, SENTENCES = ("coco", "lvis"), ("ade20k", "voc", "pascal-context", "semantic"), ("refcoco",)
WORDS = (*NAMES, *MAPS, *SENTENCES)
"""Layouts that score models of words."""
OF_LAYOUTS = {
    "method": PLAIN,
    "vocabulary_model": (*NAMES, *MAPS),
    "annotations": (*NAMES, *SENTENCES),
    "answers": SENTENCES,
    "mllm": SENTENCES,
    "resume": SENTENCES,
    "boxes": NAMES,
    "refine": MAPS,
    "split": (*PLAIN, *MAPS, *SENTENCES),
    "foundation": (*PLAIN, *MAPS, *SENTENCES),
}
"""Layouts that an option is of use with."""
MANNER = (
    "mode",
    "coordinates",
    "wording",
    "adapter",
    "max_tokens",
    "query_pattern",
    "query_points",
    "sure_yes",
    "sure_no",
    "least_score",
    "most",
    "asked_together",
    "timeout",
)
"""How a language model is asked."""


@click.command("evaluate")
@click.argument("folder", type=PATH)
@click.option("--layout", type=click.Choice((*PLAIN, *WORDS)), required=True, help="How FOLDER is laid out.")
@click.option("--method", help="Films: features, still, sam2; pictures: example, persam, boxes, ...")
@click.option("--vocabulary-model", help="Words: name, NAME:PATH or path [default: the embedded one].")
@click.option("--annotations", type=PATH, help="Words: the JSON, or RefCOCO's list, if not found by itself.")
@click.option("--answers", type=PATH, help="refcoco: folder of masks SENTENCE.png, instead of a model.")
@click.option("--boxes", is_flag=True, help="coco, lvis: give true objects as boxes, not as masks.")
@click.option("--refine", is_flag=True, help="Maps: let the foundation sharpen them.")
@click.option("--split", help="List of films, such as val [default: all].")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many.")
@click.option("--foundation", help="Name or checkpoint file [default: the embedded one].")
@click.option("--report", type=PATH, help="Report with pictures, one HTML file.")
@click.option("--csv", "csv_path", type=PATH, help="Scores of every object, CSV.")
@mllm_option(required=False)
@manner_options
@device_option
@precision_option
@seed_option
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def evaluate_command(ctx: click.Context, /, folder: Path, **given: Any) -> None:
    """Score a method on labelled pictures or films, with 95 % intervals over objects.

    Films give DAVIS's J, F and their mean; pictures IoU and boundary IoU. The methods of
    pictures are example, example-f, persam, persam-f, boxes and points. Models of words:
    accuracy on true objects (coco, lvis), mean IoU of maps (ade20k, voc, pascal-context,
    semantic), cIoU and gIoU of answers to sentences (refcoco), by a language model
    or from a folder of masks. What a model says is kept beside --csv or --report while
    it runs, so that --resume asks nothing twice. Of what it finds the best object
    counts, with --most N the best N together.

    \b
    domainsam photo evaluate DAVIS --layout davis --split val --report report.html
    domainsam photo evaluate PerSeg --layout perseg --method example-f
    domainsam photo evaluate mine --layout folder --method boxes --csv scores.csv
    domainsam photo evaluate coco/ --layout coco --vocabulary-model embedded
    domainsam photo evaluate ADEChallengeData2016/ --layout ade20k --vocabulary-model samclip:m.safetensors
    domainsam photo evaluate refcoco/ --layout refcoco --split val --mllm models/Qwen3-VL-4B --csv scores.csv
    """  # noqa: D301 - click needs the control character itself
    from domainsam.progress import report_progress
    from domainsam.staging import Staging
    from domainsam_photo.evaluate.report import Gallery, render_report

    check_options(ctx, given)
    outputs = [path for path in (given["csv_path"], given["report"]) if path is not None]
    if given["mllm"] and outputs:
        mark_resumable(ctx)
    watch: Gallery | None = Gallery() if given["report"] is not None else None
    with Staging(outputs, overwrite=given["overwrite"]) as staging:
        with report_progress(folder.name, given["quiet"] or given["as_json"]) as progress:
            result: Any = _score(ctx, folder, given, watch, progress)
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


def check_options(ctx: click.Context, given: dict[str, Any]) -> None:
    """Refuse options that are of no use with the layout, or without a model to ask.

    Raises
    ------
    ConfigError
        If there is one.
    """
    layout = given["layout"]
    for name, layouts in OF_LAYOUTS.items():
        if given[name] and layout not in layouts:
            raise ConfigError(f"--{name.replace('_', '-')} is of no use with --layout {layout}: leave it out")
    if given["mllm"] is None:
        for name in (*MANNER, "resume"):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise ConfigError(f"--{name.replace('_', '-')} is of use with --mllm alone: leave it out")
    elif given["resume"] and given["csv_path"] is None and given["report"] is None:
        raise ConfigError("--resume goes on with a run that writes --csv or --report: name the same file")


def _score(ctx: click.Context, folder: Path, given: dict[str, Any], watch: Any, progress: Any) -> Any:
    """The scores of a folder, by the evaluator that its layout asks for.

    Raises
    ------
    ConfigError
        If an option is impossible.
    """
    from domainsam_photo.evaluate.evaluate import EvaluateOptions, evaluate_folder
    from domainsam_photo.evaluate.word_work import WordOptions
    from domainsam_photo.evaluate.words import evaluate_words

    shared = ("layout", "split", "limit", "foundation", "device", "precision", "seed")
    chosen = {name: given[name] for name in shared}
    if given["layout"] not in WORDS:
        return evaluate_folder(folder, EvaluateOptions(**chosen, method=given["method"]), watch, progress)
    words = ("vocabulary_model", "annotations", "answers", "boxes", "refine", "resume")
    chosen |= {name: given[name] for name in words}
    if given["mllm"] is not None:
        chosen |= _ask(ctx, given)
    return evaluate_words(folder, WordOptions(**chosen), progress, watch=watch)


def _ask(ctx: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """Who is asked and how, and where its answers are kept."""
    from domainsam.prompter.language.keywords import ask_options

    manner = {name: given[name] for name in MANNER}
    if ctx.get_parameter_source("most") is not ParameterSource.COMMANDLINE:
        # A sentence of RefCOCO means one object.
        manner["most"] = 1
    first = given["csv_path"] or given["report"]
    work = None if first is None else first.with_name(f".{first.stem}.domainsam")
    return {"ask": ask_options(mllm=given["mllm"], **manner), "work": work}


def format_table(result: Evaluation | WordEvaluation) -> Iterator[str]:
    """Scores as lines of text."""
    count, unit = len(result.units), result.unit
    yield f"{result.method} with {result.foundation}: {count} {unit}{'s' * (count > 1)}"
    rows = [[name, format_score(result.interval(name))] for name in result.measures]
    yield from align_rows([["measure", "mean"], *rows])
    for name, reason in result.skipped:
        yield f"{name}: {reason}"
    asked = getattr(result, "told", None)
    if asked is not None:
        told = asked()
        yield (
            f"{told['windows']} questions: {told['nothing']} answered by no such object, "
            f"{told['unanswered']} without an answer"
        )
    refused = getattr(result, "left_out", {})
    if refused:
        names = ", ".join(list(refused)[:5])
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        yield f"{len(refused)} classes not understood, counted as wrong: {names}{more}"
    yield f"[95% intervals; resampled: {unit}s]"
