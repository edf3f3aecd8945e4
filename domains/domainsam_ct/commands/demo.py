"""The CT pack's demo: its main job on a volume that it generates itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click

from domainsam_cli.console import echo
from domainsam_cli.options import demo_folder_option, json_option, overwrite_option, seed_option
from domainsam_ct.read.dicom.files import is_dicom_file
from domainsam_ct.read.dicom.objects import describe_object
from domainsam_ct.read.open import open_volume
from domainsam_ct.read.volume import ITK_NAMES, NIFTI_NAMES, Volume
from domainsam_ct.settings import OutputOptions, SegmentOptions

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
    from domainsam_ct.evaluate.evaluate import Names, compare
    from domainsam_ct.evaluate.labelled import Pair
    from domainsam_ct.evaluate.scores import ScoreOptions
    from domainsam_ct.evaluate.summary import EvaluationOptions
    from domainsam_ct.generated import draw_abdomen, write_sample
    from domainsam_ct.labels import load_label_map
    from domainsam_ct.segment import segment_cases

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
        echo(json.dumps(document, indent=2))
        return
    echo("This volume is generated: ellipsoids of usual density in their usual place, no anatomy.")
    echo("It shows that the tool works here, not how good the model is; on real scans it differs.")
    echo(result.sentence())
    for kind, path in {"scan": image, "truth": truth, **result.paths}.items():
        echo(f"  {kind:<16} {path}")
    told = ", ".join(f"{name} {value:.2f}" for name, value in dice.items())
    echo(f"Dice with the generator's truth: {told}.")
    echo("Your own scan: domainsam ct segment ct.nii.gz -o seg.nii.gz")


FORMATS = {"nifti": "NIfTI", "itk": "NRRD or MetaImage", "dicom": "DICOM series"}


def describe(path: str) -> dict[str, object]:
    """Facts about a CT, in the order a person wants to read them; none of the patient.

    Empty for files whose names say that they are no volumes.

    Raises
    ------
    InputError
        If it is no CT volume, is damaged, or its place cannot be trusted.
    """
    place = Path(path)
    known = place.name.lower().endswith((*NIFTI_NAMES, *ITK_NAMES, ".zip"))
    if not place.is_dir() and not known and not is_dicom_file(place):
        return {}
    if (found := describe_object(place)) is not None:
        return found
    with open_volume(place) as volume:
        return _facts(volume)


def _facts(volume: Volume) -> dict[str, object]:
    native = volume.native
    sizes = [size * step for size, step in zip(volume.shape, volume.spacing, strict=True)]
    low, high = volume.hu_range
    return {
        "format": FORMATS[native.format],
        "size": f"{_times(native.shape)} voxels, stored as {native.orientation.code}",
        "voxel": f"{_times(native.spacing)} mm",
        "axial slices": f"{volume.shape[2]}, {volume.spacing[2]:.4g} mm apart, each {sizes[0]:.0f} x "
        f"{sizes[1]:.0f} mm",
        "values": f"{low:g} to {high:g}",
        "centre": f"{_times(volume.grid.to_world([(size - 1) / 2 for size in volume.shape]), ', ')} mm RAS",
        "notes": "; ".join(volume.warnings) or "none",
    }


def _times(values: Iterable[float], between: str = " x ") -> str:
    return between.join(f"{value:.4g}" for value in values)
