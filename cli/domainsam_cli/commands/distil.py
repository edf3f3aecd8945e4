"""``domainsam distil``: teach a small foundation what a large one sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import RUN, Separated, out_option, run_options

if TYPE_CHECKING:
    from domainsam.train.start import Trained

PATH = click.Path(path_type=Path)
COUNTS = Separated(int, "whole numbers, one a stage,", "600,200", "N[,N]")
RATES = Separated(float, "rates, one a stage,", "1e-3,1e-4", "X[,X]")
WORDS = {
    "feature_error": "error of features",
    "feature_cosine": "cosine of features",
    "box_iou": "IoU with the teacher, box",
    "click_iou": "IoU with the teacher, click",
}


@click.command("distil")
@click.argument("images", type=PATH)
@click.option("--teacher", required=True, help="Foundation to learn from: name or weight file.")
@click.option(
    "--student", required=True, help="Foundation (edge_sam) or trunk of timm (repvit_m1) that learns."
)
@click.option(
    "--recipe", default="mse", show_default=True, help="mse, sami, prompt-loop, layerwise, end-to-end."
)
@out_option("Weight file, .safetensors, for --foundation; logs and state go to NAME.training/ beside it.")
@click.option("--start", type=PATH, help="Weights to begin with: the student's own kind, or its trunk's.")
@click.option("--config", type=PATH, help="TOML with constants of the recipe, such as prompts = 8.")
@click.option(
    "--side", type=int, help="Side of the input in pixels, a multiple of 32 [default: the teacher's]."
)
@click.option(
    "--views", type=click.IntRange(min=1), default=1, show_default=True, help="A picture, and parts of it."
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Views in a batch."
)
@click.option("--epochs", type=COUNTS, default=(), help="Passes, one number a stage [default: as published].")
@click.option("--steps", type=COUNTS, default=(), help="Batches instead of passes.")
@click.option("--lr", "rates", type=RATES, default=(), help="Highest learning rates [default: as published].")
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Batches between saved states.",
)
@click.option("--held-back", type=float, default=0.1, show_default=True, help="Share of pictures that judge.")
@click.option(
    "--cache", type=PATH, help="Folder of the teacher's features [default: NAME.training/features]."
)
@click.option("--cache-size", default="50G", show_default=True, help="How large it may grow.")
@run_options
@click.pass_context
def distil(ctx: click.Context, /, images: Path, config: Path | None, cache_size: str, **given: Any) -> None:
    """Teach a student foundation what a teacher sees, from a folder of pictures.

    Nobody need have marked anything in them: the teacher answers the prompts
    that the recipe asks. A tenth of the pictures is held back, and says at the
    end how near the student has come. The student begins with its teacher's
    decoder. The teacher's features are computed once and kept.

    \b
    domainsam distil photos/ --teacher sam_vit_h --student repvit_m1 -o student.safetensors
    domainsam distil photos/ --teacher embedded --student efficientnet_lite0 --steps 2000 -o small.safetensors
    domainsam distil photos/ --teacher sam_vit_b --student edge_sam --recipe prompt-loop -o edge.safetensors
    domainsam foundations evaluate marked/ --foundation student.safetensors
    """  # noqa: D301 - click needs the control character itself
    from domainsam.config import read_config
    from domainsam.distil.recipes import Constants
    from domainsam.distil.run import DistilOptions
    from domainsam.distil.run import distil as run
    from domainsam.limits import parse_size

    mark_resumable(ctx)
    constants = Constants() if config is None else read_config(Constants, config, Constants())
    names = (
        "teacher",
        "student",
        "recipe",
        "start",
        "side",
        "views",
        "batch_size",
        "epochs",
        "steps",
        "rates",
    )
    chosen = {name: given[name] for name in (*RUN, *names, "every", "held_back", "cache")}
    result = run(
        DistilOptions(images=images, cache_bytes=parse_size(cache_size, "--cache-size"), **chosen), constants
    )
    if result.rank == 0:
        print_result(given, result.document, summarise(result), result.notes)


def summarise(result: Trained) -> Iterator[str]:
    """The result for a person."""
    yield f"student: {result.out}"
    for name, words in WORDS.items():
        if name in result.metrics:
            before = result.metrics.get(f"{name}_before")
            told = "" if before is None else f"  (before: {before:.3f})"
            yield f"{words} on held-back pictures: {result.metrics[name]:.3f}{told}"
    yield f"logs: {result.folder}"
