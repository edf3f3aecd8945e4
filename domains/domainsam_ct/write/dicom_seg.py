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
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from domainsam import __version__
from domainsam.errors import InputError
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
from domainsam_ct.read.dicom.sources import Reference, list_references, read_source_datasets
from domainsam_ct.read.volume import Volume
from domainsam_ct.write.settle import settle

SERIES_NUMBER = 9001
"""Far from the numbers that scanners give."""
UNCODED = Code("85756007", "Tissue")
"""Type of a structure whose label map gives no code."""
UNKNOWN_ALGORITHM = "not stated"


def write_dicom_seg(
    path: str | Path,
    mask: NDArray[np.uint8],
    volume: Volume,
    labels: Mapping[int, Organ],
    *,
    overwrite: bool = False,
    whole: Mapping[int, NDArray[np.bool_]] | None = None,
    form: str = "binary",
    origin: str | None = "automatic",
) -> None:
    """Write a mask as a DICOM SEG that refers to the slices it was made from.

    Frames of a segment on slices without it are left out. Segments of bits are
    numbered from 1 in the order of the labels' values, those of organs that are
    in the mask; in a label map they keep their values.

    Parameters
    ----------
    mask
        Canonical labels ``(x, y, z)``.
    volume
        The CT, read from DICOM.
    labels
        Organs by value. Values without an organ are not written.
    whole
        Organs that share voxels with others, by value, ``(x, y, z)``.
    form
        ``binary``: frames of bits for each organ, which every viewer reads. ``deflated``: the
        same, compressed by zlib (transfer syntax 1.2.840.10008.1.2.1.99), about a hundredth of the size.
        ``labelmap``: one frame a slice with all organs (PS3.3, A.51, LABELMAP), run-length coded.
    origin
        ``automatic``, ``semiautomatic`` or ``manual``. What nobody states is written as
        semiautomatic by an algorithm that is not stated, for the standard has no word for it.

    Raises
    ------
    InputError
        If the volume was not read from DICOM, the mask holds none of the labels,
        or organs overlap that a label map is to hold.
    OutputError
        If the file exists and may not be replaced, or cannot be written.
    """
    path = Path(path)
    series = get_series(volume, "a DICOM SEG")
    shared = dict(whole or {})
    present = present_values(mask, labels, volume, "a DICOM SEG", shared)
    overlapping = [value for value in present if value in shared]
    if overlapping and form == "labelmap":
        names = ", ".join(labels[value].name for value in overlapping[:5])
        raise InputError(
            f"{volume.source_name}: organs overlap ({names}), and a label map holds one organ at each voxel; "
            "choose --seg-type binary"
        )
    sources = read_source_datasets(series, volume.native.spacing[2])
    numbers = present if form == "labelmap" else list(range(1, len(present) + 1))
    described = {number: labels[value] for number, value in zip(numbers, present, strict=True)}
    if overlapping:
        images = _stack_frames(mask, volume, present, shared)
    else:
        table = np.zeros(256, np.uint8)
        table[present] = numbers
        images = table[to_frames(mask, volume)]
    with silence_libraries():
        segmentation = _segmentation(sources, images, described, volume, form, origin)
        _name_frames(segmentation, sources, list_references(series, sources))
        if form == "deflated":
            segmentation.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        settle(segmentation)
    with Staging([path], overwrite=overwrite) as staged:
        staged.write_with(path, partial(segmentation.save_as, enforce_file_format=True))


def _stack_frames(
    mask: NDArray[np.uint8], volume: Volume, present: list[int], whole: Mapping[int, NDArray[np.bool_]]
) -> NDArray[np.uint8]:
    """Bits of every organ ``(slice, row, column, organ)``: overlapping ones have voxels in common."""
    return np.stack(
        [to_frames(whole.get(value, mask == value), volume).astype(np.uint8) for value in present],
        axis=-1,
    )


def _name_frames(segmentation: Any, sources: list[Any], references: list[Reference]) -> None:
    """Have references to frames of an enhanced CT name its file and frame, not what stood for them."""
    names = {
        str(source.SOPInstanceUID): reference
        for source, reference in zip(sources, references, strict=True)
        if reference.frame is not None
    }
    if not names:
        return
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in frame.get("DerivationImageSequence") or ():
            for image in derivation.SourceImageSequence:
                # Segments of one slice may share the item, which has its name then.
                found = names.get(str(image.ReferencedSOPInstanceUID))
                if found is None:
                    continue
                image.ReferencedSOPClassUID = found.class_uid
                image.ReferencedSOPInstanceUID = found.instance_uid
                image.ReferencedFrameNumber = found.frame
    whole = {reference.instance_uid: reference for reference in references}
    for series in segmentation.get("ReferencedSeriesSequence") or ():
        items = series.ReferencedInstanceSequence[: len(whole)]
        for item, reference in zip(items, whole.values(), strict=True):
            item.ReferencedSOPClassUID = reference.class_uid
            item.ReferencedSOPInstanceUID = reference.instance_uid
        series.ReferencedInstanceSequence = items


def _segmentation(
    sources: list[Any],
    images: NDArray[np.uint8],
    organs: Mapping[int, Organ],
    volume: Volume,
    form: str,
    origin: str | None,
) -> Any:
    i, j, k = volume.native.spacing
    measures = hd.PixelMeasuresSequence(
        pixel_spacing=(j, i),
        slice_thickness=float(sources[0].SliceThickness),
        spacing_between_slices=k,
    )
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=images,
        segmentation_type="LABELMAP" if form == "labelmap" else "BINARY",
        segment_descriptions=[_description(number, organ, origin) for number, organ in organs.items()],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number="0",
        transfer_syntax_uid=RLELossless if form == "labelmap" else ExplicitVRLittleEndian,
        pixel_measures=measures,
        omit_empty_frames=True,
        content_label="ORGANS",
        content_description=f"Organs segmented {ADVERBS[origin]}",
        series_description="Organs (domainsam)",
    )


ADVERBS = {
    "automatic": "automatically",
    "semiautomatic": "with help of a person",
    "manual": "by hand",
    None: "elsewhere",
}
"""How organs were segmented, by origin."""


def _description(number: int, organ: Organ, origin: str | None) -> Any:
    algorithm = None
    if origin != "manual":
        algorithm = hd.AlgorithmIdentificationSequence(
            name=MODEL if origin else UNKNOWN_ALGORITHM,
            family=codes.DCM.ArtificialIntelligence,
            version=__version__ if origin else UNKNOWN_ALGORITHM,
        )
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.title,
        segmented_property_category=_concept(organ.category),
        segmented_property_type=_concept(organ.code or UNCODED),
        algorithm_type=(origin or "semiautomatic").upper(),
        algorithm_identification=algorithm,
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
