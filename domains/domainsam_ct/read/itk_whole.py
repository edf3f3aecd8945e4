"""Whether the voxels of NRRD and MetaImage files are whole: lengths, and the checksums of compressed streams.

ITK unpacks as much as there is and passes over a checksum that does not
agree, so that damage reads as a valid volume. NRRD streams are gzip (RFC
1952: CRC-32 and length at the end) or bzip2, those of MetaImage zlib (RFC
1950: Adler-32). Formats: https://teem.sourceforge.net/nrrd/format.html and
https://itk.org/Wiki/MetaIO/Documentation.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from domainsam.errors import InputError

HEAD_BYTES = 1 << 20
PIECE = 1 << 20
AUTOMATIC = zlib.MAX_WBITS | 32
"""zlib finds out itself whether a stream is zlib's or gzip's."""
NRRD_END = re.compile(rb"\r?\n\r?\n")
META_END = re.compile(rb"^ElementDataFile[ \t]*=[^\n]*\n", re.MULTILINE)
AXES = re.compile(r"0*(?:[1-9]|1[0-6])")
"""An image's number of axes; 16 is the most that NRRD has."""
YES = ("t", "1")
LONG_NUMBER = re.compile(rb"\d{309}")
"""Digits that no double has before its point; NRRD's parser writes beyond its room for some thousands."""
SIDES = re.compile(r"\d{1,10}(?:[ \t]+\d{1,10})*")


class Head(NamedTuple):
    """A file's header to its end, or all that was read where it is not ``whole``; of NRRD or MetaImage."""

    text: bytes
    nrrd: bool
    whole: bool


def check_voxels(path: Path, data: Path, expected: int) -> None:
    """Refuse voxels that are fewer or more than the header says, or whose checksum is wrong.

    Parameters
    ----------
    path
        The header.
    data
        Where the voxels are; ``path`` itself where they follow the header.
    expected
        Bytes of all voxels, uncompressed.

    Raises
    ------
    InputError
        If they are damaged or cut short.
    """
    head = _read_head(path)
    if not head.whole and data == path:
        raise InputError(f"{path}: its header has no end within {HEAD_BYTES} bytes; export it again")
    coding = _find_coding(_read_fields(head.text), head.nrrd)
    if coding is None:
        return
    with data.open("rb") as file:
        file.seek(len(head.text) if data == path else 0)
        if coding == "raw":
            found = data.stat().st_size - file.tell()
        else:
            found = _unpack(data, file, coding, expected)
    if found != expected:
        raise InputError(
            f"{data}: holds {found} bytes of voxels where the header says {expected}: truncated, or a wrong "
            "header; copy it again"
        )


def check_head(path: Path) -> None:
    """Refuse a header whose numbers make ITK's parsers crash, before they see it.

    Raises
    ------
    InputError
        If axes or sides are no plain counts, or a number has hundreds of digits.
    """
    head = _read_head(path)
    if not head.nrrd and path.suffix.lower() not in (".mha", ".mhd"):
        return
    axes, sides = ("dimension", "sizes") if head.nrrd else ("ndims", "dimsize")
    # Line by line, so that a field that is there twice is looked at twice.
    given = [_read_fields(line) for line in head.text.split(b"\n")]
    for name, form in ((axes, AXES), (sides, SIDES)):
        for value in (fields[name] for fields in given if name in fields):
            if not form.fullmatch(value):
                raise InputError(
                    f"{path}: its header says {value[:40]!r} for {name}, expected counts; export it again"
                )
    if LONG_NUMBER.search(head.text):
        raise InputError(f"{path}: its header holds a number of hundreds of digits; export it again")


def _read_head(path: Path) -> Head:
    with path.open("rb") as file:
        text = file.read(HEAD_BYTES)
    nrrd = text.startswith(b"NRRD")
    end = (NRRD_END if nrrd else META_END).search(text)
    return Head(text if end is None else text[: end.end()], nrrd, end is not None)


def _read_fields(head: bytes) -> Mapping[str, str]:
    """The header's fields, by name in small letters without white space; lines end as ITK ends them."""
    fields = {}
    for line in head.decode("latin-1").split("\n"):
        name, mark, value = line.partition("=" if "=" in line and ":" not in line.partition("=")[0] else ":")
        if mark and not line.startswith("#"):
            fields["".join(name.split()).lower()] = value.strip().lower()
    return fields


def _find_coding(fields: Mapping[str, str], nrrd: bool) -> str | None:
    """How voxels are coded; None where their length does not follow from the header alone."""
    if not nrrd:
        # MetaIO looks at the first letter alone.
        if fields.get("headersize", "0") != "0" or fields.get("binarydata", "true")[:1] not in YES:
            return None
        return "gzip" if fields.get("compresseddata", "false")[:1] in YES else "raw"
    if any(fields.get(name, "0") != "0" for name in ("lineskip", "byteskip")):
        return None
    coding = {"gz": "gzip", "bz2": "bzip2"}.get(fields.get("encoding", "raw"), fields.get("encoding", "raw"))
    return coding if coding in ("raw", "gzip", "bzip2") else None


def _unpack(data: Path, file: IO[bytes], coding: str, expected: int) -> int:
    """Bytes that a stream unpacks to, its checksum compared; stops soon after ``expected``."""
    unpacker: Any = bz2.BZ2Decompressor() if coding == "bzip2" else zlib.decompressobj(AUTOMATIC)
    count = 0
    try:
        while not unpacker.eof and count <= expected:
            piece = getattr(unpacker, "unconsumed_tail", b"") or file.read(PIECE)
            if not piece and getattr(unpacker, "needs_input", True):
                break
            count += len(unpacker.decompress(piece, PIECE))
    except (zlib.error, OSError, ValueError) as error:
        raise InputError(
            f"{data}: its compressed voxels are damaged ({str(error)[:80]}); copy or download it again"
        ) from error
    if not unpacker.eof and count <= expected:
        raise InputError(f"{data}: its compressed voxels are cut short; copy or download it again")
    return count
