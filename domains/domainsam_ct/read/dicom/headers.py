"""Read the headers of DICOM slices, with checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pydicom

from domainsam_ct.read.dicom.files import SNIFFED, DicomFiles, is_dicom, read_dataset, silence_libraries

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP classes (PS3.4, table B.5-1): one slice to a file, and all slices in one."""
LOCALIZERS = {"LOCALIZER", "SCOUT", "TOPOGRAM"}
"""Words in Image Type of the overview that the scan is planned on."""
PATIENT_AND_STUDY = [
    *("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("PatientWeight", "PatientSize", "IssuerOfPatientID", "StudyInstanceUID", "StudyDate", "StudyTime"),
    *("StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
]
"""What objects derived from a slice repeat of it (PS3.3, C.7.1.1 and C.7.2.1); kept for nothing else."""
SLICE = [
    *("ImageType", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber"),
    *("AcquisitionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PixelSpacing", "SliceThickness", "Rows"),
    *("Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *("RescaleType", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "ConvolutionKernel"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
]
FRAMES = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
"""Where objects of many frames keep what a slice says in tags of its own (PS3.3, C.7.6.16)."""
FRAME_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
"""Groups of a frame, and the tags that a slice by itself would have."""


FARTHEST_MM = 1e6
"""Nothing that is scanned lies further than a kilometre from its origin, or has larger pixels."""


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """One DICOM image.

    Parameters
    ----------
    number
        Which file of its :class:`~domainsam_ct.read.dicom.files.DicomFiles`.
    dataset
        The tags kept of it, without pixels.
    position
        Centre of its first pixel, LPS millimetres; None where unknown.
    orientation
        Unit vectors of growing column and growing row, LPS; None where unknown.
    spacing
        Millimetres between rows, and between columns; None where unknown.
    frame
        Which frame of its file; None where the file is one slice.
    """

    number: int
    dataset: Any
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    frame: int | None = None

    def text(self, keyword: str) -> str:
        """A tag as text, empty where absent."""
        return str(self.dataset.get(keyword) or "").strip()

    def whole(self, keyword: str) -> int:
        """A tag as a whole number, 0 where absent or senseless."""
        (number,) = read_numbers(self.dataset, keyword, 1) or (0.0,)
        return int(number)

    def number_of(self, keyword: str) -> float | None:
        """A tag as a number, None where absent or senseless."""
        found = read_numbers(self.dataset, keyword, 1)
        return None if found is None else found[0]

    @property
    def series_uid(self) -> str:
        """Series Instance UID, empty where it was removed."""
        return self.text("SeriesInstanceUID")

    @property
    def instance_uid(self) -> str:
        """SOP Instance UID; that of the file's own preamble where the tag was emptied."""
        return self.text("SOPInstanceUID") or self._meta("MediaStorageSOPInstanceUID")

    @property
    def class_uid(self) -> str:
        """SOP Class UID; that of the file's own preamble where the tag was emptied."""
        return self.text("SOPClassUID") or self._meta("MediaStorageSOPClassUID")

    @property
    def transfer_syntax(self) -> Any:
        """The ``pydicom.uid.UID`` of the pixels' coding; None where the file does not say."""
        return getattr(self.dataset.file_meta, "TransferSyntaxUID", None)

    @property
    def is_localizer(self) -> bool:
        """Whether it is an overview and no slice."""
        return bool(LOCALIZERS & set(self.text("ImageType").upper().replace("'", " ").split()))

    @property
    def is_image(self) -> bool:
        """Whether it has pixels at all; structured reports and plans have none."""
        return self.whole("Rows") > 0 and self.whole("Columns") > 0

    def _meta(self, keyword: str) -> str:
        return str(getattr(self.dataset.file_meta, keyword, "") or "").strip()


@dataclass(frozen=True, eq=False)
class Found:
    """What the files of a folder or zip file are: every one of them is in exactly one place.

    Parameters
    ----------
    headers
        Of the images, and of whatever else DICOM can be.
    damaged
        Numbers of files that begin as DICOM does and cannot be read.
    strange
        Numbers of files that are no DICOM.
    """

    headers: tuple[SliceHeader, ...]
    damaged: tuple[int, ...]
    strange: tuple[int, ...]


def read_headers(files: DicomFiles) -> Found:
    """The headers of all files that are DICOM, without their pixels, and which files are none."""
    headers: list[SliceHeader] = []
    damaged: list[int] = []
    strange: list[int] = []
    for number in range(len(files)):
        with files.open(number) as stream:
            claims = is_dicom(stream.read(SNIFFED))
            stream.seek(0)
            dataset = read_dataset(stream, [*PATIENT_AND_STUDY, *SLICE, *FRAMES]) if claims else None
        if dataset is None or not len(dataset):
            (damaged if claims and files.size(number) > SNIFFED else strange).append(number)
            continue
        frames = _split_frames(dataset) if str(dataset.get("SOPClassUID")) in ENHANCED_CT else []
        headers += [_header(number, part, frame) for frame, part in enumerate(frames)]
        if not frames:
            headers.append(_header(number, dataset, None))
    return Found(tuple(headers), tuple(damaged), tuple(strange))


def _header(number: int, dataset: Any, frame: int | None) -> SliceHeader:
    spacing = read_numbers(dataset, "PixelSpacing", 2)
    position = read_numbers(dataset, "ImagePositionPatient", 3)
    return SliceHeader(
        number,
        dataset,
        # Further from the origin than any scanner reaches is no place: arithmetic would overflow.
        position if position is not None and max(map(abs, position)) < FARTHEST_MM else None,
        read_numbers(dataset, "ImageOrientationPatient", 6),
        spacing if spacing is not None and 0 < min(spacing) <= max(spacing) < FARTHEST_MM else None,
        frame,
    )


def _split_frames(dataset: Any) -> list[Any]:
    """The frames of an enhanced CT, each with the tags that a slice by itself would have."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    made = []
    for item in dataset.get("PerFrameFunctionalGroupsSequence") or []:
        part = pydicom.Dataset()
        part.file_meta = dataset.file_meta
        for keyword in (*PATIENT_AND_STUDY, *SLICE):
            if keyword in dataset and keyword != "NumberOfFrames":
                part[keyword] = dataset[keyword]
        for group, keywords in FRAME_GROUPS.items():
            (found, *_) = item.get(group) or shared.get(group) or [pydicom.Dataset()]
            for keyword in keywords:
                if keyword in found:
                    part[keyword] = found[keyword]
        (content, *_) = item.get("FrameContentSequence") or [pydicom.Dataset()]
        for theirs, ours in (
            ("FrameAcquisitionNumber", "AcquisitionNumber"),
            ("TemporalPositionIndex", "TemporalPositionIdentifier"),
        ):
            if theirs in content:
                setattr(part, ours, content.get(theirs))
        made.append(part)
    return made


def read_numbers(dataset: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """``count`` finite numbers of a tag; None where it is absent, empty or malformed."""
    with silence_libraries():
        try:
            value = dataset.get(keyword)
            found = tuple(float(part) for part in ([value] if count == 1 else list(value)))
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError):
            return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None
