"""``domainsam ct train``: train the organ model on labelled cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam_cli.console import format_paths, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import RUN, Separated, bundle, collect_given, out_option, run_options
from domainsam_ct.commands.options import identifier_options, make_identifiers
from domainsam_ct.settings import METHODS

if TYPE_CHECKING:
    from domainsam_ct.train.organs import TrainedOrgans
    from domainsam_ct.train.recipe import TrainConfig

PATH = click.Path(path_type=Path)
DEPTHS = Separated(int, "a list of strides", "16,8,4", "N,N,N")

LADDER_ONLY = ("depths", "specialist", "specialist_weights", "foundation", "cache", "variants")
SPECIALIST_ONLY = ("trunk", "trunk_weights")
"""Options that only one of the methods has."""

model_options = bundle(
    click.option("--window", nargs=2, type=float, metavar="LOW HIGH", help="HU that become black and white."),
    click.option("--neighbours", type=click.IntRange(0, 1), help="Slices on either side that the CNN sees."),
    click.option(
        "--depths",
        type=DEPTHS,
        help="Strides at which encoder and CNN are blended, such as 16 or 16,8,4.",
    ),
    click.option("--specialist-weights", type=click.Path(), help="ImageNet weights of the ResNet."),
    click.option("--specialist", help="resnet18, another ResNet of timm, or mit_b0 to mit_b5."),
    click.option("--foundation", help="Name or checkpoint file of the frozen generalist."),
    click.option("--start-from", help="Model to train further: a file, or abdomen or abdomen_open."),
    click.option("--trunk-weights", type=click.Path(), help="ImageNet weights of the trunk."),
    click.option("--trunk", help="Of the specialist alone: a network of timm by name."),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        help="specialist: a network alone; ladder: SAM-LST's, beside a frozen foundation "
        "[default: the recipe's, else specialist].",
    ),
)
"""Options that say what is built."""


def learning_options(command: Any) -> Any:
    """Options that say how it learns."""
    count, positive = click.IntRange(min=1), click.FloatRange(min=0, min_open=True)
    for option in (
        click.option("--fold", type=click.IntRange(min=0), help="Which fold is kept, from 0."),
        click.option("--folds", type=click.IntRange(min=2), help="Keep one of so many parts of the cases."),
        click.option(
            "--val-share", type=click.FloatRange(0, 1, max_open=True), help="Share of cases kept; 0 for none."
        ),
        click.option(
            "--cache", type=click.FloatRange(min=0), help="Gigabytes for frozen embeddings; 0 for none."
        ),
        click.option("--variants", type=click.IntRange(min=0), help="Versions of each slice; 0 for endless."),
        click.option("--lr", type=positive, help="Highest learning rate."),
        click.option("--steps", type=count, help="Batches, in place of epochs."),
        click.option("--epochs", type=count, help="Passes over all slices."),
        click.option("--batch-size", type=count, help="Slices in a batch."),
        click.option(
            "--crop", type=click.IntRange(min=32), help="Side of training slices, a multiple of 32."
        ),
    ):
        command = option(command)
    return command


@click.command("train")
@click.argument("inputs", nargs=-1, required=True, type=PATH, metavar="CASE...")
@click.option("--labels", type=PATH, help="Label file, or folder of label files named as the cases.")
@click.option(
    "--label-map",
    default="synapse",
    show_default=True,
    help="synapse, btcv, totalsegmentator, or a TOML file with [labels].",
)
@click.option("--ignore-unknown", is_flag=True, help="Label values outside the map are background.")
@click.option("--train-list", type=PATH, help="CASE is the published Synapse folder; its training list.")
@click.option("--test-list", type=PATH, help="List of its test volumes.")
@out_option("Model file, .safetensors; logs and state go to NAME.training/ beside it.")
@click.option(
    "--config",
    "config_path",
    type=PATH,
    help="Recipe: TOML file, abdomen or abdomen_open; options come on top.",
)
@click.option("--paper", is_flag=True, help="The recipe that SAM-LST was published with.")
@model_options
@learning_options
@identifier_options
@run_options
@click.pass_context
def train(ctx: click.Context, /, inputs: tuple[Path, ...], **given: Any) -> None:
    """Train the organ model on your own CT and labels.

    CASE is a volume, a DICOM folder, or a folder of either. Label values are
    checked against the label map, and labels against their image's grid,
    before anything is learned. Whole cases are kept for validation. Beside a
    foundation, frozen embeddings of each slice's versions are kept on disk, so that
    later epochs cost the side network alone. At the end Dice on the kept cases is shown.

    \b
    domainsam ct train cases/ --labels labels/ --label-map labels.toml -o model.safetensors
    domainsam ct train cases/ --labels labels/ --start-from abdomen -o model.safetensors
    domainsam ct train cases/ --labels labels/ --method ladder --folds 5 --fold 0 -o m.safetensors
    domainsam ct train Synapse/ --train-list train.txt --test-list test_vol.txt --paper -o m.safetensors
    """  # noqa: D301 - click needs the control character itself
    from domainsam_ct.train.organs import TrainOptions, train_model

    mark_resumable(ctx)
    names = (
        *("labels", "label_map", "ignore_unknown", "train_list", "test_list"),
        *RUN,
    )
    rule = make_identifiers(given, [given["out"]])
    options = TrainOptions(**{name: given[name] for name in names}, identifiers=rule)
    if given["paper"] and options.precision == "auto":
        # What was published was computed in 32 bits throughout.
        options = replace(options, precision="fp32")
    result = train_model(inputs, gather_config(given), options)
    if result.rank == 0:
        print_result(given, result.document, summarise_run(result), result.notes)


def gather_config(given: dict[str, Any]) -> TrainConfig:
    """The recipe: its file or the defaults, the published one on request, then single options."""
    config = choose_recipe(given)
    model, network = config.model, config.model.network
    foreign = LADDER_ONLY if network.method == "specialist" else SPECIALIST_ONLY
    for name in foreign:
        if given[name] is not None:
            other = "ladder" if network.method == "specialist" else "specialist"
            raise ConfigError(
                f"--{name.replace('_', '-')} is of no use to a {network.method}: leave it out, "
                f"or add --method {other}"
            )
    ladder = replace(network.ladder, **collect_given(given, {"specialist": "specialist"}))
    if given["depths"] is not None:
        ladder = replace(ladder, depths=given["depths"])
    own = {"neighbours": "neighbours", "trunk": "trunk"}
    network = replace(network, ladder=ladder, **collect_given(given, own))
    model = replace(model, network=network, **collect_given(given, {"window": "window"}))
    split = collect_given(given, {"folds": "folds", "fold": "fold", "val_share": "share"})
    rates = collect_given(given, {"lr": "lr", "steps": "steps"})
    plain = {
        **{name: name for name in ("foundation", "specialist_weights", "trunk_weights", "start_from")},
        **{name: name for name in ("crop", "batch_size", "epochs")},
        **{"variants": "variants", "cache": "cache_gb"},
    }
    if given["crop"] is not None and config.crop_rows:
        from domainsam_ct.model.predict import STRIDE

        # As low against its width as the recipe has it.
        rows = round(config.crop_rows * given["crop"] / config.crop / STRIDE) * STRIDE
        config = replace(config, crop_rows=max(STRIDE, rows))
    return replace(
        config,
        model=model,
        split=replace(config.split, **split),
        optimisation=replace(config.optimisation, **rates),
        **collect_given(given, plain),
    )


def choose_recipe(given: dict[str, Any]) -> TrainConfig:
    """The recipe that file, ``--paper`` and ``--method`` name.

    Raises
    ------
    ConfigError
        If they contradict each other.
    """
    from domainsam_ct.train.recipe import SplitOptions, TrainConfig, make_paper_recipe, read_recipe

    method = given["method"]
    if given["config_path"] is not None:
        config = read_recipe(given["config_path"])
        own = config.model.network.method
        if method not in (None, own):
            raise ConfigError(
                f"--method {method}: the recipe {given['config_path']} is of a {own}; leave one out"
            )
    elif given["paper"] or method == "ladder":
        config = TrainConfig()
    else:
        # The shipped one keeps no case for validation, because folds told what it is worth.
        config = replace(read_recipe(Path("abdomen")), split=SplitOptions())
    if not given["paper"]:
        return config
    if method == "specialist" or config.model.network.method == "specialist":
        raise ConfigError("--paper is SAM-LST's recipe, of a ladder: leave out --method or --config")
    return make_paper_recipe(config)


def summarise_run(result: TrainedOrgans) -> Iterator[str]:
    """The scores and where things are, for a person."""
    if "dice" in result.metrics:
        yield f"mean Dice on the cases kept for validation: {result.metrics['dice']:.3f}"
    for name, value in result.metrics.items():
        if name.startswith("dice_"):
            yield f"  {name.removeprefix('dice_'):<20} {value:.3f}"
    shares = ", ".join(f"{share:.2f} at stride {depth}" for depth, share in result.gates.items())
    if shares:
        yield f"  {'gate':<12} the foundation's share is {shares}"
    yield from format_paths({"model": result.out, "logs": result.folder})
