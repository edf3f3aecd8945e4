"""``domainsam urban train``: train the settlement model on labelled scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import format_paths, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import RUN, collect_given, out_option, run_options
from domainsam_urban.commands.labels import choice_options, gather_choice
from domainsam_urban.commands.map import reading_options
from domainsam_urban.settings import ReadOptions

if TYPE_CHECKING:
    from domainsam.train.start import Trained
    from domainsam_urban.train.recipe import TrainConfig, TrainOptions

PATH = click.Path(path_type=Path)
WEIGHTS = ("encoder_weights", "trunk_weights")
PARTS = ("box", "mask", "sam_embedding", "segformer_embedding", "sam")


def model_options(command: Any) -> Any:
    """Options that say what is built."""
    for option in (
        click.option("--no-sam", is_flag=True, help="Ablation: the SegFormer alone."),
        click.option(
            "--no-segformer-embedding", is_flag=True, help="Ablation: no SegFormer embedding prompt."
        ),
        click.option("--no-sam-embedding", is_flag=True, help="Ablation: no foundation embedding prompt."),
        click.option("--no-mask", is_flag=True, help="Ablation: no mask prompt."),
        click.option("--no-box", is_flag=True, help="Ablation: no box prompt."),
        click.option(
            "--fusion", type=click.Choice(["sam", "gate"]), help="The foundation's mask, or a blend."
        ),
        click.option("--mixer", type=click.Choice(["mlp", "add"]), help="How embeddings join the box."),
        click.option("--start-from", type=click.Path(), help="Model file to train further."),
        click.option("--encoder-weights", help="Pretrained encoder: folder, or hub name on this machine."),
        click.option(
            "--trunk-weights",
            type=click.Path(),
            help="Pretrained weights of a trunk: a file of tensors.",
        ),
        click.option("--encoder", help="SegFormer, mit_b0 to mit_b5, or any trunk of timm by name."),
        click.option("--foundation", help="Name or checkpoint file of the frozen generalist."),
    ):
        command = option(command)
    return command


def learning_options(command: Any) -> Any:
    """Options that say how it learns."""
    count, positive = click.IntRange(min=0), click.FloatRange(min=0, min_open=True)
    for option in (
        click.option("--block", type=positive, help="Side of blocks for the split, in metres."),
        click.option(
            "--cache", type=click.FloatRange(min=0), help="Gigabytes for cached features; see below."
        ),
        click.option("--lr", type=positive, help="Highest learning rate of both stages."),
        click.option("--joint-steps", type=count, help="Batches of the joint stage."),
        click.option("--coarse-steps", type=count, help="Batches of the coarse stage."),
        click.option("--batch-size", type=click.IntRange(min=1), help="Crops in a batch, in both stages."),
        click.option(
            "--crop", type=click.IntRange(min=32), help="Side of crops in pixels, a multiple of 32."
        ),
    ):
        command = option(command)
    return command


@click.command("train")
@click.argument("inputs", nargs=-1, required=True, metavar="SCENE...")
@click.option("--labels", type=PATH, required=True, help="Polygons, a mask raster, or a folder of either.")
@choice_options
@click.option("--val", type=PATH, help="Scenes for validation with labels beside them [default: blocks].")
@out_option("Model file, .safetensors; logs and state go to NAME.training/ beside it.")
@click.option("--config", "config_path", type=PATH, help="Recipe: TOML file or joint; options come on top.")
@click.option("--paper", is_flag=True, help="The recipe that UV-SAM was published with.")
@model_options
@learning_options
@reading_options
@run_options
@click.pass_context
def train(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Train the settlement model on your own scenes and labels.

    SCENE is a raster or a folder of them. In a folder of labels the file for
    X.tif or X_image.tif is X_mask.tif, X.tif or X.gpkg. Without --val, blocks
    of ground are kept apart, so that overlapping scenes never leak. With
    --cache the joint stage learns from fixed tiles, whose foundation features
    are computed once. At the end the pooled IoU on validation ground is shown.

    \b
    domainsam urban train scenes/ --labels labels.gpkg -o model.safetensors
    domainsam urban train train/ --labels train/ --val val/ --foundation sam_vit_b -o m.safetensors
    domainsam urban train scenes/ --labels labels.gpkg -o model.safetensors --resume
    """  # noqa: D301 - click needs the control character itself
    from domainsam_urban.train.settlement import train_model

    mark_resumable(ctx)
    options = gather_options(given)
    result = train_model(inputs, given["labels"], gather_config(given), options, given["paper"])
    if result.rank == 0:
        print_result(given, result.document, summarise_run(result), result.notes)


def gather_options(given: dict[str, Any]) -> TrainOptions:
    """Where things are and how they run, as one value."""
    from domainsam_urban.train.recipe import TrainOptions

    read = ReadOptions(
        given["bands"], given["nodata"], None, given["normalize"], allow_no_crs=given["allow_no_crs"]
    )
    options = TrainOptions(
        read=read, choice=gather_choice(given), **{name: given[name] for name in ("val", *RUN)}
    )
    # What was published was computed in 32 bits throughout.
    published = given.get("paper") and options.precision == "auto"
    return replace(options, precision="fp32") if published else options


def gather_config(given: dict[str, Any]) -> TrainConfig:
    """The recipe: its file or the defaults, the published one on request, then single options."""
    from domainsam_urban.train.recipe import TrainConfig, make_paper_recipe, read_recipe

    config = TrainConfig() if given["config_path"] is None else read_recipe(given["config_path"])
    if given["paper"]:
        config = make_paper_recipe(config)
    names = {"encoder": "encoder", "mixer": "mixer", "fusion": "fusion"}
    off = {part: False for part in PARTS if given[f"no_{part}"]}
    prompter = replace(
        config.prompter, **collect_given(given, names), parts=replace(config.prompter.parts, **off)
    )
    rate = collect_given(given, {"lr": "lr"})
    sizes = ("batch_size", "joint_batch_size")
    return replace(
        config,
        prompter=prompter,
        crops=replace(config.crops, **collect_given(given, {"crop": "size"})),
        split=replace(config.split, seed=given["seed"], **collect_given(given, {"block": "size_m"})),
        coarse=replace(config.coarse, **rate, **collect_given(given, {"coarse_steps": "steps"})),
        joint=replace(config.joint, **rate, **collect_given(given, {"joint_steps": "steps"})),
        **collect_given(given, {name: name for name in ("foundation", *WEIGHTS, "start_from", "resolution")}),
        **collect_given(given, {"cache": "cache_gb"}),
        **({} if given["batch_size"] is None else dict.fromkeys(sizes, given["batch_size"])),
    )


def summarise_run(result: Trained) -> Iterator[str]:
    """The scores and where things are, for a person."""
    titles = {"coarse_iou": "coarse stage", "full_iou": "full model"}
    for name, title in titles.items():
        if name in result.metrics:
            yield f"pooled IoU on validation ground, {title}: {result.metrics[name]:.3f}"
    yield from format_paths({"model": result.out, "logs": result.folder})
