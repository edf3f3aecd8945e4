"""``domainsam train-words``: teach a model words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.teach.methods import METHODS, OPTIONS, TeachingOption, find_method
from domainsam_cli.console import print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import RUN, Separated, out_option, run_options

if TYPE_CHECKING:
    from domainsam.train.start import Trained

COUNTS = Separated(int, "whole numbers, one a stage,", "600,200", "N[,N]")
RATES = Separated(float, "rates, one a stage,", "1e-3,1e-4", "X[,X]")


def _kind_of(option: TeachingOption) -> Any:
    if option.choices:
        return click.Choice(option.choices)
    if option.kind == "whole":
        return click.IntRange(min=None if option.least is None else int(option.least))
    if option.kind == "number":
        return click.FloatRange(min=option.least)
    return click.Path(path_type=Path) if option.kind == "path" else str


def method_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that only some methods have, each with their names in its help."""
    for name, option in reversed(list(OPTIONS.items())):
        having = ", ".join(row.name for row in METHODS.values() if name in row.options)
        flag = f"--{name.replace('_', '-')}"
        told = f"[{having}] {option.help}"
        if option.kind == "flag":
            command = click.option(flag, name, is_flag=True, default=None, help=told)(command)
        else:
            command = click.option(flag, name, type=_kind_of(option), help=told)(command)
    return command


METHOD_HELP = " ".join(f"{row.name}: {row.summary}" for row in METHODS.values())


@click.command("train-words")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--method", type=click.Choice(list(METHODS)), required=True, help=METHOD_HELP)
@out_option("File of what was learnt, .safetensors; logs and state go to NAME.training/ beside it.")
@method_options
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Pictures in a batch."
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
@run_options
@click.pass_context
def train_words(ctx: click.Context, /, data: Path, method: str, **given: Any) -> None:
    """Teach a model words, by the training of a paper.

    What DATA is depends on the method: ovsam takes a folder of pictures, and for its
    second stage one of COCO's layout. Options that only some methods have name them in
    brackets; with another method they are refused.

    \b
    domainsam train-words coco/ --method ovsam --clip RN50x16.pt --teacher sam_vit_h -o ovsam.safetensors
    """  # noqa: D301 - click needs the control character itself
    from domainsam.teach.methods import check_options, teach_words
    from domainsam.teach.options import TeachOptions

    mark_resumable(ctx)
    own = check_options(find_method(method), {name: given[name] for name in OPTIONS})
    shared = ("batch_size", "epochs", "steps", "rates", "every", "held_back")
    options = TeachOptions(**{name: given[name] for name in (*RUN, *shared)})
    result = teach_words(method, data, options, **own)
    if result.rank == 0:
        print_result(given, result.document, summarise(result), result.notes)


def summarise(result: Trained) -> Iterator[str]:
    """The result for a person."""
    yield f"learnt: {result.out}"
    for name, value in result.metrics.items():
        yield f"{name.replace('_', ' ')}: {value:.4g}"
    yield f"logs: {result.folder}"
