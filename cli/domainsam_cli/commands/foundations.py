"""``domainsam foundations``: the generalists there are, how well and how fast they do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam.foundation import DEFAULT
from domainsam.foundations import FoundationSpec, find_foundations
from domainsam.metrics.tables import clean_row, csv_text
from domainsam.staging import Staging, check_targets
from domainsam.weights import locate_folder, locate_weights
from domainsam_cli.console import align_rows, echo, format_score, print_result
from domainsam_cli.options import (
    WHOLE_NUMBERS,
    device_option,
    json_option,
    overwrite_option,
    precision_option,
    runtime_option,
    talk_options,
)

if TYPE_CHECKING:
    from domainsam.assess.speed import Speed

HIDDEN = ("fake",)
"""Rows for tests only."""
ALL_PROMPTS = FoundationSpec.prompts
RATIOS = (("times_sam", "h"), ("times_sam", "b"), ("published_times_sam", "h"))
"""Columns of a table of speeds that compare with SAM."""
HEAD = ("name", "encoder M", "GMACs", "prompts", "file", "licence", "input")


@click.group()
def foundations() -> None:
    r"""Frozen generalists: what each costs, takes and understands; how well and how fast it does.

    \b
    Examples:
      domainsam foundations list
      domainsam foundations evaluate photos/ --foundation edge_sam --prompts box,1,3,5
      domainsam foundations bench --foundation edge_sam --foundation sam_vit_b --batch 1,8 -o bench/
    """


@foundations.command("list")
@json_option
def list_foundations(as_json: bool) -> None:
    """Known foundations: size and cost of the encoder, prompts, licence, and whether the file is here.

    Any of them is --foundation NAME of a pack's command. GMACs are for one
    image of the encoder's own size.
    """
    rows = [describe(row) for name, row in find_foundations().items() if name not in HIDDEN]
    if as_json:
        echo(json.dumps({"foundations": rows}, indent=2))
        return
    for line in align_rows([HEAD, *map(_cells, rows)]):
        echo(line)
    for line in _explain(rows):
        echo(line)


@foundations.command("evaluate")
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--foundation", "names", multiple=True, help="Name or file; several [default: embedded_lite].")
@click.option(
    "--masks", type=click.Path(path_type=Path), help="Masks of the same names [default: NAME_mask.*]."
)
@click.option("--coco", type=click.Path(path_type=Path), help="COCO or LVIS file with the objects instead.")
@click.option("--prompts", default="box,1,3,5", show_default=True, help="box, and numbers of clicks.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The table as CSV.")
@device_option
@precision_option
@runtime_option
@overwrite_option
@talk_options
def evaluate_foundations(images: Path, names: tuple[str, ...], **given: Any) -> None:
    """Mean IoU of a foundation's masks with known ones, from boxes and from clicks.

    IMAGES is a folder of pictures with masks (NAME_mask.png beside NAME.png, or
    --masks FOLDER), or the pictures of a COCO file (--coco, extra coco). The
    first click is the object's middle; each further one corrects the largest error.
    """
    from domainsam.assess.accuracy import measure_accuracy, parse_prompts
    from domainsam.assess.examples import read_coco, read_folder
    from domainsam.foundation import load_decoder

    prompts = parse_prompts(given["prompts"])
    if given["masks"] is not None and given["coco"] is not None:
        raise ConfigError("--masks and --coco were both given: say only one")
    targets = [] if given["out"] is None else [given["out"]]
    check_targets(targets, given["overwrite"])
    found = []
    for name in names or (DEFAULT,):
        foundation, _ = load_decoder(name, given["device"], given["precision"], given["runtime"])
        if given["coco"] is not None:
            examples = read_coco(images, given["coco"])
        else:
            examples = read_folder(images, given["masks"])
        found.append(measure_accuracy(foundation, examples, prompts))
    rows = [clean_row(row) for one in found for row in one.rows()]
    if targets:
        with Staging(targets, overwrite=given["overwrite"]) as outputs:
            outputs.write_text(targets[0], csv_text(rows))
    table = [("foundation", "prompt", "IoU [95 %]", "objects", "pictures")]
    for one in found:
        for prompt, interval in one.iou.items():
            cells = (one.foundation, prompt, format_score(interval), str(one.objects), str(one.pictures))
            table.append(cells)
    notes = [note for one in found for note in one.notes]
    print_result(given, lambda: {"evaluation": rows, "notes": notes}, align_rows(table), notes)


@foundations.command("bench")
@click.option("--foundation", "names", multiple=True, help="Name; several [default: all whose file is here].")
@click.option("--all", "everything", is_flag=True, help="All, with random weights where no file is here.")
@click.option("--references", is_flag=True, help="Measure sam_vit_h and sam_vit_b too, for the ratios.")
@click.option("--compile", is_flag=True, help="Compile encoders; on CUDA with CUDA graphs.")
@click.option("--batch", type=WHOLE_NUMBERS, default="1", show_default=True, help="Images at once; several.")
@click.option("--side", type=int, help="Side of the images in pixels [default: the foundation's own].")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=3.0, show_default=True, help="Time for each."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for table and chart."
)
@device_option
@precision_option
@overwrite_option
@talk_options
def bench_foundations(names: tuple[str, ...], batch: tuple[int, ...], **given: Any) -> None:
    """Latency, throughput and memory of encoders on this machine, and how much of it they use.

    A foundation whose file is not here is measured with random weights, which
    are as fast. The share is of the speed of large matrix products, measured in
    the same run; ratios are to sam_vit_h and sam_vit_b where these take part, beside what the authors
    found of theirs.
    """
    from domainsam.assess.speed import REFERENCES, Plan, compare, measure_speed, take_notes
    from domainsam.io.charts import draw_bars
    from domainsam.machine import choose_device, choose_precision

    device = choose_device(given["device"])
    rows_of = {name: row for name, row in find_foundations().items() if name not in HIDDEN}
    chosen = names or [name for name, row in rows_of.items() if given["everything"] or _is_here(row)]
    beside = REFERENCES if given["references"] else ()
    if min(batch) < 1:
        raise ConfigError(f"--batch {','.join(map(str, batch))}: expected numbers from 1 on")
    targets = [given["out"] / name for name in ("bench.csv", "bench.png")]
    check_targets(targets, given["overwrite"])
    plan = Plan(
        tuple(dict.fromkeys((*chosen, *beside))),
        batch,
        device,
        choose_precision(given["precision"], device),
        given["side"],
        given["seconds"],
        given["compile"],
    )
    found = measure_speed(plan, lambda one: None if given["quiet"] else _tell_speed(one))
    rows = compare(found)
    bars = {f"{one.foundation}, {one.batch}": one.images_per_second for one in found}
    label = f"images a second, by batch ({device}, {plan.precision})"
    with Staging(targets, overwrite=given["overwrite"]) as outputs:
        outputs.write_text(targets[0], csv_text(rows))
        outputs.write_with(targets[1], lambda path: draw_bars(bars, path, label))
    notes = take_notes(plan.names)
    print_result(given, lambda: {"bench": rows, "notes": notes}, align_rows(_speed_table(rows)), notes)


def _tell_speed(one: Speed) -> None:
    echo(f"domainsam: {one.foundation}, batch {one.batch}: {one.seconds:.3g} s", err=True)


def _speed_table(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    head = ("foundation", "batch", "s", "images/s", "GMACs", "peak MB", "of ceiling")
    table: list[tuple[str, ...]] = [(*head, "x ViT-H", "x ViT-B", "published x ViT-H")]
    for row in rows:
        ratios = [row[f"{kind}_vit_{size}"] for kind, size in RATIOS]
        table.append(
            (
                row["foundation"],
                str(row["batch"]),
                f"{row['seconds']:.3g}",
                f"{row['images_per_second']:.3g}",
                f"{row['gmacs']:.3g}",
                f"{row['peak_mb']:.0f}",
                f"{row['ceiling_share']:.0%}",
                *("" if ratio is None else f"{ratio:.3g}" for ratio in ratios),
            )
        )
    return table


def _is_here(row: FoundationSpec) -> bool:
    if row.folder:
        return locate_folder(row.name) is not None
    return row.weights is None or locate_weights(row.name) is not None


def describe(row: FoundationSpec) -> dict[str, Any]:
    """One foundation as values that JSON can hold."""
    file = row.weights
    path = locate_folder(row.name) if row.folder else None if file is None else locate_weights(row.name)
    return {
        "name": row.name,
        "default": row.name == DEFAULT,
        "encoder_million_parameters": row.parameters,
        "encoder_gmacs": row.gmacs,
        "input": row.input,
        "prompts": list(row.prompts),
        "licence": row.licence,
        "notice": row.notice,
        "file": None if file is None else file.file,
        "megabytes": None if file is None else file.megabytes,
        "url": None if file is None else file.url or None,
        "sha256": None if file is None else file.sha256,
        "included": file is None and not row.folder,
        "path": None if path is None else str(path),
    }


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    return (
        row["name"],
        "" if row["encoder_million_parameters"] is None else f"{row['encoder_million_parameters']:.1f}",
        "" if row["encoder_gmacs"] is None else f"{row['encoder_gmacs']:.1f}",
        ", ".join(row["prompts"]) if len(row["prompts"]) < len(ALL_PROMPTS) else "all",
        _file(row),
        row["licence"],
        row["input"],
    )


def _file(row: Mapping[str, Any]) -> str:
    if row["included"]:
        return "included"
    if row["path"] is not None:
        return "here"
    return f"{row['megabytes']} MB" if row["url"] else "your own"


def _explain(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield f"prompts: all are {', '.join(ALL_PROMPTS)}; what one does not understand is refused or told."
    absent = [row["name"] for row in rows if row["path"] is None and row["url"]]
    if absent:
        yield f"A file that is not here: domainsam weights fetch NAME (for instance {absent[0]})."
