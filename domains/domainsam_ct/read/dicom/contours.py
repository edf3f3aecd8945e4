"""Read RT structure sets as masks: contours become the voxels of the scan that they were drawn on.

PS3.3, C.8.8.5 and C.8.8.6. Contours have no voxels of their own, so a scan, or
another mask on its grid, says which there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from domainsam.errors import InputError
from domainsam_ct.read.dicom.files import silence_libraries
from domainsam_ct.read.dicom.polygons import Points, fill_contours
from domainsam_ct.read.geometry import NativeGeometry, Orientation
from domainsam_ct.read.volume import MaskGeometry, ReadMask, ScanGrid

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP class (PS3.4, table B.5-1)."""
CONTOUR_DATA = Tag("ContourData")
CLOSED, EXCLUDING = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
FLAT_PART = 0.1
"""Part of a voxel by which points of a contour may leave its plane."""
LEVEL_PART = 0.2
"""Part of the distance of slices by which a contour may miss its slice: headers round positions."""
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
SHOWN = 5


@dataclass(frozen=True, eq=False)
class Region:
    """One region of interest: its name, and its closed contours as points ``(n, 3)`` in RAS millimetres.

    ``others`` are kinds of contours that enclose nothing, ``xor`` says that
    contours on a slice exclude each other.
    """

    name: str
    frame_uid: str
    contours: tuple[Points, ...]
    others: tuple[str, ...] = ()
    xor: bool = False


@dataclass
class Notes:
    """What was met on the way, by region."""

    missing: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def lines(self) -> tuple[str, ...]:
        """The notes, one sentence each."""
        told = []
        if self.missing:
            told.append(
                f"no contours on slices between first and last, which are empty: {_list(self.missing)}"
            )
        if self.crossed:
            told.append(f"contours that overlap in part are joined: {_list(self.crossed)}")
        if self.outside:
            told.append(f"contours reach outside the grid and are cut there: {_list(self.outside)}")
        return tuple(told)


def is_rtstruct(path: Path) -> bool:
    """Whether a file is a DICOM RT structure set."""
    with silence_libraries():
        try:
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        except Exception:
            # Whatever damaged bytes make of a file, it is none.
            return False
    return str(found.get("SOPClassUID")) == STRUCTURE_SET


def read_rtstruct(path: Path, scan: ScanGrid) -> ReadMask:
    """Read a structure set as a mask on the grid of ``scan``; values count its regions from 1.

    A voxel is inside where its centre is; see :mod:`domainsam_ct.read.dicom.polygons`.

    Raises
    ------
    InputError
        If it is damaged, holds no closed contours, is in another frame of
        reference than the scan, or its contours do not lie in the scan's slices.
    """
    regions = _read_regions(path)
    notes = [*_check_frame(path, regions, scan), *_tell_others(regions)]
    axis = _find_axis(path, regions, scan)
    labels = np.zeros(scan.grid.shape, np.uint16)
    shared: set[int] = set()
    met = Notes()
    for value, region in enumerate(regions, start=1):
        inside = _fill(path, region, scan, axis, met)
        others = {int(other) for other in np.unique(labels[inside])} - {0}
        shared |= others | ({value} if others else set())
        labels[inside] = value
    names = {value: region.name for value, region in enumerate(regions, start=1)}
    whole = {value: _fill(path, regions[value - 1], scan, axis, Notes()) for value in sorted(shared)}
    if shared:
        told = _list(names[value] for value in sorted(shared))
        notes.append(f"regions overlap ({told}): each is measured whole")
    i, j, k = scan.native.shape
    native = NativeGeometry((i, j, k), scan.native.affine, Orientation.of(scan.native.affine), "dicom")
    kept = labels.astype(np.uint8) if len(regions) < 256 else labels
    told_of = (*notes, *met.lines())
    return ReadMask(
        kept,
        MaskGeometry(
            scan.grid, native, names, path.name, told_of, whole, own_numbers=True, frame_uid=scan.frame_uid
        ),
    )


def _read_regions(path: Path) -> list[Region]:
    with silence_libraries():
        try:
            dataset = pydicom.dcmread(path)
            drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or ()}
            listed = dataset.get("StructureSetROISequence") or ()
            regions = [_read_region(path, item, drawn.get(int(item.ROINumber))) for item in listed]
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{path}: is a damaged RTSTRUCT; copy or export it again") from error
    if not any(region.contours for region in regions):
        raise InputError(f"{path}: holds no closed contours, so there is no organ in it")
    return _with_own_names(regions)


