"""The pack's demo: find a ball by example, and follow it, in pictures that it draws itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from domainsam_cli.console import echo
from domainsam_cli.options import demo_folder_option, json_option, overwrite_option, seed_option

FRAMES = 4


@click.command()
@demo_folder_option
@seed_option
@overwrite_option
@json_option
def demo(out: Path, seed: int, overwrite: bool, as_json: bool) -> None:
    """Draw photographs and a film; find a red ball by example and follow it."""
    from domainsam_photo.generated import write_sample
    from domainsam_photo.run import run_find, run_track

    sample = out / "sample"
    write_sample(sample, seed, FRAMES, overwrite)
    like = f"{sample / 'example.png'}:{sample / 'example_mask.png'}"
    found = run_find(sample / "photos", out / "found", like=like, most=3, overwrite=overwrite)
    followed = run_track(
        sample / "film", out / "followed", mask=sample / "film_mask.png", overwrite=overwrite
    )
    if as_json:
        document = {"generated": True, "found": found.document(), "followed": followed.document()}
        echo(json.dumps(document, indent=2))
        return
    echo("These pictures are generated. They show that the tool works here, not how good it is.")
    for result in found.results:
        echo(result.sentence())
    for line in followed.lines():
        echo(line)
    echo(f"  {'sample':<12} {sample}")
    echo(f"  {'found':<12} {out / 'found'}")
    echo(f"  {'followed':<12} {out / 'followed'}")
    echo("Your own: domainsam photo find photos/ --like ref.jpg:ref_mask.png -o out/")
