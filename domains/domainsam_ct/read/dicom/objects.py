"""What a DICOM object that is no slice holds: a segmentation, a structure set; nothing of the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.uid import UID

from domainsam.names import show
from domainsam_ct.read.dicom.contours import STRUCTURE_SET
from domainsam_ct.read.dicom.derived import SEGMENTATION_CLASSES
from domainsam_ct.read.dicom.files import is_dicom_file, read_dataset

NAMED = 12
"""Names that are listed; a full-body segmentation has over a hundred."""
SLICES = ("CT", "MR", "PT")
TAGS = (
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "SegmentSequence",
    "SegmentationType",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "StructureSetROISequence",
    "ROIContourSequence",
)
"""All that is read."""


def describe_object(path: Path) -> dict[str, object] | None:
    """Facts about a DICOM object, in the order a person wants them; None for slices and other files."""
    if not is_dicom_file(path):
        return None
    with path.open("rb") as file:
        dataset = read_dataset(file, list(TAGS))
    if dataset is None or str(dataset.get("Modality", "")) in SLICES:
        return None
    kind = str(dataset.get("SOPClassUID", ""))
    if kind in SEGMENTATION_CLASSES:
        return {"format": "DICOM segmentation (SEG)", **_segments(dataset), **_origin(dataset)}
    if kind == STRUCTURE_SET:
        return {"format": "DICOM structure set (RTSTRUCT)", **_contours(dataset), **_origin(dataset)}
    return {"format": f"DICOM object: {UID(kind).name if kind else 'of no stated kind'}", **_origin(dataset)}


def _segments(dataset: Any) -> dict[str, object]:
    names = [str(segment.get("SegmentLabel", "")) for segment in dataset.get("SegmentSequence", [])]
    frames = dataset.get("NumberOfFrames", 0)
    return {
        "segments": _listed(names),
        "stored": f"{str(dataset.get('SegmentationType', 'unknown')).lower()}, {frames} frames of "
        f"{dataset.get('Columns', 0)} x {dataset.get('Rows', 0)} pixels",
        "read by": "ct statistics, ct evaluate",
    }


def _contours(dataset: Any) -> dict[str, object]:
    names = [str(region.get("ROIName", "")) for region in dataset.get("StructureSetROISequence", [])]
    count = sum(len(region.get("ContourSequence", [])) for region in dataset.get("ROIContourSequence", []))
    return {"regions": _listed(names), "contours": count}


def _origin(dataset: Any) -> dict[str, object]:
    return {"series": str(dataset.get("SeriesInstanceUID", "")) or "not stated"}


def _listed(names: list[str]) -> str:
    shown = ", ".join(show(name) or "without name" for name in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)}: {shown}{more}"
