"""The scene pack's demo: its main job on scenes that it draws itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from domainsam_cli.console import echo
from domainsam_cli.options import demo_folder_option, json_option, overwrite_option, seed_option

SAMPLES = 4
SIDE = 256


@click.command()
@demo_folder_option
@seed_option
@overwrite_option
@json_option
def demo(out: Path, seed: int, overwrite: bool, as_json: bool) -> None:
    """Draw street scenes seen by four sensors and segment them, also with sensors missing."""
    from domainsam_scene.evaluate.evaluate import EvaluateOptions, evaluate_layout
    from domainsam_scene.generated.files import write_samples
    from domainsam_scene.model.scene import load_model
    from domainsam_scene.segment import segment_layout
    from domainsam_scene.settings import OutputOptions, SegmentOptions

    model = load_model()
    samples = out / "samples"
    write_samples(samples, SAMPLES, SIDE, seed, overwrite)
    outputs = OutputOptions(
        map=out / "maps",
        preview=out / "previews" / "{stem}.png",
        summary=out / "summaries",
        overwrite=overwrite,
    )
    batch = segment_layout("plain", samples, None, SegmentOptions(outputs, quiet=True), model)
    scores = evaluate_layout("plain", samples, None, model, EvaluateOptions(protocols=("subsets",)))
    whole = scores.interval(scores.variants[0].name).value
    falls = scores.sensor_value()
    if as_json:
        document = {
            "generated": True,
            "scenes": [result.document() for result in batch.results],
            "miou": whole,
            "fall_without_sensor": falls,
        }
        echo(json.dumps(document, indent=2))
        return
    echo("These scenes are generated. They show that the tool works here, not how good the model is.")
    for result in batch.results:
        echo(result.sentence())
    echo(f"  {'samples':<12} {samples}")
    echo(f"  {'maps':<12} {out / 'maps'}")
    echo(f"  {'previews':<12} {out / 'previews'}")
    lost = ", ".join(f"{name} {fall:.2f}" for name, fall in falls.items())
    echo(f"Agreement with the generator's truth: mean IoU {whole:.2f}; it falls without {lost}.")
    echo("Your own scene: domainsam scene segment --rgb a.png --depth a_depth.png -o map.png")
