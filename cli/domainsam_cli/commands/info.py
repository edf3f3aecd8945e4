"""``domainsam info``: describe a file, and what each pack would do with it."""

from __future__ import annotations

import json

import click

from domainsam.packs import describe_file
from domainsam_cli.console import echo
from domainsam_cli.options import json_option, limit_options, verbose_option


@click.command()
@click.argument("file")
@json_option
@verbose_option
@limit_options
def info(file: str, as_json: bool, verbose: bool) -> None:
    r"""Say what FILE holds and what each pack would do with it.

    \b
    domainsam info scene.tif
    domainsam info mosaic.vrt --json
    domainsam info model.safetensors
    """
    answers = describe_file(file)
    if as_json:
        echo(json.dumps(answers, indent=2, default=str))
        return
    for pack, facts in answers.items():
        echo(file if pack == "core" else f"{file} (as the {pack} pack sees it)")
        width = max(len(key) for key in facts) + 2
        for key, value in facts.items():
            echo(f"  {key:<{width}}{value}")
