"""Masks in NIfTI files: headers that keep the source's geometry to the byte, and reading back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from domainsam_ct.geometry import SHEAR_NOTICE_DEGREES, NativeGeometry, shear_degrees
from domainsam_ct.labels import catalogue
from domainsam_ct.masks import MaskGeometry, ReadMask, collect_labels
from domainsam_ct.nifti import open_stream, slabs
from domainsam_ct.nifti_header import native_geometry, parse, read_header

LABEL_INTENT = 1002
TEXT_EXTENSION = 0
"""Code under which TotalSegmentator's files carry Caret XML, and the one nibabel gives out as text."""
NAMED_LABEL = re.compile(rb'<Label Key="(\d+)"[^>]*><!\[CDATA\[(.*?)\]\]></Label>')
SLAB_PLANES = 32


def mask_header(native: NativeGeometry, labels: Mapping[int, str]) -> bytes:
    """Everything that comes before the voxels of a uint8 mask on a native grid.

    Of a NIfTI source the fields of geometry stay byte for byte as they were:
    ``dim``, ``dim_info``, ``pixdim``, ``xyzt_units``, the slice fields, the
    codes, quaternion and rows of qform and sform, and the byte order. Fields
    of text are replaced, for people write patients' names there.
    """
    if native.nifti_header is None:
        header = _fresh_header(native)
    else:
        header = parse(native.nifti_header)
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
    if shear_degrees(native.affine) < SHEAR_NOTICE_DEGREES:
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
    known = catalogue().get(name)
    if known is not None:
        return known.colour[0] / 255, known.colour[1] / 255, known.colour[2] / 255
    hue = value * 0.618033988749895 % 1.0 * 6.0
    red, green, blue = (min(max(abs((hue + shift) % 6.0 - 3.0) - 1.0, 0.0), 1.0) for shift in (0, 4, 2))
    return red, green, blue


def read_nifti_mask(path: Path) -> ReadMask:
    """Read a mask; see :func:`domainsam_ct.masks.read_mask`."""
    with open_stream(path) as stream:
        header = read_header(stream, path)
        native = native_geometry(header)
        pieces = (
            slab
            if header.slope == 1.0 and header.intercept == 0.0
            else slab * header.slope + header.intercept
            for _, slab in slabs(stream, header, path, SLAB_PLANES)
        )
        labels = collect_labels(path, native, pieces)
    found = NAMED_LABEL.findall(header.extensions)
    names = {int(key): name.decode("utf-8", "replace") for key, name in found}
    return ReadMask(labels, MaskGeometry(native.canonical_grid(), native, names, path.name, header.warnings))
