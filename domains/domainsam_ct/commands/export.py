"""``domainsam ct export``: DICOM objects, statistics and reports of a mask of any tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from domainsam_cli.console import echo, format_paths, print_result
from domainsam_cli.options import NAMES, bundle, job_options, out_option, overwrite_option, talk_options
from domainsam_ct.commands.options import (
    PATH,
    deskew_option,
    identifier_options,
    object_options,
    series_option,
    summary_options,
)
from domainsam_ct.settings import ORIGINS

export_outputs = bundle(
    identifier_options,
    deskew_option,
    click.option("--per-organ", is_flag=True, help="A NIfTI mask for each organ."),
    click.option("--mask", "nifti", is_flag=True, help="One NIfTI mask on the scan's grid."),
    summary_options,
    object_options,
    out_option("Folder, or a mask file: .nii.gz .nii .nrrd .mha."),
)
"""Options that name what is written."""

reading_options = bundle(
    click.option(
        "--origin", type=click.Choice(ORIGINS), help="How the mask came about, for the DICOM objects."
    ),
    series_option,
    click.option("--organs", type=NAMES, help="Only these organs [default: all that the mask names]."),
    click.option(
        "--label-map", help="Names of the mask's values: synapse, btcv, totalsegmentator or a file."
    ),
)
"""Options that say how mask and scan are read."""


@click.command("export")
@click.argument("mask", type=PATH)
@click.argument("scan", type=PATH, metavar="CT")
@export_outputs
@reading_options
@overwrite_option
@talk_options
def export_command(mask: Path, scan: Path, **given: Any) -> None:
    """DICOM objects, statistics, pictures and a report of any tool's mask.

    MASK is NIfTI, NRRD (3D Slicer's layers too), MHA, DICOM SEG or RTSTRUCT, or
    a folder of masks named after one organ each. CT is its scan: a DICOM
    folder, a zip of one, or a volume file (without DICOM objects then). The mask
    lies on the scan's voxels, or covers part of them. All is written or nothing.

    \b
    domainsam ct export seg.nii.gz study/ -o out/ --dicom-seg --rtstruct --label-map totalsegmentator
    domainsam ct export rtstruct.dcm study/ -o out/ --mask --statistics --report
    domainsam ct export segmentations/ study/ -o out/ --dicom-seg --seg-type labelmap
    """  # noqa: D301 - click needs the control character itself
    from domainsam_ct.export import export_case
    from domainsam_ct.run import export_options

    result = export_case(mask, scan, export_options(**job_options(given)))
    if not given["as_json"] and not given["quiet"]:
        echo(result.sentence())
    print_result(given, result.document, format_paths(result.paths))
