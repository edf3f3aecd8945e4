"""Read NIfTI files in one pass, then slice by slice in any order."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from domainsam.errors import DomainSamError, InputError, MissingInputError
from domainsam.limits import require_memory
from domainsam_ct.labels import load_catalogue
from domainsam_ct.read.geometry import SHEAR_NOTICE_DEGREES, NativeGeometry, Orientation, measure_shear
from domainsam_ct.read.nifti_header import (
    ByteStream,
    Header,
    format_sizes,
    make_native_geometry,
    parse_header,
    read_header,
)
from domainsam_ct.read.planes import DEFLATE_RATIO, PlaneStore
from domainsam_ct.read.volume import MaskGeometry, ReadMask, Volume, Voxels, check_values, collect_labels

READ_BYTES = 4 << 20
PLANE_COPIES = 4
"""Copies of the planes at hand: as read, as an array, in the other order, and tested for NaN."""


def open_nifti(path: Path, scratch: Path | None = None) -> Volume:
    """Open a CT in a NIfTI file; see :func:`domainsam_ct.read.open.open_volume`."""
    header, store, low, high = stage_nifti(path, scratch)
    ends = sorted((header.slope * low + header.intercept, header.slope * high + header.intercept))
    try:
        notes = (*header.warnings, *check_values(str(path), *ends))
    except InputError:
        store.close()
        raise
    native = make_native_geometry(header)
    return Volume(
        grid=native.canonical_grid(),
        native=native,
        voxels=Voxels(store, header.slope, header.intercept),
        source_name=path.name,
        warnings=notes,
        hu_range=(ends[0], ends[1]),
    )


def stage_nifti(path: Path, scratch: Path | None = None) -> tuple[Header, PlaneStore, float, float]:
    """Check a NIfTI file from end to end and make its axial slices readable at random.

    An uncompressed file whose slices lie together is read in place, any other
    is copied slice by slice into a nameless file.

    Returns
    -------
    Header, PlaneStore, float, float
        The last two are the lowest and highest stored value.

    Raises
    ------
    InputError
        If it is not NIfTI, damaged, not a volume, or holds NaN.
    """
    with open_stream(path) as stream:
        header = read_header(stream, path)
        axis = Orientation.of(header.affine).slice_axis
        in_place = axis == 2 and not isinstance(stream, gzip.GzipFile)
        if in_place:
            store = PlaneStore(path.open("rb", buffering=0), header.shape, header.dtype, 2, header.start)
        else:
            store = PlaneStore.temporary(header.shape, header.dtype, axis, scratch)
        low, high = np.inf, -np.inf
        try:
            for start, slab in read_slabs(stream, header, path, store.slab_length()):
                low, high = min(low, float(slab.min())), max(high, float(slab.max()))
                if not in_place:
                    store.write_slab(start, slab)
        except BaseException:
            store.close()
            raise
    return header, store, low, high


@contextmanager
def open_stream(path: Path) -> Iterator[ByteStream]:
    """The bytes of a file, unpacked if they are packed; damage met on the way names the file.

    Raises
    ------
    MissingInputError
        If the file cannot be read.
    InputError
        If the packed stream is damaged.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            yield stream
    except DomainSamError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: is damaged or truncated ({reason}); copy or download it again") from error
    except OSError as error:
        raise MissingInputError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_slabs(
    stream: ByteStream, header: Header, path: Path, length: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Consecutive slabs ``(i, j, n)`` of stored values and their first ``k``, up to the end of the file.

    Raises
    ------
    InputError
        If the file holds fewer or more voxels than its header says, or NaN.
    """
    _check_size(stream, header, path)
    told = f"planes of {header.shape[0]} x {header.shape[1]} voxels"
    require_memory(path, PLANE_COPIES * max(length, 1) * header.plane_bytes, told)
    _skip(stream, header.start - len(header.raw) - len(header.extensions), header, path)
    for start in range(0, header.shape[2], length):
        count = min(length, header.shape[2] - start)
        data = _exactly(stream, count * header.plane_bytes, header, path)
        slab = np.frombuffer(data, header.dtype).reshape(count, header.shape[1], header.shape[0])
        if header.dtype.kind == "f" and not np.isfinite(slab).all():
            bad = int(np.sum(~np.isfinite(slab)))
            raise InputError(
                f"{path}: {bad} or more voxels are NaN or infinite; fill them first, with -1024 for air"
            )
        yield start, slab.transpose(2, 1, 0)
    _check_end(stream, header, path)


def _check_size(stream: ByteStream, header: Header, path: Path) -> None:
    """Refuse at once what cannot be, before as much as a plane is read."""
    size = path.stat().st_size
    room = size * DEFLATE_RATIO if isinstance(stream, gzip.GzipFile) else size
    if room < header.start + header.data_bytes:
        raise _lie(header, path)


def _check_end(stream: ByteStream, header: Header, path: Path) -> None:
    """The stream must end here; reading on also has gzip compare its checksum."""
    extra = 0
    while extra < header.plane_bytes:
        data = stream.read(min(READ_BYTES, header.plane_bytes - extra))
        if not data:
            return
        extra += len(data)
    raise InputError(
        f"{path}: holds more data than the {format_sizes(header.shape)} {header.dtype.name} voxels "
        "of its header; the header is wrong, export the file again"
    )


def _exactly(stream: ByteStream, count: int, header: Header, path: Path) -> bytearray:
    data = bytearray()
    while len(data) < count:
        piece = stream.read(min(READ_BYTES, count - len(data)))
        if not piece:
            raise _lie(header, path)
        data += piece
    return data


def _skip(stream: ByteStream, count: int, header: Header, path: Path) -> None:
    while count > 0:
        count -= len(_exactly(stream, min(READ_BYTES, count), header, path))


def _lie(header: Header, path: Path) -> InputError:
    return InputError(
        f"{path}: its header says {format_sizes(header.shape)} {header.dtype.name} voxels, "
        f"{header.data_bytes} bytes, but the file ends earlier: truncated, or a wrong header; copy it again"
    )


LABEL_INTENT = 1002
TEXT_EXTENSION = 0
"""Code under which TotalSegmentator's files carry Caret XML, and the one nibabel gives out as text."""
NAMED_LABEL = re.compile(rb'<Label Key="(\d+)"[^>]*><!\[CDATA\[(.*?)\]\]></Label>')
SLAB_PLANES = 32


def make_mask_header(native: NativeGeometry, labels: Mapping[int, str]) -> bytes:
    """Everything that comes before the voxels of a uint8 mask on a native grid.

    Of a NIfTI source the fields of geometry stay byte for byte as they were:
    ``dim``, ``dim_info``, ``pixdim``, ``xyzt_units``, the slice fields, the
    codes, quaternion and rows of qform and sform, and the byte order. Fields
    of text are replaced, for people write patients' names there.
    """
    if native.nifti_header is None:
        header = _fresh_header(native)
    else:
        header = parse_header(native.nifti_header)
    one = np.zeros((), header.structarr.dtype)
    for field in ("cal_max", "cal_min", "intent_p1", "intent_p2", "intent_p3", "aux_file"):
        header[field] = one[field]
    for field in ("data_type", "db_name", "extents", "session_error", "regular", "glmax", "glmin"):
        if field in header.structarr.dtype.names:
            header[field] = one[field]
    header["datatype"], header["bitpix"] = 2, 8
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["intent_code"], header["intent_name"] = LABEL_INTENT, b"labels"
    header["descrip"] = b"organ mask made by domainsam"
    extension = _label_extension(labels, header.endianness)
    header["vox_offset"] = len(header.binaryblock) + len(extension)
    return bytes(header.binaryblock) + extension


def _fresh_header(native: NativeGeometry) -> Any:
    header = nib.Nifti1Header()
    header.set_data_shape(native.shape)
    header.set_zooms(native.spacing)
    header.set_xyzt_units("mm")
    header.set_sform(native.affine, code=1)
    # A quaternion cannot hold shear: then the qform is left unset.
    if measure_shear(native.affine) < SHEAR_NOTICE_DEGREES:
        header.set_qform(native.affine, code=1)
    return header


def _label_extension(labels: Mapping[int, str], endianness: str) -> bytes:
    """The four bytes that announce extensions, and one of Caret XML with the labels' names."""
    entries = "".join(
        f'<Label Key="{value}" Red="{red:.4f}" Green="{green:.4f}" Blue="{blue:.4f}" Alpha="1">'
        f"<![CDATA[{name.replace(']]>', '')}]]></Label>\n"
        for value, name in sorted(labels.items())
        for red, green, blue in [_colour(value, name)]
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension>\n'
        f'<VolumeInformation Index="0"><LabelTable>\n{entries}</LabelTable>'
        f"<StudyMetaDataLinkSet></StudyMetaDataLinkSet><VolumeType><![CDATA[Label]]></VolumeType>"
        "</VolumeInformation>\n</CaretExtension>"
    ).encode()
    size = -(-(len(text) + 8) // 16) * 16
    order = "<i4" if endianness == "<" else ">i4"
    frame = np.array([size, TEXT_EXTENSION], order).tobytes()
    return b"\1\0\0\0" + frame + text.ljust(size - 8, b"\0")


def _colour(value: int, name: str) -> tuple[float, float, float]:
    """The organ's own colour; for others steps of the golden angle around the colour circle."""
    known = load_catalogue().get(name)
    if known is not None:
        return known.colour[0] / 255, known.colour[1] / 255, known.colour[2] / 255
    hue = value * 0.618033988749895 % 1.0 * 6.0
    red, green, blue = (min(max(abs((hue + shift) % 6.0 - 3.0) - 1.0, 0.0), 1.0) for shift in (0, 4, 2))
    return red, green, blue


def read_nifti_mask(path: Path) -> ReadMask:
    """Read a mask; see :func:`domainsam_ct.read.open.read_mask`."""
    with open_stream(path) as stream:
        header = read_header(stream, path, mask=True)
        native = make_native_geometry(header)
        pieces = (
            slab
            if header.slope == 1.0 and header.intercept == 0.0
            else slab * header.slope + header.intercept
            for _, slab in read_slabs(stream, header, path, SLAB_PLANES)
        )
        labels = collect_labels(path, native, pieces)
    found = NAMED_LABEL.findall(header.extensions)
    names = {int(key): name.decode("utf-8", "replace") for key, name in found}
    return ReadMask(labels, MaskGeometry(native.canonical_grid(), native, names, path.name, header.warnings))
