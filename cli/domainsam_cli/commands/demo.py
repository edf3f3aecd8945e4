"""``domainsam demo``: run a pack's main job on a sample that it generates."""

from __future__ import annotations

from pathlib import Path

import click

from domainsam.errors import PackError
from domainsam.packs import find_packs, load_pack
from domainsam_cli.options import (
    demo_folder_option,
    json_option,
    overwrite_option,
    seed_option,
    verbose_option,
)

MAIN = "urban"
"""The pack whose job is shown to who does not ask for another."""


@click.command()
@demo_folder_option
@click.option("--pack", "name", help="Which pack [default: urban, or else the first that has a demo].")
@seed_option
@overwrite_option
@json_option
@verbose_option
@click.pass_context
def demo(
    ctx: click.Context,
    out: Path,
    name: str | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Generate a sample, run a pack's main job on it, and say where the results are.

    Works offline on the weights inside the package, along the same code path as real data.
    """
    command = load_pack(name or find_demo_pack()).load("demo")
    ctx.invoke(command, out=out, seed=seed, overwrite=overwrite, as_json=as_json)


def find_demo_pack() -> str:
    """The main pack if it is installed, or else the first by name that has a demo."""
    packs = find_packs()
    for name in sorted(packs, key=lambda name: (name != MAIN, name)):
        try:
            if load_pack(name).demo is not None:
                return name
        except PackError:
            continue
    raise PackError("no installed pack has a demo; `domainsam packs` lists what is installed")
