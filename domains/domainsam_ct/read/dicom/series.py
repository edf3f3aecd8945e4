"""Find the CT series of a study and choose one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from domainsam.errors import InputError
from domainsam_ct.read.dicom.files import DicomFiles
from domainsam_ct.read.dicom.headers import ENHANCED_CT, SliceHeader, read_headers
from domainsam_ct.read.dicom.stack import (
    SAME_PLACE_MM,
    UNIT_TOLERANCE,
    check_orientation,
    compute_normal,
    project_on_normal,
    sort_slices,
)

AXIAL_COSINE = np.cos(np.radians(45))
LISTED = 6
"""Series told in one line before the rest is only counted."""


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
    """

    uid: str
    headers: tuple[SliceHeader, ...]
    left_out: tuple[str, ...] = ()

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
        return f"{self.uid or 'no UID'} ({size}, {plane}, {self.extent:.0f} mm)"


def find_series(files: DicomFiles) -> list[Series]:
    """All CT series in a folder or zip file, those that reach furthest along the body first.

    Raises
    ------
    InputError
        If there is none; the line says what was found instead.
    """
    headers = read_headers(files)
    if not headers:
        others = f"; {files.volumes} are volumes: name them one by one" if files.volumes else ""
        raise InputError(
            f"{files.path}: none of its {len(files)} files is DICOM; "
            f"expected the files of a CT series{others}"
        )
    slices = [h for h in headers if h.is_image and h.text("Modality") == "CT" and not h.is_localizer]
    enhanced = [h for h in slices if h.class_uid in ENHANCED_CT or h.whole("NumberOfFrames") > 1]
    placed = [h for h in slices if h.position and h.orientation and h.spacing and h not in enhanced]
    groups: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in placed:
        assert header.orientation is not None
        check_orientation(str(files.path), header.orientation)
        groups[header.series_uid].append(header)
    series = [one for uid, group in groups.items() for one in _stacks(uid, group)]
    if not series:
        raise InputError(f"{files.path}: {_why_none(headers, slices, enhanced, placed)}")
    return sorted(series, key=lambda one: (one.is_axial, one.extent, len(one.headers)), reverse=True)


def choose_series(path: Path, series: Sequence[Series], uid: str | None) -> tuple[Series, tuple[str, ...]]:
    """The series asked for, else the axial one that reaches furthest; and a word about the others.

    Raises
    ------
    InputError
        If no series has that UID.
    """
    if uid is not None:
        matching = [one for one in series if one.uid == uid]
        if not matching:
            raise InputError(f"{path}: has no CT series {uid}; it has {_listed(series)}")
        return matching[0], ()
    chosen = series[0]
    if len(series) == 1:
        return chosen, ()
    others = _listed(series[1:])
    return chosen, (f"{len(series)} CT series found, read {chosen.summary}; others by UID: {others}",)


def _listed(series: Sequence[Series]) -> str:
    told = ", ".join(one.summary for one in series[:LISTED])
    return told + (f" and {len(series) - LISTED} more" if len(series) > LISTED else "")


def _stacks(uid: str, headers: Sequence[SliceHeader]) -> list[Series]:
    """One series by UID as stacks of parallel images of one size: mixed series hold several."""
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
        if len(group) > 1 and np.ptp(project_on_normal(group)) > SAME_PLACE_MM:
            stacks.append(Series(uid, tuple(sort_slices(group)), (note,) if rest else ()))
    return stacks


def _alike(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices have the same size, spacing and orientation, up to rounding in headers."""
    assert one.orientation is not None
    assert other.orientation is not None
    assert one.spacing is not None
    assert other.spacing is not None
    return (
        one.whole("Rows") == other.whole("Rows")
        and one.whole("Columns") == other.whole("Columns")
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=UNIT_TOLERANCE)
        and np.allclose(one.spacing, other.spacing, rtol=UNIT_TOLERANCE, atol=0)
    )


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
            "is an enhanced multi-frame CT, which is not read; convert it to classic CT images or NIfTI "
            "(for example with dcm2niix)"
        )
    if not placed:
        return (
            "its slices lack Image Position, Image Orientation or Pixel Spacing, so their place is unknown; "
            "export them with these tags"
        )
    return "holds a single CT image; expected a series of several slices"