def _read_region(path: Path, listed: Any, drawn: Any | None) -> Region:
    contours, others, xor = [], [], False
    for item in (() if drawn is None else drawn.get("ContourSequence")) or ():
        kind = str(item.get("ContourGeometricType") or "")
        points = _read_points(path, item)
        if kind not in (CLOSED, EXCLUDING):
            others.append(kind or "contours without a type")
        elif len(points) < 3:
            others.append(f"contours of {len(points)} points")
        else:
            contours.append(points * LPS_TO_RAS)
            xor = xor or kind == EXCLUDING
    name = str(listed.get("ROIName") or "").strip() or f"region_{int(listed.ROINumber)}"
    frame = str(listed.get("ReferencedFrameOfReferenceUID") or "").strip()
    return Region(name, frame, tuple(contours), tuple(dict.fromkeys(others)), xor)


def _read_points(path: Path, item: Any) -> Points:
    """Points ``(n, 3)`` in LPS millimetres, taken from the text: pydicom looks at each number by itself."""
    element = item.get_item(CONTOUR_DATA)
    if element is None or not element.value:
        return np.zeros((0, 3))
    raw = element.value if isinstance(element, RawDataElement) else None
    numbers = raw.decode("ascii").split("\\") if isinstance(raw, bytes) else list(element.value)
    points = np.array([float(number) for number in numbers])
    if len(points) % 3 or not np.isfinite(points).all():
        raise InputError(f"{path}: has a contour whose numbers are no points; export it again")
    return points.reshape(-1, 3)


def _with_own_names(regions: list[Region]) -> list[Region]:
    """The same, where two have one name with a number behind the second."""
    taken: set[str] = set()
    made = []
    for region in regions:
        name, number = region.name, 1
        while name in taken:
            number += 1
            name = f"{region.name}_{number}"
        taken.add(name)
        made.append(replace(region, name=name))
    return made


def _check_frame(path: Path, regions: list[Region], scan: ScanGrid) -> tuple[str, ...]:
    frames = {region.frame_uid for region in regions if region.contours} - {""}
    if not frames or not scan.frame_uid:
        return (
            f"the frame of reference of {scan.name if frames else 'the contours'} is not known: contours are "
            "placed by their coordinates alone",
        )
    if frames - {scan.frame_uid}:
        raise InputError(
            f"{path}: its contours are in another frame of reference than {scan.name}, so they were drawn on "
            "another scan; give that one, or register the contours first"
        )
    return ()


def _tell_others(regions: list[Region]) -> tuple[str, ...]:
    told = [f"{region.name} ({', '.join(region.others)})" for region in regions if region.others]
    empty = [region.name for region in regions if not region.contours and not region.others]
    notes = []
    if told:
        notes.append(f"contours that enclose nothing are not read: {_list(told)}")
    if empty:
        notes.append(f"regions without contours: {_list(empty)}")
    return tuple(notes)


def _find_axis(path: Path, regions: list[Region], scan: ScanGrid) -> int:
    """The canonical axis across which all contours lie."""
    spans = np.array(
        [np.ptp(scan.grid.to_index(points), axis=0) for region in regions for points in region.contours]
    ).max(axis=0)
    axis = int(spans.argmin())
    if spans[axis] > FLAT_PART:
        raise InputError(
            f"{path}: its contours do not lie in the slices of {scan.name} (they cross up to "
            f"{spans[axis]:.2g} slices); give the series that they were drawn on"
        )
    return axis


def _fill(path: Path, region: Region, scan: ScanGrid, axis: int, met: Notes) -> NDArray[np.bool_]:
    """All voxels of a region, canonical ``(x, y, z)``."""
    inside = np.zeros(scan.grid.shape, bool)
    planes = np.moveaxis(inside, axis, 0)
    by_level = _sort_by_level(path, region, scan, axis)
    crossed = outside = False
    for level, contours in by_level.items():
        if not 0 <= level < len(planes):
            outside = True
            continue
        rows, columns = planes.shape[1:]
        limits = np.array([columns, rows]) - 0.5
        outside = outside or any((p.min() < -0.5 or (p > limits).any()) for p in contours)
        filled, overlap = fill_contours(contours, (rows, columns), region.xor)
        planes[level] = filled
        crossed = crossed or overlap
    gaps = max(by_level) - min(by_level) + 1 - len(by_level) if by_level else 0
    if gaps:
        met.missing.append(f"{region.name} ({gaps})")
    if crossed:
        met.crossed.append(region.name)
    if outside:
        met.outside.append(region.name)
    return inside


def _sort_by_level(path: Path, region: Region, scan: ScanGrid, axis: int) -> dict[int, list[Points]]:
    """Contours by slice, each as ``(n, 2)`` of (column, row): the later canonical axis first."""
    found: dict[int, list[Points]] = defaultdict(list)
    first, second = (other for other in range(3) if other != axis)
    for points in region.contours:
        index = scan.grid.to_index(points)
        level = float(index[:, axis].mean())
        if abs(level - round(level)) > LEVEL_PART:
            step = scan.grid.spacing[axis]
            raise InputError(
                f"{path}: contours of {region.name} lie {abs(level - round(level)) * step:.2g} mm beside the "
                f"slices of {scan.name}; give the series that they were drawn on"
            )
        found[round(level)].append(index[:, [second, first]])
    return found


def _list(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
