"""Find the CT series of a study and choose one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from domainsam.errors import InputError
from domainsam_ct.read.dicom.account import note_others, refuse_damaged
from domainsam_ct.read.dicom.files import DicomFiles
from domainsam_ct.read.dicom.headers import ENHANCED_CT, SliceHeader, read_headers
from domainsam_ct.read.dicom.stack import (
    SAME_PLACE_MM,
    TURN_LIMIT_DEGREES,
    UNIT_TOLERANCE,
    check_orientation,
    compute_normal,
    is_even,
    measure_turn,
    project_on_normal,
    sort_slices,
)

AXIAL_COSINE = np.cos(np.radians(45))
LISTED = 6
"""Series told in one line before the rest is only counted."""
UNNAMED = "stack"
"""What series are called whose UID was removed."""
PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
"""Slices that differ in any of these are of different patients."""
SCANS = {
    "AcquisitionNumber": "acquisition",
    "TemporalPositionIdentifier": "phase",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "ConvolutionKernel": "kernel",
}
"""What tells scans of one series apart, in the order in which they are tried; and how it is called."""


@dataclass(frozen=True, eq=False)
class Series:
    """Images that make one stack, in order along their normal.

    Parameters
    ----------
    uid
        Series Instance UID, empty where it was removed.
    headers
        The slices.
    left_out
        What the series holds besides, one sentence each.
    name
        What it is chosen by: the UID, with a number where several stacks share it.
    scan
        What tells it from others of its series, for example ``"acquisition 2"``; empty where nothing does.
    unplaced
        Images of its series and size whose place is unknown.
    """

    uid: str
    headers: tuple[SliceHeader, ...]
    left_out: tuple[str, ...] = ()
    name: str = ""
    scan: str = ""
    unplaced: int = 0

    @property
    def is_axial(self) -> bool:
        """Whether slices lie closer to across the body than to along it."""
        orientation = self.headers[0].orientation
        return orientation is not None and abs(compute_normal(orientation)[2]) > AXIAL_COSINE

    @property
    def extent(self) -> float:
        """Millimetres from the first slice's centre to the last one's."""
        places = project_on_normal(self.headers)
        return float(places[-1] - places[0])

    @property
    def summary(self) -> str:
        """One phrase without anything of the patient."""
        first = self.headers[0]
        plane = "axial" if self.is_axial else "not axial"
        size = f"{first.whole('Columns')} x {first.whole('Rows')} x {len(self.headers)}"
        scan = f"{self.scan}, " if self.scan else ""
        return f"{self.name or self.uid or 'no UID'} ({scan}{size}, {plane}, {self.extent:.0f} mm)"


def find_series(files: DicomFiles) -> list[Series]:
    """All CT series in a folder or zip file, those that reach furthest along the body first.

    Slices of different patients, studies, frames of reference, sizes or
    orientations are never of one series, whatever its UID; scans of one
    series that do not make an even stack together are series by themselves.

    Raises
    ------
    InputError
        If there is none; the line says what was found instead.
    """
    found = read_headers(files)
    headers = found.headers
    if not headers and not found.damaged:
        others = f"; {files.volumes} are volumes: name them one by one" if files.volumes else ""
        raise InputError(
            f"{files.path}: none of its {len(files)} files is DICOM; "
            f"expected the files of a CT series{others}"
        )
    refuse_damaged(files, found)
    slices = [h for h in headers if h.is_image and h.text("Modality") == "CT" and not h.is_localizer]
    enhanced = [
        h for h in slices if h.frame is None and (h.class_uid in ENHANCED_CT or h.whole("NumberOfFrames") > 1)
    ]
    usable = [h for h in slices if h not in enhanced]
    placed = [h for h in usable if h.position and h.orientation and h.spacing]
    groups: dict[tuple[str, ...], list[SliceHeader]] = defaultdict(list)
    for header in placed:
        assert header.orientation is not None
        check_orientation(str(files.path), header.orientation)
        groups[_belonging(header)].append(header)
    series = [one for group in _join_frames(groups) for one in _stacks(group)]
    if not series:
        raise InputError(f"{files.path}: {_why_none(headers, slices, enhanced, placed)}")
    lost = [h for h in usable if h not in placed]
    read = {header.number for one in series for header in one.headers}
    rest = note_others(files, found, slices, read)
    series = [
        replace(one, unplaced=_count_unplaced(one, lost), left_out=(*one.left_out, *rest)) for one in series
    ]
    # Rounding in headers must not decide.
    series.sort(key=lambda one: (one.is_axial, round(one.extent, 1), len(one.headers)), reverse=True)
    return _name_stacks(series)


def choose_series(path: Path, series: Sequence[Series], uid: str | None) -> tuple[Series, tuple[str, ...]]:
    """The series asked for, else the axial one that reaches furthest; and a word about the others.

    Raises
    ------
    InputError
        If no series has that name or UID.
    """
    fitting = [one for one in series if uid is None or one.name == uid] or [
        one for one in series if one.uid == uid
    ]
    if not fitting:
        raise InputError(f"{path}: has no CT series {uid}; it has {list_series(series)}")
    chosen = fitting[0]
    if len(fitting) == 1:
        return chosen, ()
    others = list_series(fitting[1:])
    patients = len({_patient(one.headers[0]) for one in fitting})
    whose = f" of {patients} patients" if patients > 1 else ""
    return chosen, (
        f"{len(fitting)} CT series{whose} found, read {chosen.summary}; others, by their name for --series: "
        f"{others}",
    )


def list_series(series: Sequence[Series]) -> str:
    """Series as a phrase, each with the name that chooses it."""
    told = ", ".join(one.summary for one in series[:LISTED])
    return told + (f" and {len(series) - LISTED} more" if len(series) > LISTED else "")


def _patient(header: SliceHeader) -> tuple[str, ...]:
    return tuple(header.text(keyword) for keyword in PATIENT)


def _belonging(header: SliceHeader) -> tuple[str, ...]:
    """What slices of one series have in common; the frame of reference comes last."""
    own = (header.text("StudyInstanceUID"), header.series_uid, header.text("FrameOfReferenceUID"))
    return (*_patient(header), *own)


def _join_frames(groups: dict[tuple[str, ...], list[SliceHeader]]) -> Iterable[list[SliceHeader]]:
    """Groups of slices; where every slice was given a frame of reference of its own, that tells nothing."""
    joined: dict[tuple[str, ...], list[list[SliceHeader]]] = defaultdict(list)
    for key, group in groups.items():
        joined[key[:-1]].append(group)
    for parts in joined.values():
        if len(parts) > 1 and all(len(part) == 1 for part in parts):
            yield sorted((part[0] for part in parts), key=lambda header: header.number)
        else:
            yield from parts


def _stacks(headers: Sequence[SliceHeader]) -> list[Series]:
    """One series by its tags as stacks of parallel images of one size: mixed series hold several."""
    groups: list[list[SliceHeader]] = []
    for header in headers:
        group = next((group for group in groups if _alike(group[0], header)), None)
        if group is None:
            groups.append([header])
        else:
            group.append(header)
    stacks = []
    for group in groups:
        rest = len(headers) - len(group)
        note = f"the series also holds {rest} images of another size or orientation: they were left out"
        for scan, part in _split_scans(group):
            if len(part) > 1 and np.ptp(project_on_normal(part)) > SAME_PLACE_MM:
                kept = tuple(sort_slices(part))
                stacks.append(Series(part[0].series_uid, kept, (note,) if rest else (), scan=scan))
    return stacks


def _split_scans(group: list[SliceHeader]) -> list[tuple[str, list[SliceHeader]]]:
    """A stack, or where it is uneven and a tag tells scans apart of which one is even, those scans."""
    if len(group) < 4 or is_even(group):
        return [("", group)]
    for keyword, word in SCANS.items():
        parts: dict[str, list[SliceHeader]] = defaultdict(list)
        for header in group:
            parts[header.text(keyword)].append(header)
        lengths = [len(part) for part in parts.values()]
        if len(parts) > 1 and min(lengths) > 1 and any(is_even(part) for part in parts.values()):
            return [(f"{word} {value or 'unknown'}", part) for value, part in sorted(parts.items())]
    return [("", group)]


def _alike(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices have the same size, spacing and orientation, up to rounding in headers."""
    assert one.orientation is not None
    assert other.orientation is not None
    assert one.spacing is not None
    assert other.spacing is not None
    return (
        one.whole("Rows") == other.whole("Rows")
        and one.whole("Columns") == other.whole("Columns")
        and measure_turn(one.orientation, other.orientation) < TURN_LIMIT_DEGREES
        and np.allclose(one.spacing, other.spacing, rtol=UNIT_TOLERANCE, atol=0)
    )


