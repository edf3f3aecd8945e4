"""``domainsam urban train-classifier``: train the classifier that skips empty ground."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import format_paths, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import collect_given, out_option, run_options
from domainsam_urban.commands.labels import choice_options
from domainsam_urban.commands.map import reading_options
from domainsam_urban.commands.train import gather_options

if TYPE_CHECKING:
    from domainsam.train.start import Trained
    from domainsam_urban.train.classifier import ClassifierRecipe

PATH = click.Path(path_type=Path)
NETWORKS = ("resnet18", "resnet34", "resnet50")


def learning_options(command: Any) -> Any:
    """Options that say what is built and how it learns."""
    positive = click.FloatRange(min=0, min_open=True)
    for option in (
        click.option("--block", type=positive, help="Side of blocks for the split, in metres."),
        click.option("--lr", type=positive, help="Highest learning rate [default: 0.001]."),
        click.option("--steps", type=click.IntRange(min=1), help="Batches [default: 1000]."),
        click.option("--batch-size", type=click.IntRange(min=1), help="Cells in a batch [default: 16]."),
        click.option("--cell", type=click.IntRange(min=32), help="Side of cells in pixels [default: 192]."),
        click.option(
            "--width", type=click.IntRange(min=1), help="Channels of the first stage [default: 16]."
        ),
        click.option("--network", type=click.Choice(NETWORKS), help="Network [default: resnet18]."),
    ):
        command = option(command)
    return command


@click.command("train-classifier")
@click.argument("inputs", nargs=-1, required=True, metavar="SCENE...")
@click.option("--labels", type=PATH, required=True, help="Polygons, a mask raster, or a folder of either.")
@choice_options
@click.option("--val", type=PATH, help="Scenes for validation with labels beside them [default: blocks].")
@out_option("Classifier file, .safetensors; logs and state go to NAME.training/ beside it.")
@learning_options
@reading_options
@run_options
@click.pass_context
def train_classifier(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Train the classifier that passes over ground without settlement.

    It tells of every cell of ground whether it holds settlement at all.
    `urban map`, `urban trend` and `urban change` take its file as --classifier:
    cells that it finds empty get probability 0, tiles of such cells alone are
    not mapped at all. Scenes and labels are as for `urban train`. Its threshold
    is set so that cells with 99 % of the settlement on validation ground stay.

    \b
    domainsam urban train-classifier scenes/ --labels labels.gpkg -o classifier.safetensors
    domainsam urban map scene.tif -o settlements.gpkg --classifier classifier.safetensors
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.train import classifier as classifier_training

    mark_resumable(ctx)
    options = gather_options(given)
    result = classifier_training.train_classifier(inputs, given["labels"], gather_recipe(given), options)
    if result.rank == 0:
        print_result(given, result.document, summarise_run(result), result.notes)


def gather_recipe(given: dict[str, Any]) -> ClassifierRecipe:
    """The defaults with what was given on top."""
    from domainsam_urban.train.classifier import ClassifierRecipe

    recipe = ClassifierRecipe()
    names = {"network": "network", "width": "width", "cell": "side", "resolution": "resolution"}
    return replace(
        recipe,
        model=replace(recipe.model, **collect_given(given, names)),
        split=replace(recipe.split, seed=given["seed"], **collect_given(given, {"block": "size_m"})),
        learning=replace(recipe.learning, **collect_given(given, {"lr": "lr", "steps": "steps"})),
        **collect_given(given, {"batch_size": "batch_size"}),
    )


def summarise_run(result: Trained) -> Iterator[str]:
    """The scores and where things are, for a person."""
    metrics = result.metrics
    if metrics:
        yield (
            f"validation ground, {metrics['cells']:.0f} cells: AUC {metrics['auc']:.3f}; threshold "
            f"{metrics['threshold']:.3f} passes over {metrics['empty_found']:.0%} of the empty cells "
            f"and keeps {metrics['area_kept']:.1%} of the settlement"
        )
    yield from format_paths({"model": result.out, "logs": result.folder})
