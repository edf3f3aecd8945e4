"""Pictures of folders as networks see them, and what is wrong with those that cannot be read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domainsam.assess.examples import read_folder, read_picture
from domainsam.errors import InputError


def test_sixteen_bits_are_stretched_and_not_cut_off(tmp_path: Path) -> None:
    values = np.full((8, 8), 1000, np.uint16)
    values[0, 0], values[0, 1] = 3000, 5000
    Image.fromarray(values).save(tmp_path / "deep.png")
    seen = read_picture(tmp_path / "deep.png")
    assert seen.shape == (8, 8, 3)
    assert seen.dtype == np.uint8
    assert seen[0, :3].tolist() == [[128] * 3, [255] * 3, [0] * 3]


def write_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_png(path: Path, side: int, *chunks: bytes) -> None:
    header = write_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"".join([b"\x89PNG\r\n\x1a\n", header, *chunks, write_chunk(b"IEND", b"")]))


def test_a_picture_that_pillow_refuses_is_an_error_in_one_line(tmp_path: Path) -> None:
    pixels = zlib.compress(bytes(8 * (1 + 3 * 8)), 0)
    # More pixels than Pillow opens, whatever follows; and a chunk without a name among the pixels.
    write_png(tmp_path / "bomb.png", 60000, write_chunk(b"IDAT", pixels))
    write_png(tmp_path / "chunk.png", 8, write_chunk(b"IDAT", pixels[:50]), write_chunk(b"%\xe3r\x03", b"x"))
    for name in ("bomb.png", "chunk.png"):
        with pytest.raises(InputError, match=name) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
    write_png(tmp_path / "whole.png", 8, write_chunk(b"IDAT", pixels))
    assert not read_picture(tmp_path / "whole.png").any()


def test_pictures_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    """Orientation 6: the stored first row is the right side."""
    stored = np.zeros((20, 30, 3), np.uint8)
    stored[:10] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    seen = read_picture(tmp_path / "a.png")
    assert seen.shape == (30, 20, 3)
    assert seen[0, -1, 0] == 250
    assert seen[0, 0, 0] == 0
    assert read_picture(tmp_path / "a.png", turned=False).shape == (20, 30, 3)
    Image.fromarray(np.full((30, 20), 7, np.uint8)).save(tmp_path / "a_mask.png")
    (example,) = read_folder(tmp_path)
    assert example.masks.shape == (1, 30, 20)
