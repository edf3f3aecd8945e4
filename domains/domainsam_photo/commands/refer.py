"""``domainsam photo refer``: what words mean in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam_cli.asking import ask_options
from domainsam_cli.console import get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import job_options
from domainsam_photo.commands.shared import PATH, many_options, summarise
from domainsam_photo.run_words import refer_options


@click.command("refer")
@click.argument("picture", type=PATH)
@click.argument("phrase")
@ask_options
@many_options
@click.pass_context
def refer_command(ctx: click.Context, /, picture: Path, phrase: str, **given: Any) -> None:
    """Segment in a picture what a phrase means, as a language model sees it.

    The model answers with places, the foundation makes masks of them. What the
    model says is kept, so that --resume asks nothing twice.

    \b
    domainsam photo refer image.jpg "the man in the red coat" --mllm models/Qwen3-VL-4B -o masks/
    domainsam photo refer image.jpg "the red roof" --mllm models/sam4mllm --mode pqpp -o masks/
    """  # noqa: D301 - click needs the control character itself
    from domainsam_photo.refer import refer_picture

    mark_resumable(ctx)
    options = refer_options(**job_options(given), made_by=get_command_line())
    batch = refer_picture(picture, phrase, options)
    print_result(given, batch.document, summarise(batch, told=False))
