"""Organ masks as contours: DICOM RT Structure Sets.

PS3.3, A.19 and C.8.8.5 to C.8.8.8. Contours lie in the planes of the series'
own images, whatever their orientation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from scipy.ndimage import find_objects, label

from domainsam import __version__
from domainsam.staging import Staging
from domainsam_ct.labels import Code, Organ
from domainsam_ct.read.dicom.contours import CONTOUR_DATA, STRUCTURE_SET
from domainsam_ct.read.dicom.derived import (
    MAKER,
    MODEL,
    get_series,
    present_values,
    to_frames,
)
from domainsam_ct.read.dicom.files import silence_libraries
from domainsam_ct.read.dicom.sources import TYPE_TWO, Reference, list_references, read_source_datasets
from domainsam_ct.read.dicom.stack import LPS_TO_RAS
from domainsam_ct.read.volume import Volume
from domainsam_ct.write.settle import settle

STUDY_REFERENCE = "1.2.840.10008.3.1.2.3.1"
"""SOP class (PS3.6, A-1), retired but still what structure sets refer to."""
DEIDENTIFIED = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")
"""What says that the patient was made anonymous, and how; objects of the patient must say it too."""
SERIES_NUMBER = 9002
DIGITS = 4
"""Decimals of contour points in millimetres; with them a number fits the 16 letters of its type."""


def write_rtstruct(
    path: str | Path,
    mask: NDArray[np.uint8],
    volume: Volume,
    labels: Mapping[int, Organ],
    *,
    overwrite: bool = False,
    whole: Mapping[int, NDArray[np.bool_]] | None = None,
    origin: str | None = "automatic",
) -> None:
    """Write a mask as an RTSTRUCT: for each organ in it closed contours on the slices.

    Contours run half way between voxels inside and outside: exactly the
    voxels' centres inside lie within. Shapes with holes are cut into shapes without.

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
    origin
        ``automatic``, ``semiautomatic`` or ``manual``; None where nobody says.

    Raises
    ------
    InputError
        If the volume was not read from DICOM, or the mask holds none of the labels.
    OutputError
        If the file exists and may not be replaced, or cannot be written.
    """
    path = Path(path)
    series = get_series(volume, "an RTSTRUCT")
    shared = whole or {}
    present = present_values(mask, labels, volume, "an RTSTRUCT", shared)
    with silence_libraries():
        sources = read_source_datasets(series, volume.native.spacing[2])
        references = list_references(series, sources)
        dataset = _frame(sources, references)
        images = to_frames(mask, volume)
        for number, value in enumerate(present, start=1):
            organ = labels[value]
            inside = to_frames(shared[value], volume) if value in shared else images == value
            dataset.StructureSetROISequence.append(_region(number, organ, sources[0], origin))
            dataset.ROIContourSequence.append(_contours(number, organ, inside, references, volume))
            dataset.RTROIObservationsSequence.append(_observation(number, organ))
        settle(dataset)
    with Staging([path], overwrite=overwrite) as staged:
        staged.write_with(path, partial(dataset.save_as, enforce_file_format=True))


def _frame(sources: list[Any], references: list[Reference]) -> Any:
    """The object without its regions."""
    first, now = sources[0], datetime.now()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = STRUCTURE_SET
    meta.MediaStorageSOPInstanceUID = generate_uid()
    # Explicit coding gives numbers 64 KiB at most, fewer than a long contour takes.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = STRUCTURE_SET, meta.MediaStorageSOPInstanceUID
    for keyword in (*TYPE_TWO, "StudyInstanceUID", "SpecificCharacterSet", "StudyDescription", *DEIDENTIFIED):
        if keyword in first:
            setattr(dataset, keyword, first.get(keyword))
    dataset.FrameOfReferenceUID = first.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID, dataset.SeriesNumber = generate_uid(), SERIES_NUMBER
    dataset.SeriesDescription = "Organs (domainsam)"
    dataset.OperatorsName = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = MAKER, MODEL
    dataset.SoftwareVersions = __version__
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel, dataset.StructureSetName = "ORGANS", "Organs as contours"
    dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_references(sources, references)]
    dataset.StructureSetROISequence = Sequence()
    dataset.ROIContourSequence = Sequence()
    dataset.RTROIObservationsSequence = Sequence()
    return dataset


def _references(sources: list[Any], references: list[Reference]) -> Any:
    series = Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    # Frames of one file are one image; slices that share a UID by mistake are listed all the same.
    images = {
        (one.instance_uid, number if one.frame is None else None): one
        for number, one in enumerate(references)
    }
    series.ContourImageSequence = [_reference(replace(one, frame=None)) for one in images.values()]
    study = Dataset()
    study.ReferencedSOPClassUID = STUDY_REFERENCE
    study.ReferencedSOPInstanceUID = sources[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = sources[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(reference: Reference) -> Any:
    image = Dataset()
    image.ReferencedSOPClassUID = reference.class_uid
    image.ReferencedSOPInstanceUID = reference.instance_uid
    if reference.frame is not None:
        image.ReferencedFrameNumber = reference.frame
    return image


def _region(number: int, organ: Organ, source: Any, origin: str | None) -> Any:
    region = Dataset()
    region.ROINumber = number
    region.ReferencedFrameOfReferenceUID = source.FrameOfReferenceUID
    region.ROIName = organ.name
    region.ROIGenerationAlgorithm = (origin or "").upper()
    return region


def _contours(
    number: int, organ: Organ, inside: NDArray[np.bool_], references: list[Reference], volume: Volume
) -> Any:
    to_lps = LPS_TO_RAS @ volume.native.affine
    made = Dataset()
    made.ROIDisplayColor = list(organ.colour)
    made.ReferencedROINumber = number
    made.ContourSequence = Sequence()
    for level in np.flatnonzero(inside.any(axis=(1, 2))):
        for polygon in trace_outlines(inside[level]):
            index = np.column_stack([polygon, np.full(len(polygon), level), np.ones(len(polygon))])
            points = (index @ to_lps.T)[:, :3]
            contour = Dataset()
            contour.ContourImageSequence = [_reference(references[level])]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour[CONTOUR_DATA] = _decimals(points)
            made.ContourSequence.append(contour)
    return made


def _decimals(points: NDArray[np.float64]) -> RawDataElement:
    """Contour points as they are written: pydicom would examine each number by itself, for seconds."""
    text = "\\".join(f"{value:.{DIGITS}f}" for value in points.ravel()).encode()
    text += b" " * (len(text) % 2)
    return RawDataElement(CONTOUR_DATA, "DS", len(text), text, 0, True, True)


def _observation(number: int, organ: Organ) -> Any:
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = "ORGAN"
    observation.ROIInterpreter = ""
    if organ.code is not None:
        code = _code(organ.code)
        if organ.side is not None:
            code.SegmentedPropertyTypeModifierCodeSequence = [_code(organ.side)]
        observation.RTROIIdentificationCodeSequence = [code]
    return observation


def _code(code: Code) -> Any:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


Points = NDArray[np.float64]


def trace_outlines(inside: NDArray[np.bool_]) -> list[Points]:
    """Polygons ``(n, 2)`` of ``(column, row)`` around the true pixels ``(row, column)``; centres are whole.

    Polygons run half way between pixels inside and outside, so that exactly
    the centres inside lie within one of them. Plans know no holes: a shape
    with one is cut between two rows of pixels into shapes without. The other
    custom, a channel of no width to the hole, passes through centres, and
    programs then disagree on which side those lie. No polygon repeats its
    first point.
    """
    parts, _ = label(inside)
    found: list[Points] = []
    for number, box in enumerate(find_objects(parts), start=1):
        shift = np.array([box[1].start, box[0].start], dtype=np.float64)
        found += [ring + shift for ring in _rings(parts[box] == number)]
    return found


def _rings(part: NDArray[np.bool_]) -> list[Points]:
    """Outlines of one connected part, cut where it has a hole."""
    padded = np.pad(part.astype(np.float32), 1)
    filled: Any = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, np.inf)
    polygons, offsets = filled
    for points, starts in zip(polygons, offsets, strict=True):
        if len(starts) > 2:
            hole = points[starts[1] : starts[2], 1] - 1
            cut = int(np.floor((hole.min() + hole.max()) / 2)) + 1
            below = [ring + np.array((0, cut)) for ring in trace_outlines(part[cut:])]
            return trace_outlines(part[:cut]) + below
    return [_corners(points[:-1] - 1) for points in polygons]


def _corners(ring: Points) -> Points:
    """A closed ring without the points that lie on a straight line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[turns != 0]