def _count_unplaced(series: Series, lost: Iterable[SliceHeader]) -> int:
    first = series.headers[0]
    key = _belonging(first)[:-1]
    return sum(
        _belonging(header)[:-1] == key
        and header.whole("Rows") == first.whole("Rows")
        and header.whole("Columns") == first.whole("Columns")
        for header in lost
    )


def _name_stacks(series: list[Series]) -> list[Series]:
    """The same with names: the UID, with a number where several stacks share it or it was removed."""
    uids = [one.uid for one in series]
    seen: dict[str, int] = defaultdict(int)
    named = []
    for one in series:
        seen[one.uid] += 1
        shared = uids.count(one.uid) > 1
        name = f"{one.uid or UNNAMED}:{seen[one.uid]}" if shared or not one.uid else one.uid
        named.append(replace(one, name=name))
    return named


def _why_none(
    headers: Sequence[SliceHeader],
    slices: Sequence[SliceHeader],
    enhanced: Sequence[SliceHeader],
    placed: Sequence[SliceHeader],
) -> str:
    """Why no CT series can be made of what is there."""
    if not slices:
        modalities = sorted({header.text("Modality")[:16] or "unknown" for header in headers})
        overview = any(header.is_localizer for header in headers)
        held = "only localizers (overview images)" if overview else f"modality {', '.join(modalities)}"
        return f"its {len(headers)} DICOM files hold {held}, expected a CT series"
    if enhanced:
        return (
            "is a multi-frame CT that does not say where its frames lie; convert it to classic CT images or "
            "NIfTI (for example with dcm2niix)"
        )
    if not placed:
        return (
            "its slices lack Image Position, Image Orientation or Pixel Spacing, so their place is unknown; "
            "export them with these tags"
        )
    if len(placed) > 1:
        return f"holds {len(placed)} CT images, no two of which are of one series; expected one of several"
    return "holds a single CT image; expected a series of several slices"
