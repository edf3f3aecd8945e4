"""The labelled CT that the shipped organ model learns from, as cases.

Two subjects, both labelled by TotalSegmentator, not by hand: the whole abdomen
at 3 mm, and a series of 20 slices of another subject.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray

from domainsam_ct.labels import load_label_map
from domainsam_ct.train.case import Case

SETS = ("abdomen", "series")


def read_case(name: str, folder: Path) -> Case:
    """One of :data:`SETS` from the folder of TotalSegmentator's reference files."""
    if name == "abdomen":
        slices, spacing = _axial(folder / "example_ct.nii.gz")
        structures, _ = _axial(folder / "example_seg_fast_force_split.nii.gz")
    else:
        slices, spacing = _series(folder / "example_ct_dicom")
        structures, _ = _axial(folder / "example_seg_dicom.nii.gz")
    regions = structures.astype(np.uint8)
    clipped = np.clip(slices, -1024, 3071).astype(np.int16)
    return Case(name, clipped, organs_of(regions), spacing, regions)


def organs_of(structures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """TotalSegmentator's numbers as those of the model's eight organs."""
    theirs = {organ.name: value for value, organ in load_label_map("totalsegmentator").items()}
    table = np.zeros(256, np.uint8)
    for value, organ in load_label_map("synapse").items():
        table[theirs[organ.name]] = value
    return table[structures]


def _axial(path: Path) -> tuple[NDArray[np.int32], tuple[float, float, float]]:
    """A NIfTI volume as slices that radiologists would recognise, and its spacing z, y, x."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    volume = np.asanyarray(image.dataobj).astype(np.int32)
    right, front, up = (float(size) for size in image.header.get_zooms()[:3])
    return np.ascontiguousarray(volume[::-1, ::-1].transpose(2, 1, 0)), (up, front, right)


def _series(folder: Path) -> tuple[NDArray[np.int32], tuple[float, float, float]]:
    """A DICOM series in the same form; its pixels are stored that way already."""
    headers = sorted(
        (pydicom.dcmread(path) for path in folder.iterdir()),
        key=lambda header: float(header.ImagePositionPatient[2]),
    )
    volume = np.stack(
        [
            header.pixel_array.astype(np.int32) * int(header.RescaleSlope) + int(header.RescaleIntercept)
            for header in headers
        ]
    ).astype(np.int32)
    up = float(headers[1].ImagePositionPatient[2]) - float(headers[0].ImagePositionPatient[2])
    height, width = (float(size) for size in headers[0].PixelSpacing)
    return volume, (up, height, width)
