"""Open a CT series as a volume in Hounsfield units."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array

from domainsam.errors import DependencyError, InputError
from domainsam.io.whole import CODESTREAM_END, check_codestream
from domainsam.limits import require_memory
from domainsam_ct.read.dicom.account import note_numbers
from domainsam_ct.read.dicom.files import DicomFiles, read_dataset, silence_libraries
from domainsam_ct.read.dicom.headers import SliceHeader, read_headers
from domainsam_ct.read.dicom.series import Series, choose_series, find_series, list_series
from domainsam_ct.read.dicom.stack import SAME_PLACE_MM, compute_stack_affine, project_on_normal
from domainsam_ct.read.geometry import NativeGeometry, Orientation, check_affine
from domainsam_ct.read.planes import PlaneStore
from domainsam_ct.read.volume import Volume, Voxels, check_values

DECODE_BYTES = 24
"""Bytes a pixel while a slice is decoded: stored values, Hounsfield units in doubles, and a copy."""
JPEG_START, CODESTREAM_START = b"\xff\xd8", b"\xff\x4f"
PADDING = 16
"""Bytes near a frame's end among which its last marker is."""


def open_dicom(path: Path, series_uid: str | None = None, scratch: Path | None = None) -> Volume:
    """Open a CT series of a folder or zip file; see :func:`domainsam_ct.read.open.open_volume`.

    Of several series the one with ``series_uid`` is read, else the axial one
    that reaches furthest along the body. One file means the series of its
    folder that it is a slice of.
    """
    alone = path.is_file() and path.suffix.lower() != ".zip"
    if alone and not _is_slice(path):
        alone = False
    with DicomFiles(path.parent, below=False) if alone else DicomFiles(path) as files:
        series = find_series(files)
        notes: tuple[str, ...]
        if alone and series_uid is None:
            own = [one for one in series if any(files.is_file(h.number, path) for h in one.headers)]
            if not own:
                raise InputError(f"{path}: is a slice of no CT series in its folder; name the folder")
            notes = (f"read the series of its folder: {own[0].summary}",)
            chosen = own[0]
        else:
            chosen, notes = choose_series(path, series, series_uid)
        try:
            return _open_series(path, files, chosen, notes, scratch)
        except InputError as error:
            if len(series) == 1:
                raise
            # Whoever meets a broken series must learn how to choose another.
            raise InputError(
                f"{error} [read: {chosen.summary}; others, by their name for --series: "
                f"{list_series([one for one in series if one is not chosen])}]"
            ) from error


def _is_slice(path: Path) -> bool:
    """Whether a DICOM file is one slice of a CT, and not a volume by itself or no CT at all."""
    with DicomFiles(path) as files:
        headers = read_headers(files).headers
    if len(headers) != 1:
        return False
    (header,) = headers
    return header.is_image and header.text("Modality") == "CT" and header.frame is None


def _open_series(
    path: Path, files: DicomFiles, chosen: Series, notes: tuple[str, ...], scratch: Path | None
) -> Volume:
    name = str(path)
    if chosen.unplaced:
        raise InputError(
            f"{name}: {chosen.unplaced} of {len(chosen.headers) + chosen.unplaced} slices of the series "
            "have no Image Position, Image Orientation or Pixel Spacing, so their place is unknown; "
            "export the series again with these tags"
        )
    with ExitStack() as stack:
        if files.volumes:
            notes = (*notes, f"{files.volumes} NIfTI, NRRD or MHA files beside the series are not read")
        series, doubles = drop_doubles(name, files, chosen)
        affine, uneven = compute_stack_affine(name, series.headers)
        first = series.headers[0]
        shape = (first.whole("Columns"), first.whole("Rows"), len(series.headers))
        told = f"slices of {shape[0]} x {shape[1]} pixels"
        require_memory(name, DECODE_BYTES * shape[0] * shape[1], told)
        if min(shape) < 2:
            raise InputError(f"{name}: is a single image, expected a series of several slices")
        orientation = Orientation.of(affine)
        native = NativeGeometry(shape, affine, orientation, "dicom", series=series)
        place = check_affine(name, affine)
        scaling = [_scaling(name, header) for header in series.headers]
        store = PlaneStore.temporary(shape, _dtype(series.headers, scaling), orientation.slice_axis, scratch)
        stack.callback(store.close)
        low, high = _decode(name, files, series.headers, scaling, store)
        numbered = note_numbers(series.headers) if not doubles else ()
        found = (
            *doubles,
            *uneven,
            *numbered,
            *_check_units(series.headers),
            *place,
            *check_values(name, low, high),
        )
        notes = (*notes, *series.left_out, *found)
        stack.pop_all()
    return Volume(native.canonical_grid(), native, Voxels(store), path.name, notes, (low, high))


def drop_doubles(name: str, files: DicomFiles, series: Series) -> tuple[Series, tuple[str, ...]]:
    """The series with one image at each place.

    Raises
    ------
    InputError
        If two images of one place differ: phases, or reconstructions, in one series.
    """
    kept = [series.headers[0]]
    places = project_on_normal(series.headers)
    doubles = 0
    for header, step in zip(series.headers[1:], np.diff(places), strict=True):
        if step > SAME_PLACE_MM:
            kept.append(header)
        elif _same_pixels(name, files, header, kept[-1]):
            doubles += 1
        else:
            raise InputError(
                f"{name}: holds different images of the same place (slice {len(kept)}): several phases or "
                "reconstructions in one series; keep one of them in the folder"
            )
    notes = (f"{doubles} slices are there twice: one of each is used",) if doubles else ()
    return replace(series, headers=tuple(kept)), notes


