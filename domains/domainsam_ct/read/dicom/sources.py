"""Headers of the slices that a DICOM object is made from, repaired where objects could not repeat them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from highdicom.enum import SpecificCharacterSetValues
from pydicom.config import RAISE
from pydicom.datadict import dictionary_description
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import DA, TM, validate_value

from domainsam_ct.read.dicom.files import silence_libraries
from domainsam_ct.read.dicom.headers import CT_IMAGE, PATIENT_AND_STUDY, read_numbers
from domainsam_ct.read.dicom.series import Series

TYPE_TWO = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Tags that must be there but may be empty (PS3.3, C.7.1.1 and C.7.2.1)."""
SEXES = ("M", "F", "O", "")
CHARACTERS = frozenset(item.value for item in SpecificCharacterSetValues)
"""Character sets that may be named in a header (PS3.3, C.12.1.1.2)."""
UNICODE = "ISO_IR 192"
CALENDAR: Mapping[str, Callable[[str], object]] = {"DA": DA, "TM": TM}
"""Types of values that are read as dates and times."""
JOINING = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
"""UIDs that join an object with its scan."""


@dataclass(frozen=True)
class Reference:
    """What objects call the image of a slice; ``frame`` counts from 1, None for an image of its own."""

    class_uid: str
    instance_uid: str
    frame: int | None = None


def list_references(series: Series, sources: list[Any]) -> list[Reference]:
    """What to call each slice, given what :func:`read_source_datasets` made of them."""
    return [
        Reference(str(source.SOPClassUID), str(source.SOPInstanceUID))
        if header.frame is None
        else Reference(header.class_uid, header.instance_uid, header.frame + 1)
        for header, source in zip(series.headers, sources, strict=True)
    ]


def read_source_datasets(series: Series, distance: float) -> list[Any]:
    """Headers of all slices, in order, with every tag that references need.

    Frames of an enhanced CT are given as images of their own, with UIDs that
    stand for them until :func:`list_references` says what they are.

    UIDs that were emptied are replaced by new ones, the same for the same
    slices each time, so that a SEG and an RTSTRUCT agree. Where the thickness
    of slices is missing, their ``distance`` in millimetres stands in for it.
    What no object may repeat, such as dates that are none, is left empty.
    """
    return _repair(series, distance)[0]


def vet_sources(series: Series, distance: float) -> tuple[str, ...]:
    """List what of a series' headers objects made from it cannot repeat, before any are made."""
    return _repair(series, distance)[1]


def _repair(series: Series, distance: float) -> tuple[list[Any], tuple[str, ...]]:
    first = series.headers[0]
    instance_uids = [_valid_uid(header.instance_uid) for header in series.headers]
    known = {keyword: _valid_uid(first.text(keyword)) for keyword in JOINING}
    entropy = instance_uids if any(instance_uids) else [str(header.position) for header in series.headers]
    study, number, frame = (
        known[keyword] or generate_uid(entropy_srcs=[keyword, *entropy]) for keyword in JOINING
    )
    made: list[Any] = []
    emptied: set[str] = set()
    thin = rewritten = False
    for index, header in enumerate(series.headers):
        with silence_libraries():
            dataset = copy.deepcopy(header.dataset)
            dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, frame
            dataset.SeriesInstanceUID = number
            dataset.SOPInstanceUID = instance_uids[index] or generate_uid(entropy_srcs=[number, str(index)])
            dataset.SOPClassUID = _valid_uid(header.class_uid) or CT_IMAGE
            if header.frame is not None:
                dataset.SOPInstanceUID = generate_uid(entropy_srcs=[number, str(index)])
                dataset.SOPClassUID = CT_IMAGE
            for keyword in TYPE_TWO:
                if keyword not in dataset:
                    setattr(dataset, keyword, "")
            thickness = read_numbers(dataset, "SliceThickness", 1)
            if not thickness or thickness[0] <= 0:
                thin = thin or thickness is not None
                dataset.SliceThickness = distance
            if dataset.PatientSex not in SEXES:
                dataset.PatientSex = ""
            rewritten = _use_known_characters(dataset) or rewritten
            emptied |= _empty_faults(dataset)
        made.append(dataset)
    told = [uid for uid, header in zip(instance_uids, series.headers, strict=True) if header.frame is None]
    return made, (*_tell_uids(known, told), *_tell_values(emptied, rewritten, thin, distance))


def _valid_uid(text: str) -> str:
    """A UID; empty where the text is none."""
    return text if text and UID(text).is_valid else ""


def _use_known_characters(dataset: Any) -> bool:
    """Write texts in Unicode where a header names character sets that no object may name; say if it did."""
    named = dataset.get("SpecificCharacterSet") or []
    sets = [named] if isinstance(named, str) else list(named)
    if all(str(name) in CHARACTERS for name in sets):
        return False
    dataset.decode()
    for element in dataset:
        if element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT") and element.VM == 1:
            element.value = str(element.value)
    dataset.SpecificCharacterSet = UNICODE
    return True


def _empty_faults(dataset: Any) -> set[str]:
    """Empty tags whose values are not what they should be, such as a date of zeros; return their keywords."""
    found = set()
    for keyword in PATIENT_AND_STUDY:
        if keyword in ("SpecificCharacterSet", *JOINING) or not dataset.get(keyword):
            continue
        element = dataset[keyword]
        text = str(element.value)
        try:
            validate_value(element.VR, text, RAISE)
            CALENDAR.get(element.VR, str)(text)
        except (ValueError, TypeError, OverflowError):
            found.add(keyword)
            if keyword in TYPE_TWO:
                setattr(dataset, keyword, "")
            else:
                delattr(dataset, keyword)
    return found


def _tell_uids(known: Mapping[str, str], instances: list[str]) -> tuple[str, ...]:
    notes = []
    absent = [dictionary_description(keyword) for keyword, uid in known.items() if not uid]
    if not all(instances):
        absent.append(dictionary_description("SOPInstanceUID"))
    if absent:
        notes.append(
            f"the series has no valid {', '.join(absent)}: DICOM objects made from it get new ones, "
            "by which viewers cannot join them with the scan"
        )
    given = [uid for uid in instances if uid]
    if len(set(given)) < len(given):
        notes.append(
            f"{len(given)} slices have {len(set(given))} different SOP Instance UIDs: by the references of "
            "DICOM objects made from them viewers cannot tell the slices apart"
        )
    return tuple(notes)


def _tell_values(emptied: set[str], rewritten: bool, thin: bool, distance: float) -> tuple[str, ...]:
    notes = []
    if rewritten:
        notes.append("Specific Character Set is none that may be repeated: DICOM objects are in Unicode")
    if emptied:
        names = ", ".join(sorted(dictionary_description(keyword) for keyword in emptied))
        notes.append(f"the headers' {names} cannot be repeated in DICOM objects: left empty there")
    if thin:
        notes.append(
            f"Slice Thickness is not above 0: DICOM objects give the distance of slices, {distance:.4g} mm"
        )
    return tuple(notes)
