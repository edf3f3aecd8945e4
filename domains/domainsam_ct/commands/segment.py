"""``domainsam ct segment``: segment organs in CT volumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import echo, format_paths, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    NAMES,
    Separated,
    bundle,
    compute_options,
    job_options,
    mark_options,
    out_option,
    overwrite_option,
    resume_option,
    runtime_option,
    spread_options,
    talk_options,
)
from domainsam_ct.commands.options import (
    PATH,
    deskew_option,
    identifier_options,
    object_options,
    series_option,
    summary_options,
)
from domainsam_ct.run import segment_options
from domainsam_ct.settings import METHODS

if TYPE_CHECKING:
    from domainsam_ct.job import Batch, CaseResult

WINDOW = Separated(float, "a pair of Hounsfield units", "-125,275", "LOW,HIGH", 2)


output_options = bundle(
    identifier_options,
    summary_options,
    deskew_option,
    object_options,
    click.option("--per-organ", is_flag=True, help="A mask for each organ instead of one for all."),
    out_option("Mask: .nii.gz .nii .nrrd .mha, or a folder."),
)
"""Options that name what is written."""


mask_options = bundle(
    click.option(
        "--keep-confidence",
        type=click.FloatRange(0, 1),
        default=0.6,
        show_default=True,
        help="Parts stay whose mean probability is at least this; 0 keeps all.",
    ),
    click.option(
        "--keep-within",
        type=click.FloatRange(0),
        default=30.0,
        show_default=True,
        help="Parts stay that are so near to the organ's largest part, in millimetres.",
    ),
    click.option(
        "--keep-share",
        type=click.FloatRange(0, 1, min_open=True),
        help="Parts of an organ stay from this share of its largest part on "
        "[default: 0.2; 0.02 of aorta and pancreas].",
    ),
    click.option("--fill-holes", type=NAMES, default="all", show_default=True, help="all, none, or organs."),
    click.option(
        "--cleanup",
        type=NAMES,
        default="all",
        show_default=True,
        help="Organs whose stray parts go: all, none, or names.",
    ),
    click.option("--label-map", help="Numbers of the mask: synapse, btcv, totalsegmentator, or a TOML file."),
    click.option("--organs", type=NAMES, help="Only these organs [default: all that the model knows]."),
)
"""Options that say which organs a mask holds and how it is cleaned."""


model_options = bundle(
    series_option,
    click.option("--window", type=WINDOW, help="Hounsfield units told apart [default: the model's]."),
    click.option("--foundation", help="Name or checkpoint file [default: the one the model was trained on]."),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        help="What the model is: a network alone, or SAM-LST's beside a foundation [default: any].",
    ),
    click.option("--model", type=PATH, help="Model file, abdomen, or abdomen_open [default: abdomen]."),
)
"""Options that choose the network and how the CT is read."""


@click.command("segment")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=PATH)
@output_options
@mask_options
@mark_options
@model_options
@compute_options
@runtime_option
@click.option("--strict", is_flag=True, help="Refuse a case whose scan or answer is to be doubted.")
@spread_options
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def segment_command(ctx: click.Context, /, inputs: tuple[Path, ...], **given: Any) -> None:
    """Segment organs in abdominal CT; masks lie on the scan's own grid.

    INPUT is a NIfTI, NRRD or MHA file, a folder of DICOM files, a zip of one,
    a folder of volume files, or a .csv with a column path. In a folder as
    -o, results are named after each case; in a path {stem} stands for its
    name. With several inputs the model is loaded once, each
    case has its line, a bad one is passed over and listed (exit code 1), and
    two files about all are written: cohort.csv, a row a case, and
    statistics.parquet, a row an organ of each. Not a medical device.

    \b
    domainsam ct segment ct.nii.gz -o seg.nii.gz
    domainsam ct segment study/ -o out/ --dicom-seg --rtstruct --statistics --report --preview
    domainsam ct segment cohort/*.nii.gz -o out/ --resume
    domainsam ct segment cohort.csv -o out/ --scheduler tcp://host:8786 --gpus-per-task 1
    domainsam ct segment ct.nii.gz -o out/ --organs liver,spleen --per-organ
    domainsam ct segment ct.nii.gz -o organ.nii.gz --points clicks.json
    """  # noqa: D301 - click needs the control character itself
    from domainsam_ct.segment_marked import segment_inputs

    mark_resumable(ctx)

    def told(result: CaseResult) -> None:
        if not given["as_json"] and not given["quiet"]:
            echo(result.sentence())

    batch = segment_inputs(inputs, segment_options(**job_options(given)), told=told)
    print_result(given, batch.document, summarise_run(batch, batch.count))
    end_run(ctx, batch, batch.count)


def end_run(ctx: click.Context, batch: Batch, inputs: int) -> None:
    """Say what of several cases was not made, and end with the exit code that follows from it."""
    for case, kinds in batch.unmade:
        echo(f"domainsam: {case}: no {kinds}; the mask is there", err=True)
    if batch.failures:
        failed = ", ".join(case for case, _ in batch.failures)
        echo(f"domainsam: {len(batch.failures)} of {inputs} cases failed: {failed}", err=True)
    if batch.exit_code:
        ctx.exit(batch.exit_code)


def summarise_run(batch: Batch, inputs: int) -> Iterator[str]:
    """Where the files are: of one case all of them, of several the table."""
    for case in batch.complete:
        yield f"{case}: complete already"
    if inputs == 1:
        for result in batch.results:
            yield from format_paths(result.paths)
    else:
        about = {"table": batch.table, "figures": batch.figures}
        yield from format_paths({kind: path for kind, path in about.items() if path is not None})
