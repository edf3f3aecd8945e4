"""The urban pack's demo: its main job on a scene that it draws itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from domainsam_cli.options import demo_folder_option, json_option, overwrite_option, seed_option
from domainsam_urban.map_options import MapOptions, OutputOptions, ShapeOptions

SIDE = 1024
"""Pixels of the sample, both ways: about 85 hectares."""
MIN_AREA_M2 = 1000.0
"""Nobody outlines a settlement smaller than a couple of house plots."""


@click.command()
@demo_folder_option
@seed_option
@overwrite_option
@json_option
def demo(out: Path, seed: int, overwrite: bool, as_json: bool) -> None:
    """Draw a scene of settlements and map it with the weights inside the package."""
    from domainsam_urban.pipeline import map_scenes
    from domainsam_urban.sample import agreement, write_sample

    scene, truth = out / "sample.tif", out / "sample_truth.tif"
    write_sample(scene, truth, SIDE, seed, overwrite)
    outputs = OutputOptions(
        vectors=(out / "settlements.gpkg",),
        probability=out / "probability.tif",
        mask=out / "mask.tif",
        preview=out / "preview.png",
        summary=out / "summary.json",
        overwrite=overwrite,
    )
    batch = map_scenes([str(scene)], MapOptions(outputs, shape=ShapeOptions(min_area=MIN_AREA_M2)))
    result = batch.results[0]
    iou = agreement(out / "mask.tif", truth)
    if as_json:
        click.echo(json.dumps({**result.document(), "generated": True, "iou_with_truth": iou}, indent=2))
        return
    click.echo("This scene is generated. It shows that the tool works here, not how good the model is.")
    click.echo(result.sentence())
    for kind, path in {"scene": scene, "truth": truth, **result.paths}.items():
        click.echo(f"  {kind:<12} {path}")
    click.echo(f"Agreement with the generator's truth: IoU {iou:.2f}.")
    click.echo("Your own scene: domainsam urban map scene.tif -o settlements.gpkg")
