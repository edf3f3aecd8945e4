"""The slices that a derived DICOM object refers to, completed where anonymisation emptied them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from domainsam.errors import InputError
from domainsam_ct.dicom_files import quiet
from domainsam_ct.dicom_headers import CT_IMAGE, numbers
from domainsam_ct.dicom_series import Series
from domainsam_ct.volume import Volume

MAKER = "domainsam"
MODEL = "domainsam ct"

TYPE_TWO = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Tags that must be there but may be empty (PS3.3, C.7.1.1 and C.7.2.1)."""
SEXES = ("M", "F", "O", "")


def series_of(volume: Volume, what: str) -> Series:
    """The DICOM series a volume was read from.

    Raises
    ------
    InputError
        If it came from no DICOM files, so there is nothing that ``what`` could refer to.
    """
    if volume.native.series is None:
        raise InputError(
            f"{volume.source_name}: {what} refers to DICOM images, and this volume is none; "
            "give the DICOM folder, or leave that output out"
        )
    return volume.native.series


def source_datasets(series: Series, distance: float) -> list[Any]:
    """Headers of all slices, in order, with every tag that references need.

    UIDs that were emptied are replaced by new ones, the same for the same
    slices each time, so that a SEG and an RTSTRUCT agree. Where the thickness
    of slices is missing, their ``distance`` in millimetres stands in for it.
    """
    first = series.headers[0]
    instance_uids = [header.instance_uid for header in series.headers]
    study, frame, number = (
        first.text(keyword) or generate_uid(entropy_srcs=[keyword, *instance_uids])
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID")
    )
    made = []
    for index, header in enumerate(series.headers):
        with quiet():
            dataset = copy.deepcopy(header.dataset)
            dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, frame
            dataset.SeriesInstanceUID = number
            dataset.SOPInstanceUID = header.instance_uid or generate_uid(entropy_srcs=[number, str(index)])
            dataset.SOPClassUID = header.class_uid or CT_IMAGE
            for keyword in TYPE_TWO:
                if keyword not in dataset:
                    setattr(dataset, keyword, "")
            if not numbers(dataset, "SliceThickness", 1):
                dataset.SliceThickness = distance
            if dataset.PatientSex not in SEXES:
                dataset.PatientSex = ""
        made.append(dataset)
    return made


def frames(mask: NDArray[np.uint8], volume: Volume) -> NDArray[np.uint8]:
    """A canonical mask ``(x, y, z)`` as the series' own images ``(slice, row, column)``.

    Raises
    ------
    ValueError
        If the mask has another shape than the volume.
    """
    if mask.shape != volume.shape:
        raise ValueError(f"mask of {mask.shape} for a volume of {volume.shape}")
    return np.ascontiguousarray(volume.native.orientation.to_native(mask).transpose(2, 1, 0))
