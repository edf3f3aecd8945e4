"""Options of the commands that ask a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam.prompter.language.codecs import CODECS
from domainsam.prompter.language.patterns import MOST, PATTERNS
from domainsam.prompter.language.speakers import MODES, MOST_TOKENS, AskOptions
from domainsam_cli.options import Decorator, bundle

SHARE = click.FloatRange(0, 1)
PATH = click.Path(path_type=Path)


def mllm_option(required: bool = True) -> Decorator[Any]:
    """``--mllm``: which model is asked."""
    return click.option(
        "--mllm",
        required=required,
        metavar="PATH|NAME|URL#NAME",
        help="Model that sees: folder, name in Hugging Face's cache, or a server's address, "
        "http://localhost:8000/v1#NAME.",
    )


manner_options = bundle(
    click.option(
        "--timeout",
        type=click.FloatRange(0, min_open=True),
        default=AskOptions.timeout,
        show_default=True,
        help="Seconds that a server may take for an answer.",
    ),
    click.option(
        "--asked-together",
        type=click.IntRange(min=1),
        default=AskOptions.at_once,
        show_default=True,
        help="Questions that the model answers together.",
    ),
    click.option(
        "--most",
        type=click.IntRange(1, 65_535),
        default=AskOptions.most,
        show_default=True,
        help="So many objects at most, the best.",
    ),
    click.option(
        "--least-score",
        type=SHARE,
        default=AskOptions.least,
        show_default=True,
        help="Least score of an object.",
    ),
    click.option(
        "--sure-no",
        type=SHARE,
        default=AskOptions.no,
        show_default=True,
        help="pqpp: a point lies beside the object from this confidence on; tested first.",
    ),
    click.option(
        "--sure-yes",
        type=SHARE,
        default=AskOptions.yes,
        show_default=True,
        help="pqpp: a point lies on the object from this confidence on; the others are dropped.",
    ),
    click.option(
        "--query-points",
        type=click.IntRange(1, MOST),
        default=AskOptions.points,
        show_default=True,
        help="pqpp: points of a box that are asked about.",
    ),
    click.option(
        "--query-pattern",
        type=click.Choice(PATTERNS),
        default=PATTERNS[0],
        show_default=True,
        help="pqpp: how they lie.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(1, MOST_TOKENS),
        default=AskOptions.max_tokens,
        show_default=True,
        help="Longest answer; one that is cut off is none.",
    ),
    click.option("--adapter", type=PATH, help="LoRA adapter: folder of PEFT's, or file of train-words."),
    click.option("--wording", type=PATH, help="What the model is asked, TOML [default: ours]."),
    click.option(
        "--coordinates",
        type=click.Choice(tuple(CODECS)),
        help="How the model writes places [default: as its family does].",
    ),
    click.option(
        "--mode",
        type=click.Choice(MODES),
        default=MODES[0],
        show_default=True,
        help="ppg: the model writes box and points; pqpp: a box, then whether points lie on the object.",
    ),
)
"""How a model is asked."""
ask_options = bundle(manner_options, mllm_option())
"""Which model is asked, and how."""
