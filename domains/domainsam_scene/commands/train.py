"""``domainsam scene train``: train a model on labelled samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam_cli.console import format_paths, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import RUN, bundle, collect_given, out_option, run_options
from domainsam_scene.commands.segment import parse_bands

if TYPE_CHECKING:
    from domainsam.train.start import Trained
    from domainsam_scene.train.recipe import TrainConfig, TrainOptions

PATH = click.Path(path_type=Path)
METHODS = ("both", "memorysam", "mlesam", "early", "single", "specialist")
BESIDE_ONLY = ("foundation", "rank", "checkpointing")
SPECIALIST_ONLY = ("trunk", "trunk_weights")
"""Options that only methods beside a foundation have, and that only the specialist has."""
LAYOUTS = ("plain", "deliver", "mcubes", "muses")


model_options = bundle(
    click.option("--rank", type=click.IntRange(min=1), help="Of the low-rank updates."),
    click.option("--image-size", type=click.IntRange(min=32), help="Longest side that the network sees."),
    click.option("--labels", help="Class names, separated by commas [default: the layout's]."),
    click.option(
        "--modality", "modalities", multiple=True, help="Sensor to train on; repeat. [default: all]"
    ),
    click.option("--foundation", help="Name or checkpoint file of the frozen generalist."),
    click.option("--trunk-weights", type=click.Path(), help="ImageNet weights of the trunk."),
    click.option("--trunk", help="Of the specialist: a network of timm by name."),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        help="How sensors are joined; specialist: one network alone, no foundation.",
    ),
)
"""Options that say what is built."""


def learning_options(command: Any) -> Any:
    """Options that say how it learns."""
    positive = click.FloatRange(min=0, min_open=True)
    for option in (
        click.option("--checkpointing", is_flag=True, help="Less memory, more time: recompute activations."),
        click.option("--drop", type=click.FloatRange(0, 0.95), help="Chance that a batch lacks a sensor."),
        click.option("--lr", type=positive, help="Highest learning rate."),
        click.option("--epochs", type=click.IntRange(min=1), help="Passes, instead of steps."),
        click.option("--steps", type=click.IntRange(min=1), help="Batches."),
        click.option("--batch-size", type=click.IntRange(min=1), help="Crops in a batch."),
        click.option("--crop", type=click.IntRange(min=32), help="Side of crops, a multiple of 32."),
    ):
        command = option(command)
    return command


reading_options = bundle(
    click.option("--dilate", type=click.IntRange(1, 9), help="Side of an event's square (muses) [1]."),
    click.option("--bands", multiple=True, metavar="NAME=N,N,N", help="Bands of a sensor (--geotiff)."),
    click.option("--geotiff", is_flag=True, help="FOLDER holds georeferenced rasters, a folder a sensor."),
    click.option("--range", "ranges", multiple=True, help="Values that become 0 and 1, such as depth=0,40."),
)
"""Options that say how sensors are read; the model file keeps them."""


@click.command("train")
@click.argument("root", type=PATH, metavar="FOLDER")
@click.option("--layout", type=click.Choice(LAYOUTS), default="plain", show_default=True)
@click.option("--split", default="train", show_default=True, help="Part of the layout to learn from.")
@click.option("--val-split", default="val", show_default=True, help="Part of the layout to judge on.")
@click.option("--val", type=PATH, help="Another folder to judge on [default: FOLDER].")
@out_option("Model file, .safetensors; logs and state go to NAME.training/ beside it.")
@click.option("--config", "config_path", type=PATH, help="Recipe as TOML; options given here come on top.")
@click.option("--paper", is_flag=True, help="As published: MemorySAM, or MLE-SAM with --method mlesam.")
@model_options
@learning_options
@reading_options
@run_options
@click.pass_context
def train(ctx: click.Context, /, root: Path, **given: Any) -> None:
    """Train a model on FOLDER: your own sensors, your own classes.

    The frozen generalist must be of SAM 2's kind: embedded_sam2 comes with
    the package; --method specialist has none. While learning, sensors are left out at random, so that the
    model also answers when some are missing. At the end the mean IoU on the
    validation split is shown, with all sensors and with the worst one missing.

    \b
    domainsam scene train DATA --layout mcubes --method memorysam -o model.safetensors
    domainsam scene train DATA --layout deliver --method memorysam --paper -o m.safetensors
    domainsam scene train DATA --method specialist --trunk-weights trunk.pth -o model.safetensors
    domainsam scene train RASTERS --geotiff --labels water,forest,town -o m.safetensors
    domainsam scene train DATA --labels road,car,other --modality rgb --modality thermal -o m.safetensors
    """  # noqa: D301 - click needs the control character itself
    from domainsam_scene.train.scene import train_model

    mark_resumable(ctx)
    result = train_model(root, gather_config(given), gather_options(given))
    if result.rank == 0:
        print_result(given, result.document, summarise_run(result), result.notes)


def gather_options(given: dict[str, Any]) -> TrainOptions:
    """Where things are and how they run, as one value."""
    from domainsam_scene.read.modalities import parse_range
    from domainsam_scene.settings import ReadOptions
    from domainsam_scene.train.recipe import TrainOptions

    names = ("layout", "split", "val_split", "val", "geotiff", *RUN)
    if given["geotiff"] and given["layout"] != "plain":
        raise ConfigError("--geotiff takes a folder of its own form, and --layout another: give one of them")
    if given["bands"] and not given["geotiff"]:
        raise ConfigError("--bands is for georeferenced rasters: give --geotiff too")
    read = ReadOptions(
        ranges=dict(parse_range(text) for text in given["ranges"]),
        dilate=given["dilate"],
        bands=dict(map(parse_bands, given["bands"])),
    )
    options = TrainOptions(read=read, **{name: given[name] for name in names})
    # What was published was computed in 32 bits throughout.
    published = given["paper"] and options.precision == "auto"
    return replace(options, precision="fp32") if published else options


def gather_config(given: dict[str, Any]) -> TrainConfig:
    """The recipe: its file or the defaults, the published one on request, then single options."""
    config = choose_recipe(given)
    check_method(given, config.network.method)
    network = collect_given(given, {"rank": "rank", "image_size": "image_size", "trunk": "trunk"})
    if given["checkpointing"]:
        network["checkpointing"] = True
    if given["labels"]:
        config = replace(config, labels=tuple(name.strip() for name in given["labels"].split(",")))
    if given["modalities"]:
        config = replace(config, modalities=given["modalities"])
    if given["steps"]:
        config = replace(config, epochs=0)
    return replace(
        config,
        network=replace(config.network, **network),
        crops=replace(config.crops, **collect_given(given, {"crop": "size"})),
        learning=replace(config.learning, **collect_given(given, {"drop": "drop"})),
        stage=replace(config.stage, **collect_given(given, {"steps": "steps", "lr": "lr"})),
        **collect_given(
            given, {name: name for name in ("foundation", "trunk_weights", "batch_size", "epochs")}
        ),
    )


def choose_recipe(given: dict[str, Any]) -> TrainConfig:
    """The recipe that file, ``--paper`` and ``--method`` name, of that method.

    Raises
    ------
    ConfigError
        If they contradict each other.
    """
    from domainsam_scene.train.recipe import RECIPES, TrainConfig, make_paper_recipe, read_recipe

    path, method = given["config_path"], given["method"]
    if path is not None:
        config = read_recipe(path)
    elif method == "specialist" and not given["paper"]:
        # By its place, or a file of that name in the folder at hand would be taken for it.
        config = read_recipe(RECIPES / f"{method}.toml")
    else:
        config = TrainConfig()
    if given["paper"] and path is None and method is None:
        # Without a word on it, what is published is MemorySAM.
        method = "memorysam"
    if method is not None:
        config = replace(config, network=replace(config.network, method=method))
    return make_paper_recipe(config, given["layout"]) if given["paper"] else config


def check_method(given: dict[str, Any], method: str) -> None:
    """Refuse options that the method has no use for.

    Raises
    ------
    ConfigError
        Naming the first one.
    """
    alone = method == "specialist"
    for name in BESIDE_ONLY if alone else SPECIALIST_ONLY:
        if given[name] not in (None, False):
            way = "name another --method" if alone else "add --method specialist"
            raise ConfigError(
                f"--{name.replace('_', '-')} is of no use to method {method}: leave it out, or {way}"
            )


def summarise_run(result: Trained) -> Iterator[str]:
    """The scores and where things are, for a person."""
    titles = {"mean_iou": "with all sensors", "worst_iou": "with the worst one missing"}
    for name, title in titles.items():
        if name in result.metrics:
            yield f"mean IoU on the validation split, {title}: {result.metrics[name]:.3f}"
    yield from format_paths({"model": result.out, "logs": result.folder})
