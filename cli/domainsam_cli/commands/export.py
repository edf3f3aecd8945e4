"""``domainsam export``: a foundation as files for ONNX Runtime and OpenVINO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.foundation import DEFAULT
from domainsam.keywords import RUNTIMES
from domainsam.staging import Staging, open_scratch
from domainsam_cli.console import align_rows, print_result
from domainsam_cli.options import overwrite_option, talk_options

if TYPE_CHECKING:
    from domainsam.foundation.export import Exported
    from domainsam.protocols import Foundation


@click.command("export")
@click.option("--foundation", "name", default=DEFAULT, show_default=True, help="Name or weight file.")
@click.option(
    "--to", "target", type=click.Choice(RUNTIMES[1:]), required=True, help="Format: ONNX, or OpenVINO's own."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for the files.")
@click.option(
    "--int8",
    "images",
    type=click.Path(path_type=Path),
    help="Encoder in int8, calibrated on the pictures of this folder; prints what that costs.",
)
@overwrite_option
@talk_options
def export(name: str, target: str, out: Path, images: Path | None, **given: Any) -> None:
    """Write a foundation's encoder, prompts and decoder for another runtime, compared with torch.

    The files take images, batches and numbers of prompts of any size, and say in their metadata what they
    want and whose weights they hold. One that does not agree with torch is not left. Any command takes
    the folder as --foundation.

    \b
    domainsam export --foundation edge_sam --to onnx -o exported/
    domainsam export --to openvino -o exported/ --int8 photos/
    domainsam urban map scene.tif -o s.gpkg --method full --foundation exported/
    """  # noqa: D301 - click needs the control character itself
    import torch

    from domainsam.foundation import load_foundation
    from domainsam.foundation.export import export_foundation, list_files

    foundation = load_foundation(name)
    targets = [out / file for file in list_files(foundation, target, out)]
    with Staging(targets, overwrite=given["overwrite"]) as outputs, open_scratch(targets[0]) as folder:
        # What is wrong with the pictures is told before minutes are spent on tracing.
        quantiser, examples, known = _prepare(foundation, images)
        done = export_foundation(foundation, folder, target, quantiser)
        rows = []
        if examples:
            from domainsam.assess.cost import measure_cost
            from domainsam.foundation.exported import load_exported

            cpu = torch.device("cpu")
            variants = {
                "fp32": foundation,
                "bf16": load_foundation(name, dtype=torch.bfloat16),
                "int8": load_exported(folder, target, cpu, torch.float32),
            }
            rows = measure_cost(variants, examples, "fp32")
        for path in targets:
            outputs.write_with(path, (folder / path.name).replace)
    summary = {"files": [str(path) for path in targets], **_facts(done), "cost": rows}
    print_result(given, lambda: summary, list(_tell(done, target, out, rows)), _note(known) if rows else ())


def _prepare(foundation: Foundation, images: Path | None) -> tuple[Any, Sequence[Any], bool]:
    """Who quantises, pictures with objects, and whether these are known from masks."""
    if images is None:
        return None, (), False
    from domainsam.assess.cost import choose_examples
    from domainsam.assess.examples import read_pictures
    from domainsam.foundation.quantise import MOST, make_quantiser

    quantiser = make_quantiser(foundation, read_pictures(images, MOST))
    return quantiser, *choose_examples(foundation, images, MOST)


def _facts(done: Exported) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(done.facts)


def _tell(done: Exported, target: str, out: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    facts = done.facts
    yield f"{facts.name} for {target} in '{out}': {', '.join(done.files)}"
    yield (
        f"opset {facts.opset}, any size, batch and number of prompts; differs from torch by at most "
        f"{facts.difference:.0e} of the largest value (allowed: {facts.tolerance:.0e})"
    )
    yield f"weights: {facts.licence}, sha256 {facts.sha256[:16]}"
    if not rows:
        return
    yield ""
    table: list[tuple[str, ...]] = [("arithmetic", "s/image", "IoU box", "cost", "IoU 1 click", "cost")]
    for row in rows:
        scores = (row[f"{kind}_{prompt}"] for prompt in ("box", "1") for kind in ("iou", "cost"))
        table.append((row["arithmetic"], f"{row['seconds']:.3g}", *(f"{score:.3f}" for score in scores)))
    yield from align_rows(table)


def _note(known: bool) -> Sequence[str]:
    if known:
        return ()
    return ("no masks lie beside the pictures: IoU is with what fp32 finds at a grid of clicks",)