def _same_pixels(name: str, files: DicomFiles, one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices show the same, however their pixels are coded."""
    if _scaling(name, one) != _scaling(name, other):
        return False
    if one.frame is None and other.frame is None and _digest(files, one) == _digest(files, other):
        return True
    return np.array_equal(decode(name, files, one), decode(name, files, other))


def _digest(files: DicomFiles, header: SliceHeader) -> bytes:
    with files.open(header.number) as stream:
        dataset = read_dataset(stream)
    return hashlib.sha256(getattr(dataset, "PixelData", b"")).digest()


def _check_units(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """A note where the headers say that rescaled values are no Hounsfield units."""
    told = sorted({header.text("RescaleType") for header in headers} - {"", "HU"})
    if not told:
        return ()
    return (
        f"Rescale Type is {', '.join(told)} and not HU: values are taken as Hounsfield units all the same, "
        "which the scanner does not vouch for",
    )


def _scaling(name: str, header: SliceHeader) -> tuple[float, float]:
    slope, intercept = header.number_of("RescaleSlope"), header.number_of("RescaleIntercept")
    if slope is None or intercept is None or slope == 0.0:
        raise InputError(
            f"{name}: a slice lacks Rescale Slope or Rescale Intercept, so its Hounsfield units are unknown; "
            "export the series with these tags"
        )
    return slope, intercept


def _dtype(headers: Sequence[SliceHeader], scaling: Sequence[tuple[float, float]]) -> np.dtype[Any]:
    """The smallest type that holds every value that these headers allow."""
    if any(not value.is_integer() for pair in scaling for value in pair):
        return np.dtype(np.float32)
    ends = []
    for header, (slope, intercept) in zip(headers, scaling, strict=True):
        bits = header.whole("BitsStored") or header.whole("BitsAllocated")
        stored = (-(1 << bits - 1), 1 << bits - 1) if header.whole("PixelRepresentation") else (0, 1 << bits)
        ends += [slope * value + intercept for value in stored]
    limits = np.iinfo(np.int16)
    return np.dtype(np.int16 if limits.min <= min(ends) and max(ends) <= limits.max + 1 else np.float32)


def _decode(
    name: str,
    files: DicomFiles,
    headers: Sequence[SliceHeader],
    scaling: Sequence[tuple[float, float]],
    store: PlaneStore,
) -> tuple[float, float]:
    """Stage all slices in Hounsfield units; return the lowest and highest value."""
    low, high = np.inf, -np.inf
    length = store.slab_length()
    slab = np.empty((*store.shape[:2], length), store.dtype, order="F")
    held: tuple[int, Any] = (-1, None)
    for number, (header, (slope, intercept)) in enumerate(zip(headers, scaling, strict=True)):
        if header.frame is not None and header.number != held[0]:
            # Frames of one file: read once and not for each of them.
            held = header.number, _read_whole(files, header)
        dataset = held[1] if header.frame is not None else None
        values = decode(name, files, header, dataset).T * slope + intercept
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        slab[..., number % length] = values
        if (number + 1) % length == 0 or number + 1 == len(headers):
            start = number // length * length
            store.write_slab(start, slab[..., : number + 1 - start])
    return low, high


def _read_whole(files: DicomFiles, header: SliceHeader) -> Any:
    with files.open(header.number) as stream:
        return read_dataset(stream)


def decode(name: str, files: DicomFiles, header: SliceHeader, dataset: Any = None) -> NDArray[Any]:
    """Stored values ``(row, column)`` of one slice; ``dataset`` is its file where that was read already.

    MONOCHROME1 only asks for an inverted display: Hounsfield units follow
    from the stored values all the same (PS3.3, C.11.1).

    Raises
    ------
    InputError
        If its coding is unknown or it is damaged.
    """
    dataset = _read_whole(files, header) if dataset is None else dataset
    syntax = header.transfer_syntax
    coding = "unknown coding" if syntax is None else syntax.name
    expected = (header.whole("Rows"), header.whole("Columns"))
    if dataset is None or "PixelData" not in dataset:
        raise InputError(f"{name}: a slice has no pixels or is truncated; copy the series again")
    with silence_libraries():
        try:
            _check_frame(name, dataset, header)
            values = np.asarray(
                dataset.pixel_array if header.frame is None else pixel_array(dataset, index=header.frame)
            )
        except InputError:
            raise
        except ImportError as error:
            raise DependencyError(f"{name}: a package to decode {coding} is missing") from error
        except Exception as error:
            raise InputError(
                f"{name}: a slice cannot be decoded ({coding}): it is damaged, encrypted or coded in a way "
                "that is not supported; copy it again or convert it to an uncompressed transfer syntax"
            ) from error
    if values.shape != expected:
        raise InputError(
            f"{name}: a slice is {values.shape} where its header says {expected} (rows, columns); "
            "only single grey images are read"
        )
    return values


def _check_frame(name: str, dataset: Any, header: SliceHeader) -> None:
    """Refuse a compressed frame that is cut short, or that says another size than the header.

    Decoders make what is missing of JPEG and JPEG 2000 grey, and allocate what the codestream says.
    """
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    frames = int(dataset.get("NumberOfFrames") or 1)
    data = bytes(get_frame(dataset.PixelData, header.frame or 0, number_of_frames=frames))
    if data.startswith(CODESTREAM_START):
        check_codestream(data, f"{name}: a slice")
        right, bottom, left, top = struct.unpack_from(">4I", data, 8)
        if (bottom - top, right - left) != (header.whole("Rows"), header.whole("Columns")):
            raise InputError(
                f"{name}: a slice's pixels are of another size than its header says; copy it again"
            )
    elif data.startswith(JPEG_START) and CODESTREAM_END not in data[-PADDING:]:
        raise InputError(f"{name}: a slice is truncated; copy the series again")
