"""Read and check NIfTI-1 and NIfTI-2 headers.

Specification: https://nifti.nimh.nih.gov/nifti-1 and nifti-2.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam_ct.read.geometry import NativeGeometry, Orientation, check_affine

ByteStream: TypeAlias = IO[bytes] | gzip.GzipFile

HEADER_CLASSES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""By the size that a header begins with."""
UNITS = {1: "metres", 3: "micrometres"}
"""Spatial codes of ``xyzt_units`` that are not millimetres; 0 says nothing."""
EXTENSION_BYTES = 1 << 20
"""Extensions are read so far; label names come early."""
PLACES_APART_MM = 0.1
"""Rounding keeps sform and qform closer together than this."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a NIfTI header says, checked.

    ``raw`` is the header as read, ``extensions`` what follows it, ``start``
    the offset of the voxels, ``dtype`` their type with byte order, ``shape``
    the three axes.
    """

    raw: bytes
    extensions: bytes
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    start: int
    affine: NDArray[np.float64]
    slope: float
    intercept: float
    warnings: tuple[str, ...]

    @property
    def plane_bytes(self) -> int:
        """Bytes of one ``k`` plane."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def data_bytes(self) -> int:
        """Bytes of all voxels."""
        return self.plane_bytes * self.shape[2]


def read_header(stream: ByteStream, path: Path, mask: bool = False) -> Header:
    """Read and check the header at the start of a stream; of a mask, one slice is enough.

    Raises
    ------
    InputError
        If there is none, or it describes no volume that can be placed.
    """
    start = stream.read(4)
    size = next((n for n in HEADER_CLASSES if start in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), None)
    if size is None:
        raise InputError(f"{path}: is not a NIfTI file; expected NIfTI-1 or NIfTI-2 (.nii, .nii.gz)")
    raw = start + stream.read(size - 4)
    if len(raw) < size:
        raise InputError(f"{path}: is truncated within its header; copy or download it again")
    parsed = parse_header(raw)
    magic = bytes(parsed["magic"].tobytes())
    if not magic.startswith((b"n+1", b"n+2")):
        raise InputError(
            f"{path}: is not a single-file NIfTI (magic {magic[:3]!r}); convert Analyze or .hdr/.img pairs "
            "to .nii.gz, with their orientation"
        )
    shape, dtype = _shape(parsed, path, mask), _dtype(parsed, path)
    slope, intercept = _scaling(parsed, path)
    affine, notes = _affine(parsed, path)
    offset = float(parsed["vox_offset"])
    voxels = max(int(offset) if np.isfinite(offset) else 0, size + 4)
    return Header(
        raw=raw,
        extensions=stream.read(min(voxels - size, EXTENSION_BYTES)),
        shape=shape,
        dtype=dtype,
        start=voxels,
        affine=affine,
        slope=slope,
        intercept=intercept,
        warnings=notes,
    )


def parse_header(raw: bytes) -> Any:
    """A nibabel header of the bytes of one, in the byte order that its first field tells."""
    order = "<" if int.from_bytes(raw[:4], "little") == len(raw) else ">"
    return HEADER_CLASSES[len(raw)](raw, endianness=order, check=False)


def make_native_geometry(header: Header) -> NativeGeometry:
    """The grid of a NIfTI file."""
    return NativeGeometry(header.shape, header.affine, Orientation.of(header.affine), "nifti", header.raw)


def _shape(parsed: Any, path: Path, mask: bool) -> tuple[int, int, int]:
    count = int(parsed["dim"][0])
    if not 1 <= count <= 7:
        raise InputError(f"{path}: its header is damaged ({count} axes); export it again")
    sizes = [int(size) for size in parsed["dim"][1 : count + 1]]
    if min(sizes) < 1:
        raise InputError(f"{path}: has no voxels ({format_sizes(sizes)}); expected a volume")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 3:
        raise InputError(
            f"{path}: has {len(sizes)} axes ({format_sizes(sizes)}), expected one volume of 3; "
            "choose one and save it by itself"
        )
    if len(sizes) == 2 and mask:
        sizes.append(1)
    if len(sizes) < 3 or (min(sizes) < 2 and not mask):
        raise InputError(
            f"{path}: is a single image ({format_sizes(sizes)}), expected a volume of several slices"
        )
    return sizes[0], sizes[1], sizes[2]


def _dtype(parsed: Any, path: Path) -> np.dtype[Any]:
    try:
        dtype = np.dtype(parsed.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise InputError(f"{path}: its data type code {int(parsed['datatype'])} is unknown") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: holds {dtype.name} values, expected whole or floating-point numbers")
    return dtype


def _scaling(parsed: Any, path: Path) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means there is none (the specification's words)."""
    slope, intercept = float(parsed["scl_slope"]), float(parsed["scl_inter"])
    if slope == 0.0 or np.isnan(slope):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise InputError(f"{path}: its scaling ({slope:g} x + {intercept:g}) is not finite; export it again")
    return slope, intercept


def _affine(parsed: Any, path: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    unit = int(parsed["xyzt_units"]) & 7
    if unit in UNITS:
        raise InputError(
            f"{path}: its header gives {UNITS[unit]}, expected millimetres; correct xyzt_units and the affine"
        )
    if parsed["sform_code"] <= 0 and parsed["qform_code"] <= 0:
        raise InputError(
            f"{path}: has neither sform nor qform, so left and right are unknown; "
            "export it with its orientation"
        )
    qform = _qform(parsed, path) if parsed["qform_code"] > 0 else None
    if parsed["sform_code"] <= 0:
        assert qform is not None
        return qform, check_affine(str(path), qform)
    sform = np.asarray(parsed.get_sform(), np.float64)
    notes = check_affine(str(path), sform)
    return sform, notes if qform is None else (*notes, *_agreement(sform, qform, parsed, path))


def _qform(parsed: Any, path: Path) -> NDArray[np.float64]:
    try:
        qform = np.asarray(parsed.get_qform(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{path}: its qform is damaged; export it again") from error
    return qform


def _agreement(
    sform: NDArray[np.float64], qform: NDArray[np.float64], parsed: Any, path: Path
) -> tuple[str, ...]:
    """Compare the two places a header gives, at the corners of the volume."""
    sizes = np.maximum(parsed["dim"][1:4].astype(float) - 1, 0)
    corners = np.array([[*(sizes * np.array(bits)), 1] for bits in np.ndindex(2, 2, 2)])
    apart = float(np.abs(corners @ (sform - qform).T).max())
    if not apart > PLACES_APART_MM:
        return ()
    if nib.aff2axcodes(sform) != nib.aff2axcodes(qform):
        raise InputError(f"{path}: its sform and qform give different orientations; remove the wrong one")
    return (f"sform and qform put voxels up to {apart:.3g} mm apart: the sform is used",)


def format_sizes(sizes: Sequence[int]) -> str:
    """Format sizes for a message, for example ``512 x 512 x 100``."""
    return " x ".join(str(size) for size in sizes)
