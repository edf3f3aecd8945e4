"""``domainsam ct statistics``: volumes and Hounsfield units of organs in any mask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import echo
from domainsam_cli.options import overwrite_option, talk_options
from domainsam_ct.commands.options import identifier_options

if TYPE_CHECKING:
    from domainsam_ct.evaluate.labelled import LabelledMask
    from domainsam_ct.labels import LabelMap
    from domainsam_ct.measure.statistics import OrganStatistics

PATH = click.Path(path_type=Path)


@click.command("statistics")
@click.argument("mask", type=PATH)
@click.option("--image", type=PATH, help="The CT on the same grid, for Hounsfield units.")
@click.option("--label-map", help="Names of the values: synapse, btcv, totalsegmentator or a file.")
@click.option(
    "--series",
    "series_uid",
    help="Series of the image's folder: UID, or name in the notes.",
)
@click.option("-o", "--out", type=PATH, multiple=True, help="Write to .json or .csv. Repeat for both.")
@identifier_options
@overwrite_option
@talk_options
def statistics(
    mask: Path,
    image: Path | None,
    label_map: str | None,
    series_uid: str | None,
    out: tuple[Path, ...],
    keep_identifiers: bool,
    pseudonym_key: Path | None,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Volumes, Hounsfield units and places of the organs in any mask.

    MASK is NIfTI, NRRD, MHA, DICOM SEG or (with --image) RTSTRUCT, or a folder
    of masks named after one organ each. Names come from --label-map, else from the file itself.
    What is not known is null or an empty cell, never 0.

    \b
    domainsam ct statistics seg.nii.gz --image ct.nii.gz
    domainsam ct statistics seg.nii.gz --label-map totalsegmentator -o volumes.csv
    """  # noqa: D301 - click needs the control character itself
    from domainsam.staging import Staging
    from domainsam_ct.identifiers import Identifiers
    from domainsam_ct.job import make_case_stem
    from domainsam_ct.labels import load_label_map
    from domainsam_ct.write.products import format_table

    for path in out:
        if path.suffix.lower() not in (".json", ".csv"):
            raise click.UsageError(f"--out {path}: statistics are written as .json or .csv")
    labels: LabelMap | None = None if label_map is None else load_label_map(label_map)
    rule = Identifiers(keep_identifiers, pseudonym_key, next(iter(out), None))
    rule.hide(make_case_stem(mask), (mask, image))
    with Staging(out, overwrite=overwrite) as staging:
        read, organs, notes = measure_mask(mask, labels, image, series_uid)
        document = make_document(read, organs, image, notes)
        text = json.dumps(document, indent=2) + "\n"
        for path in out:
            staging.write_text(path, format_table(organs) if path.suffix.lower() == ".csv" else text)
    if as_json:
        echo(text, nl=False)
    elif not quiet:
        for note in notes:
            echo(f"domainsam: note: {note}", err=True)
        for line in format_figures(organs):
            echo(line)
        for path in out:
            echo(f"  {path.suffix[1:]:<6} {path}")


def measure_mask(
    path: Path, labels: LabelMap | None, image: Path | None, series_uid: str | None
) -> tuple[LabelledMask, tuple[OrganStatistics, ...], tuple[str, ...]]:
    """A mask, figures of its organs, and what is to be known of mask and image.

    A mask that covers part of the image's grid is placed on it.

    Raises
    ------
    InputError
        If mask or image cannot be read or lie on different grids.
    """
    from contextlib import ExitStack

    from domainsam_ct.evaluate.labelled import read_labelled
    from domainsam_ct.evaluate.measured import measure_labelled, tell_frames
    from domainsam_ct.read.open import open_volume
    from domainsam_ct.read.volume import get_scan_grid

    with ExitStack() as stack:
        volume = None if image is None else stack.enter_context(open_volume(image, series_uid))
        scan = None if volume is None else get_scan_grid(volume)
        mask = read_labelled(path, labels, scan)
        notes = (*mask.warnings, *mask.tell_unknown())
        if volume is not None and scan is not None and image is not None:
            mask = mask.place_on(volume.grid, image.name)
            of_scan = (f"{image.name}: {warning}" for warning in volume.warnings)
            notes = (*notes, *tell_frames(mask, scan.frame_uid), *of_scan)
        return mask, measure_labelled(mask, volume).statistics(mask.native, mask.open_axes), notes


def make_document(
    mask: LabelledMask,
    organs: tuple[OrganStatistics, ...],
    image: Path | None,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """Everything about a mask, as values that JSON can hold."""
    import domainsam
    from domainsam.names import show
    from domainsam_ct.job import UNITS

    return {
        "domainsam": domainsam.__version__,
        "mask": show(mask.path.name),
        "image": None if image is None else show(image.name),
        "shape": list(mask.native.shape),
        "spacing_mm": list(mask.native.spacing),
        "units": UNITS,
        "organs": {organ.name: organ.document() for organ in organs},
        "warnings": [show(note) for note in notes],
    }


def format_figures(organs: tuple[OrganStatistics, ...]) -> Iterator[str]:
    """Figures as lines of text; a dash for what is unknown."""
    heads = ("organ", "volume mL", "HU mean", "sd", "median", "touches edge")
    rows: list[tuple[str, ...]] = [heads]
    for organ in organs:
        hu = organ.hu
        rows.append(
            (
                organ.name,
                _number(organ.volume_ml, 1),
                *(_number(getattr(hu, key, None), 1) for key in ("mean", "sd", "median")),
                {None: "-", True: "yes", False: "no"}[organ.touches_border],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = [f"{row[0]:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
