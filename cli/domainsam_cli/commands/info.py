"""``domainsam info``: describe a file, and what each pack would do with it."""

from __future__ import annotations

import json
import logging

import click

from domainsam.errors import DependencyError, InputError, PackError
from domainsam.packs import find_packs, load_pack
from domainsam_cli.console import echo
from domainsam_cli.options import json_option, verbose_option

log = logging.getLogger(__name__)


@click.command()
@click.argument("file")
@json_option
@verbose_option
def info(file: str, as_json: bool, verbose: bool) -> None:
    r"""Say what FILE holds and what each pack would do with it.

    \b
    domainsam info scene.tif
    domainsam info mosaic.vrt --json
    """
    answers = ask_packs(file)
    if as_json:
        echo(json.dumps(answers, indent=2, default=str))
        return
    for pack, facts in answers.items():
        echo(f"{file} (as the {pack} pack sees it)")
        width = max(len(key) for key in facts) + 2
        for key, value in facts.items():
            echo(f"  {key:<{width}}{value}")


def ask_packs(file: str) -> dict[str, dict[str, object]]:
    """Facts about a file from every pack that can read it.

    Raises
    ------
    InputError
        If no pack can; the reason is that of the first pack that tried.
    """
    answers: dict[str, dict[str, object]] = {}
    refusals: list[InputError] = []
    for name in find_packs():
        try:
            pack = load_pack(name)
            if pack.describe is None:
                continue
            facts = pack.load("describe")(file)
            if facts:
                answers[name] = facts
        except InputError as error:
            refusals.append(error)
        except (PackError, DependencyError) as error:
            log.warning("%s", error)
    if not answers:
        raise refusals[0] if refusals else InputError(f"{file}: no installed pack reads files of this kind")
    return answers
