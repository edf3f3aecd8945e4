"""Reading DICOM Segmentation objects, of this program or others, as masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels import iter_pixels

from domainsam.errors import InputError
from domainsam.limits import require_memory
from domainsam_ct.read.dicom.files import silence_libraries
from domainsam_ct.read.dicom.headers import read_numbers
from domainsam_ct.read.dicom.series import Series
from domainsam_ct.read.dicom.stack import (
    LPS_TO_RAS,
    SAME_PLACE_MM,
    UNEVEN_PART,
    check_orientation,
    compute_normal,
)
from domainsam_ct.read.geometry import NativeGeometry, Orientation, check_affine
from domainsam_ct.read.volume import MaskGeometry, ReadMask, Volume

SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentations by bits and of label maps (PS3.4, table B.5-1)."""


SEG_BYTES = 6
"""Bytes a voxel of a mask in memory: 16 bits, a byte, and the frames as the file has them."""


@dataclass(frozen=True)
class Frame:
    """Where one frame lies (LPS millimetres) and which segment it is of; 0 where it holds all of them."""

    position: tuple[float, ...]
    segment: int


def read_dicom_seg(path: Path) -> ReadMask:
    """Read a mask; see :func:`domainsam_ct.read.open.read_mask`.

    Values are segment numbers. Frames that were left out are background; the
    grid reaches from the first to the last frame there is. Of fractions, half
    and more is inside.
    """
    dataset = _open(path)
    placed = _frames(path, dataset)
    affine, levels = _grid(path, dataset, placed)
    shape = (int(dataset.Columns), int(dataset.Rows), max(levels) + 1)
    notes = check_affine(str(path), affine)
    require_memory(
        path, SEG_BYTES * shape[0] * shape[1] * shape[2], f"{shape[0]} x {shape[1]} x {shape[2]} voxels"
    )
    least, halved = _threshold(dataset)
    labels = np.zeros(shape, np.uint16)
    shared = _fill(path, dataset, placed, levels, labels, least)
    whole: dict[int, NDArray[np.bool_]] = {}
    if shared:
        whole = {value: np.zeros(shape, bool) for value in sorted(shared)}
        _fill_whole(path, dataset, placed, levels, whole, least)
        notes = (*notes, f"segments {', '.join(map(str, whole))} overlap: each is measured whole")
    native = NativeGeometry(shape, affine, Orientation.of(affine), "dicom")
    names = {int(item.SegmentNumber): _name(dataset, item) for item in dataset.SegmentSequence}
    kept = labels.astype(np.uint8) if labels.max(initial=0) < 256 else labels
    turn = native.orientation
    geometry = MaskGeometry(
        native.canonical_grid(),
        native,
        names,
        path.name,
        (*notes, *halved),
        {value: turn.to_canonical(mask) for value, mask in whole.items()},
        (turn.axes[0] == 2, turn.axes[1] == 2, turn.axes[2] == 2),
        own_numbers=True,
        frame_uid=str(dataset.get("FrameOfReferenceUID") or ""),
    )
    return ReadMask(turn.to_canonical(kept), geometry)


def _threshold(dataset: Any) -> tuple[int, tuple[str, ...]]:
    """The least stored value that is inside, and a note where values are fractions."""
    if str(dataset.get("SegmentationType")) != "FRACTIONAL":
        return 1, ()
    most = int(dataset.get("MaximumFractionalValue") or 255)
    return (most + 1) // 2, ("segments are fractions: half and more is taken as inside",)


def _name(dataset: Any, segment: Any) -> str:
    """A segment's name; from our own objects the organ's, which label maps know."""
    ours = str(dataset.get("Manufacturer", "")) == MAKER
    return str((ours and segment.get("TrackingID")) or segment.get("SegmentLabel", ""))


def _open(path: Path) -> Any:
    with silence_libraries():
        try:
            dataset = pydicom.dcmread(path)
            kind = dataset.SOPClassUID
        except (InvalidDicomError, AttributeError, EOFError, OSError, ValueError) as error:
            raise InputError(
                f"{path}: is no mask that can be read; expected .nii, .nii.gz, .nrrd, .mha or a DICOM SEG"
            ) from error
    if kind not in SEGMENTATION_CLASSES:
        raise InputError(f"{path}: is a DICOM file but no segmentation; expected a DICOM SEG")
    if str(dataset.get("SegmentationType")) not in ("BINARY", "LABELMAP", "FRACTIONAL"):
        raise InputError(
            f"{path}: is a segmentation of unknown type; expected BINARY, LABELMAP or FRACTIONAL"
        )
    if "PixelData" not in dataset:
        raise InputError(f"{path}: is truncated; copy it again")
    return dataset


def _frames(path: Path, dataset: Any) -> list[Frame]:
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    frames = []
    for item in dataset.get("PerFrameFunctionalGroupsSequence") or []:
        place = _group(item, shared[0], "PlanePositionSequence")
        position = None if place is None else read_numbers(place, "ImagePositionPatient", 3)
        if position is None:
            raise InputError(f"{path}: a frame does not say where it lies; expected Image Position (Patient)")
        which = _group(item, shared[0], "SegmentIdentificationSequence")
        frames.append(Frame(position, 0 if which is None else int(which.ReferencedSegmentNumber)))
    if not frames:
        raise InputError(f"{path}: holds no frames")
    return frames


def _group(item: Any, shared: Any, keyword: str) -> Any | None:
    found = item.get(keyword) or shared.get(keyword)
    return found[0] if found else None


