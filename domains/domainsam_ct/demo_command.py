"""The CT pack's demo: its main job on a volume that it generates itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from domainsam_cli.options import demo_folder_option, json_option, overwrite_option, seed_option
from domainsam_ct.segment_options import OutputOptions, SegmentOptions

SHAPE, SPACING = (128, 96, 24), (2.8, 2.8, 6.0)
"""Small enough for a minute on a laptop's CPU."""


@click.command()
@demo_folder_option
@seed_option
@overwrite_option
@json_option
def demo(out: Path, seed: int, overwrite: bool, as_json: bool) -> None:
    """Generate an abdomen of ellipsoids and segment it with the weights inside the package."""
    from domainsam.staging import Staging
    from domainsam_ct.evaluate import Names, compare
    from domainsam_ct.evaluation import EvaluationOptions
    from domainsam_ct.labels import load_label_map
    from domainsam_ct.pairing import Pair
    from domainsam_ct.pipeline import segment_cases
    from domainsam_ct.sample import draw_abdomen, write_sample
    from domainsam_ct.scores import ScoreOptions

    image, truth = out / "sample.nii.gz", out / "sample_truth.nii.gz"
    with Staging([image, truth], overwrite=overwrite) as staging:
        hu, labels = draw_abdomen(SHAPE, SPACING, seed)
        write_sample(staging[image], hu, SPACING)
        write_sample(staging[truth], labels, SPACING)
    outputs = OutputOptions(out, statistics=True, report=True, preview=True, overwrite=overwrite)
    result = segment_cases([image], SegmentOptions(outputs)).results[0]
    pair = Pair("sample", result.paths["mask"], truth)
    # The papers' definition needs no MONAI, whose import takes longer than the rest of the demo.
    agreement = compare(
        pair, Names(load_label_map("synapse")), EvaluationOptions(ScoreOptions(paper=True))
    ).organs
    dice = {name: scores.dice for name, scores in agreement.items()}
    if as_json:
        paths = {kind: str(path) for kind, path in result.paths.items()}
        document = {**result.document(), "paths": paths, "generated": True, "dice_with_truth": dice}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo("This volume is generated: ellipsoids of usual density in their usual place, no anatomy.")
    click.echo("It shows that the tool works here, not how good the model is; on real scans it differs.")
    click.echo(result.sentence())
    for kind, path in {"scan": image, "truth": truth, **result.paths}.items():
        click.echo(f"  {kind:<16} {path}")
    told = ", ".join(f"{name} {value:.2f}" for name, value in dice.items())
    click.echo(f"Dice with the generator's truth: {told}.")
    click.echo("Your own scan: domainsam ct segment ct.nii.gz -o seg.nii.gz")
