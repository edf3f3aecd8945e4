"""Organ masks as DICOM Segmentation objects, and back.

PS3.3, A.51 and C.8.20. highdicom builds the object; this file says what the
segments are and where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from domainsam import __version__
from domainsam.staging import Staging
from domainsam_ct.labels import Code, Organ
from domainsam_ct.read.dicom.derived import (
    MAKER,
    MODEL,
    get_series,
    present_values,
    to_frames,
)
from domainsam_ct.read.dicom.files import silence_libraries
from domainsam_ct.read.dicom.sources import read_source_datasets
from domainsam_ct.read.volume import Volume

SERIES_NUMBER = 9001
"""Far from the numbers that scanners give."""
UNCODED = Code("85756007", "Tissue")
"""Type of a structure whose label map gives no code."""


def write_dicom_seg(
    path: str | Path,
    mask: NDArray[np.uint8],
    volume: Volume,
    labels: Mapping[int, Organ],
    *,
    overwrite: bool = False,
) -> None:
    """Write a mask as a binary DICOM SEG that refers to the slices it was made from.

    Segments are numbered from 1 in the order of the labels' values, those of
    organs that are in the mask. Every slice has a frame for every segment,
    empty ones too, for viewers place frames by counting.

    Parameters
    ----------
    mask
        Canonical labels ``(x, y, z)``.
    volume
        The CT, read from DICOM.
    labels
        Organs by value. Values without an organ are not written.

    Raises
    ------
    InputError
        If the volume was not read from DICOM, or the mask holds none of the labels.
    OutputError
        If the file exists and may not be replaced, or cannot be written.
    """
    path = Path(path)
    series = get_series(volume, "a DICOM SEG")
    present = present_values(mask, labels, volume, "a DICOM SEG")
    numbers = np.zeros(256, np.uint8)
    numbers[present] = np.arange(1, len(present) + 1)
    organs = [labels[value] for value in present]
    with silence_libraries():
        segmentation = _segmentation(
            read_source_datasets(series, volume.native.spacing[2]),
            numbers[to_frames(mask, volume)],
            organs,
            volume,
        )
    with Staging([path], overwrite=overwrite) as staged:
        staged.write_with(path, partial(segmentation.save_as, enforce_file_format=True))


def _segmentation(sources: list[Any], labels: NDArray[np.uint8], organs: list[Organ], volume: Volume) -> Any:
    i, j, k = volume.native.spacing
    measures = hd.PixelMeasuresSequence(
        pixel_spacing=(j, i),
        slice_thickness=float(sources[0].SliceThickness),
        spacing_between_slices=k,
    )
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(number, organ) for number, organ in enumerate(organs, start=1)],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number="0",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        pixel_measures=measures,
        omit_empty_frames=False,
        content_label="ORGANS",
        content_description="Organs segmented automatically",
        series_description="Organs (domainsam)",
    )


def _description(number: int, organ: Organ) -> Any:
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.title,
        segmented_property_category=_concept(organ.category),
        segmented_property_type=_concept(organ.code or UNCODED),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MODEL, family=codes.DCM.ArtificialIntelligence, version=__version__
        ),
        tracking_id=organ.name,
        tracking_uid=generate_uid(),
        display_color=hd.color.CIELabColor.from_rgb(*organ.colour),
    )
    if organ.side is not None:
        # highdicom has no argument for it; it belongs into the type's own item (PS3.3, table 10.9.2).
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(organ.side)]
    return description


def _concept(code: Code) -> Any:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)