def _grid(path: Path, dataset: Any, frames: list[Frame]) -> tuple[NDArray[np.float64], list[int]]:
    """Affine of ``(column, row, slice)`` to RAS, and each frame's slice."""
    shared, first = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
    plane = _group(first, shared, "PlaneOrientationSequence")
    measures = _group(first, shared, "PixelMeasuresSequence")
    orientation = None if plane is None else read_numbers(plane, "ImageOrientationPatient", 6)
    spacing = None if measures is None else read_numbers(measures, "PixelSpacing", 2)
    if orientation is None or spacing is None:
        raise InputError(f"{path}: lacks the orientation or spacing of its frames; export it again")
    check_orientation(str(path), orientation)
    positions = np.array([frame.position for frame in frames])
    heights = positions @ compute_normal(orientation)
    places = np.unique(np.round(heights / SAME_PLACE_MM)) * SAME_PLACE_MM
    declared = read_numbers(measures, "SpacingBetweenSlices", 1)
    thickness = read_numbers(measures, "SliceThickness", 1) or (1.0,)
    gap = declared[0] if declared else float(np.diff(places).min()) if len(places) > 1 else thickness[0]
    gap = abs(gap) or 1.0
    levels = (heights - heights.min()) / gap
    if np.abs(levels - np.round(levels)).max() > UNEVEN_PART:
        raise InputError(f"{path}: its frames are unevenly spaced; expected whole multiples of {gap:.4g} mm")
    lowest, highest = int(heights.argmin()), int(heights.argmax())
    count = max(1, round(float(levels[highest])))
    affine = np.eye(4)
    affine[:3, 0] = np.array(orientation[:3]) * spacing[1]
    affine[:3, 1] = np.array(orientation[3:]) * spacing[0]
    step = (positions[highest] - positions[lowest]) / count
    # A single slice has a neighbour nowhere: the next one lies across it.
    affine[:3, 2] = step if lowest != highest else compute_normal(orientation) * gap
    affine[:3, 3] = positions[lowest]
    return LPS_TO_RAS @ affine, [round(float(level)) for level in levels]


def _fill(
    path: Path,
    dataset: Any,
    frames: list[Frame],
    levels: list[int],
    labels: NDArray[np.uint16],
    least: int,
) -> set[int]:
    """Lay every frame into ``(column, row, slice)`` labels; return the segments that share voxels."""
    shared: set[int] = set()
    for frame, level, image in _decoded(path, dataset, frames, levels):
        target = labels[..., level]
        inside = image >= least
        if frame.segment == 0:
            target[inside] = image[inside]
            continue
        before = np.unique(target[inside])
        others = {int(value) for value in before if value not in (0, frame.segment)}
        shared |= others | ({frame.segment} if others else set())
        target[inside] = np.maximum(target[inside], frame.segment)
    return shared


def _fill_whole(
    path: Path,
    dataset: Any,
    frames: list[Frame],
    levels: list[int],
    whole: dict[int, NDArray[np.bool_]],
    least: int,
) -> None:
    """Lay every frame of the segments in ``whole`` into the mask of its own."""
    for frame, level, image in _decoded(path, dataset, frames, levels):
        if frame.segment in whole:
            whole[frame.segment][..., level] |= image >= least


def _decoded(
    path: Path, dataset: Any, frames: list[Frame], levels: list[int]
) -> Iterator[tuple[Frame, int, NDArray[Any]]]:
    """Every frame with its slice and its image ``(column, row)``."""
    with silence_libraries():
        try:
            for frame, level, image in zip(frames, levels, iter_pixels(dataset), strict=True):
                yield frame, level, image.T
        except (ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
            raise InputError(f"{path}: its frames cannot be decoded: damaged or truncated") from error


MAKER = "domainsam"
MODEL = "domainsam ct"

Scalar = TypeVar("Scalar", bound=np.generic)


def get_series(volume: Volume, what: str) -> Series:
    """The DICOM series a volume was read from.

    Raises
    ------
    InputError
        If it came from no DICOM files, so there is nothing that ``what`` could refer to.
    """
    series = volume.native.series
    if series is None:
        raise InputError(
            f"{volume.source_name}: {what} refers to DICOM images, and this volume is none; "
            "give the DICOM folder, or leave that output out"
        )
    return series


def to_frames(mask: NDArray[Scalar], volume: Volume) -> NDArray[Scalar]:
    """A canonical mask ``(x, y, z)`` as the series' own images ``(slice, row, column)``.

    Raises
    ------
    ValueError
        If the mask has another shape than the volume.
    """
    if mask.shape != volume.shape:
        raise ValueError(f"mask of {mask.shape} for a volume of {volume.shape}")
    return np.ascontiguousarray(volume.native.orientation.to_native(mask).transpose(2, 1, 0))


def present_values(
    mask: NDArray[np.uint8],
    labels: Iterable[int],
    volume: Volume,
    what: str,
    whole: Mapping[int, NDArray[np.bool_]] | None = None,
) -> list[int]:
    """Values of the organs that a mask ``(x, y, z)``, or the masks of overlapping organs hold, in order.

    Raises
    ------
    InputError
        If there is none: ``what`` is to be written, ``"an RTSTRUCT"`` for instance, cannot be empty.
    """
    found = {int(value) for value in np.flatnonzero(np.bincount(mask.ravel()))}
    found |= {value for value, inside in (whole or {}).items() if inside.any()}
    present = [value for value in sorted(labels) if value > 0 and value in found]
    if not present:
        raise InputError(f"{volume.source_name}: no organ was found, and {what} cannot be empty")
    return present
