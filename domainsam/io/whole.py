"""Whether files are whole, as far as their formats let one check what their libraries pass over.

GDAL fills the rest of a picture that was cut short with zeros, decodes
damaged JPEG 2000 streams, and reads as many shapes as an index of a shapefile
still lists. Specifications: PNG (https://www.w3.org/TR/png-3, 5.2 to 5.5),
JPEG (ITU-T T.81, B.1), JPEG 2000 (ITU-T T.800, A.4 and I.4), and ESRI's
Shapefile Technical Description of July 1998.
"""

from __future__ import annotations

import mmap
import struct
from functools import lru_cache
from pathlib import Path
from typing import IO
from zlib import crc32

import numpy as np

from domainsam.errors import InputError
from domainsam.reading import reading

PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
JP2_START, CODESTREAM_START = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
CODESTREAM_END = b"\xff\xd9"
"""End of image, of JPEG and JPEG 2000 alike."""
TAIL_BYTES = 1024
"""Some writers add a few bytes after a JPEG's end."""
PIECE = 1 << 20
SHAPES_START = 9994
SHAPEFILE_HEAD = 100
MOST_TILE_PARTS = 1 << 20
SOT = 0xFF90
"""Marker that begins a tile-part of JPEG 2000."""


def check_whole(path: Path) -> None:
    """Refuse a picture or shapefile that is damaged or cut short, as far as its format tells.

    Anything else passes: GDAL says itself what is wrong with it.

    Raises
    ------
    InputError
        If it is.
    """
    if path.is_file():
        facts = path.stat()
        _check(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _check(path: Path, size: int, changed: int) -> None:
    """Check one version of a file; readers in several threads open it again and again."""
    with reading(path, "a picture or shapefile"), path.open("rb") as file:
        start = file.read(12)
        if path.suffix.lower() == ".shp":
            _check_shapefile(path)
        elif start.startswith(PNG_START):
            _check_png(path, file)
        elif start.startswith(JPEG_START):
            file.seek(max(0, size - TAIL_BYTES))
            if CODESTREAM_END not in file.read():
                raise _cut(path)
        elif start == JP2_START:
            _check_jp2(path, file)
        elif start.startswith(CODESTREAM_START):
            _check_mapped(path, file, 0, size)


def _cut(path: object) -> InputError:
    return InputError(f"{path}: is damaged, truncated or not an image; copy or download it again")


def _check_png(path: Path, file: IO[bytes]) -> None:
    file.seek(len(PNG_START))
    kind = b""
    while kind != b"IEND":
        head = file.read(8)
        if len(head) < 8:
            raise _cut(path)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        found = crc32(kind)
        while length:
            piece = file.read(min(length, PIECE))
            if not piece:
                raise _cut(path)
            found, length = crc32(piece, found), length - len(piece)
        if file.read(4) != found.to_bytes(4, "big"):
            raise InputError(
                f"{path}: its part {kind.decode('latin-1')!r} has a wrong checksum, so it is damaged; "
                "copy or download it again"
            )


def _check_jp2(path: Path, file: IO[bytes]) -> None:
    size, at = path.stat().st_size, 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            raise _cut(path)
        length, kind, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, skip = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = size - at
        if length < skip or at + length > size:
            raise _cut(path)
        if kind == b"jp2c":
            _check_mapped(path, file, at + skip, at + length)
            return
        at += length
    raise _cut(path)


def _check_mapped(path: Path, file: IO[bytes], start: int, end: int) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _walk_codestream(data, start, end, path)


def check_codestream(data: bytes, name: object) -> None:
    """Refuse a JPEG 2000 codestream whose tile-parts do not follow one another to its end.

    Damage within a tile-part's coded bits cannot be told: the format has no checksum.

    Raises
    ------
    InputError
        If a part is missing or cut short.
    """
    # DICOM pads what has an odd length.
    _walk_codestream(data, 0, len(data) - (data[-1:] == b"\0"), name)


def _walk_codestream(data: bytes | mmap.mmap, start: int, end: int, name: object) -> None:
    try:
        tiles, at = _walk_main_header(data, start)
        seen: set[int] = set()
        for _ in range(MOST_TILE_PARTS):
            if data[at : at + 2] == CODESTREAM_END:
                if len(seen) < tiles:
                    break
                return
            marker, length, tile, part = struct.unpack_from(">HHHI", data, at)
            if marker != SOT or length != 10 or 0 < part < 14 or at + part > end:
                break
            seen.add(tile)
            # A length of 0 means: to the end of the codestream, after which a writer may add a few bytes.
            at = at + part if part else data.rfind(CODESTREAM_END, max(at, end - TAIL_BYTES), end)
    except struct.error as error:
        raise _cut(name) from error
    raise _cut(name)


def _walk_main_header(data: bytes | mmap.mmap, start: int) -> tuple[int, int]:
    """How many tiles there are, and where the first tile-part begins."""
    if data[start : start + 4] != CODESTREAM_START:
        raise struct.error("no codestream")
    right, bottom, _, _, width, height, left, top = struct.unpack_from(">8I", data, start + 8)
    if not width or not height or right <= left or bottom <= top:
        raise struct.error("no tiles")
    tiles = -(-(right - left) // width) * -(-(bottom - top) // height)
    at = start + 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == SOT:
            return tiles, at
        if marker < 0xFF00 or length < 2:
            raise struct.error("no marker")
        at += 2 + length


def _check_shapefile(path: Path) -> None:
    """Compare the lengths in the headers of ``.shp`` and ``.shx`` with the files, and their records."""
    index = _beside(path, ".shx")
    if index is None:
        raise InputError(f"{path}: its index .shx is not beside it; copy all files of the shapefile")
    for part in (path, index):
        size = part.stat().st_size
        with part.open("rb") as file:
            head = file.read(SHAPEFILE_HEAD)
        if len(head) < SHAPEFILE_HEAD or int.from_bytes(head[:4], "big") != SHAPES_START:
            raise InputError(f"{part}: is no part of a shapefile, or damaged; copy it again")
        # Lengths are counted in words of 16 bits.
        stated = 2 * int.from_bytes(head[24:28], "big")
        # Some writers fill up their files; then what follows is no part of them.
        if stated > size:
            raise InputError(
                f"{part}: its header says {stated} bytes and it has {size}: truncated or damaged; copy "
                "it again"
            )
    count = _check_records(path, index)
    table = _beside(path, ".dbf")
    if table is not None:
        with table.open("rb") as file:
            head = file.read(12)
        rows, start, width = struct.unpack_from("<IHH", head, 4)
        if rows != count or table.stat().st_size < start + rows * width:
            raise InputError(
                f"{table}: has {rows} rows for {count} shapes, or is cut short; copy all files of the "
                "shapefile"
            )


def _check_records(path: Path, index: Path) -> int:
    """How many shapes there are, once every entry of the index agrees with its record's own header."""
    with index.open("rb") as file:
        stated = 2 * int.from_bytes(file.read(28)[24:], "big") - SHAPEFILE_HEAD
    entries = np.fromfile(index, ">i4", offset=SHAPEFILE_HEAD, count=max(0, stated) // 4).astype(np.int64)
    if len(entries) % 2:
        raise InputError(f"{index}: is truncated or damaged; copy it again")
    offsets, lengths = 2 * entries[::2], 2 * entries[1::2]
    content = np.memmap(path, np.uint8, "r")
    inside = (offsets >= SHAPEFILE_HEAD) & (lengths >= 0) & (offsets + 8 + lengths <= len(content))
    if not inside.all():
        raise InputError(f"{path}: {int((~inside).sum())} of its shapes lie beyond its end; copy it again")
    places = offsets[:, None] + np.arange(8)
    heads = content[places].reshape(-1, 2, 4).astype(np.int64) @ (256 ** np.arange(4)[::-1])
    # The first record's number is 1, of some writers 0.
    if (np.diff(heads[:, 0]) != 1).any() or (2 * heads[:, 1] != lengths).any():
        raise InputError(f"{path}: its shapes are not where its index says: damaged; copy both files again")
    return len(offsets)


def _beside(path: Path, ending: str) -> Path | None:
    return next((p for e in (ending, ending.upper()) if (p := path.with_suffix(e)).is_file()), None)
