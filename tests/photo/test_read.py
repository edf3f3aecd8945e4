"""Pictures are read as a person sees them; films by their pictures' times, whatever the rate."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam_photo.generated import draw_film
from domainsam_photo.read.films import FilmFile, open_film
from domainsam_photo.read.marked import Example, parse_example
from domainsam_photo.read.pictures import find_pictures, read_mask, read_numbers, read_picture
from domainsam_photo.write.masks import encode_numbers, encode_runs
from domainsam_photo.write.overlay import write_film


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = (250, 10, 10)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png"), upright)


@pytest.mark.parametrize(
    ("mode", "value", "wanted"),
    [
        ("L", 90, (90, 90, 90)),
        ("LA", (90, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, value: object, wanted: tuple[int, ...]) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (12, 8), value).save(path)  # type: ignore[arg-type]
    picture = read_picture(path)
    assert picture.shape == (8, 12, 3)
    assert np.abs(picture[4, 6].astype(int) - wanted).max() <= 2


def test_sixteen_bits_are_stretched(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 60000, 96).reshape(8, 12).astype(np.uint16)).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert (picture[0, 0].max(), picture[-1, -1].min()) == (0, 255)


def test_memory_limits_pictures_and_not_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30), (9, 8, 7)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_picture(tmp_path / "a.png").tolist() == [[[9, 8, 7]] * 40] * 30
    assert Image.MAX_IMAGE_PIXELS == 100
    # A header of 200 000 x 200 000 pixels.
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (200_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "b.png").write_bytes(data)
    with pytest.raises(InputError, match=r"b\.png: its header says 200000 x 200000 pixels"):
        read_picture(tmp_path / "b.png")


def test_what_is_no_picture_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    for name, words in (("empty", "0 bytes"), ("text", "text.jpg"), ("cut", "cut.jpg")):
        with pytest.raises(InputError, match=words):
            read_picture(tmp_path / f"{name}.jpg")
    with pytest.raises(InputError, match=r"a\.heic"):
        read_picture(tmp_path / "a.heic")
    with pytest.raises(MissingInputError):
        read_picture(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_picture(tmp_path)


def test_masks_of_any_kind_say_where_they_are_set(tmp_path: Path) -> None:
    numbers = np.zeros((6, 8), np.uint8)
    numbers[2:4, 3:6], numbers[5, 0] = 2, 7
    (tmp_path / "p.png").write_bytes(encode_numbers(numbers))
    assert np.array_equal(read_numbers(tmp_path / "p.png"), numbers)
    assert read_mask(tmp_path / "p.png", 7).sum() == 1
    # PerSeg's way: red 128 where the object is.
    coloured = np.zeros((6, 8, 3), np.uint8)
    coloured[numbers == 2] = (128, 0, 0)
    Image.fromarray(coloured).save(tmp_path / "c.png")
    assert np.array_equal(read_mask(tmp_path / "c.png"), numbers == 2)
    with pytest.raises(InputError, match="marks nothing"):
        read_mask(tmp_path / "p.png", 3)


def test_runs_begin_with_what_is_not_set() -> None:
    mask = np.zeros((3, 2), bool)
    mask[0, 0] = mask[2, 1] = True
    assert encode_runs(mask) == {"size": [3, 2], "counts": [0, 1, 4, 1]}
    assert encode_runs(~mask)["counts"] == [1, 4, 1]


def test_folders_give_their_pictures_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".hidden.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_pictures([tmp_path])] == ["a.jpg", "b.PNG"]


def test_examples_are_two_paths() -> None:
    assert parse_example("ref.jpg:m.png") == Example(Path("ref.jpg"), Path("m.png"))
    assert parse_example("C:/a.jpg:D/m.png") == Example(Path("C:/a.jpg"), Path("D/m.png"))
    for wrong in ("ref.jpg", ":m.png", "ref.jpg:"):
        with pytest.raises(ConfigError, match="PICTURE:MASK"):
            parse_example(wrong)


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Writes a film whose pictures lie at given moments."""
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'domainsam[film]'")

    def make(moments: list[Fraction]) -> Path:
        pictures = draw_film(0, len(moments))[0]
        write_film(tmp_path / "f.mp4", zip(moments, pictures, strict=True), Fraction(10))
        return tmp_path / "f.mp4"

    return make


def test_a_film_of_any_rate_has_its_pictures_forwards_and_backwards(film: Callable[..., Path]) -> None:
    moments = [Fraction(part, 10) for part in (0, 1, 2, 5, 6, 11, 12, 13)]
    pictures = draw_film(0, 8)[0]
    with open_film(film(moments)) as opened:
        assert opened.frames == 8
        order = [*range(8), *range(7, -1, -1), 5, 0, 7]
        for frame in order:
            away = np.abs(opened.read(frame).astype(int) - pictures[frame]).mean()
            others = [np.abs(opened.read(frame).astype(int) - one).mean() for one in pictures]
            assert int(np.argmin(others)) == frame
            assert away < 10
        assert [round(float(opened.moment(frame)), 2) for frame in range(8)] == [float(m) for m in moments]


def test_a_corrupt_picture_is_stood_for_and_told(
    film: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    import av

    path = film([Fraction(part, 10) for part in range(8)])
    with av.open(str(path)) as container:
        sizes = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, size = sizes[4]
    data[start : start + size] = b"\xff" * size
    path.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING), open_film(path) as opened:
        pictures = [opened.read(frame) for frame in range(opened.frames)]
    assert len(pictures) == 8
    assert all(picture.shape == (240, 320, 3) for picture in pictures)


def test_films_without_pictures_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'domainsam[film]'")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no film at all, but some text")
    write_film(tmp_path / "none.mp4", [], Fraction(10))
    with pytest.raises(InputError, match="0 bytes"), open_film(tmp_path / "empty.mp4"):
        pass
    for name in ("text", "none"):
        with pytest.raises(InputError, match=name):
            FilmFile(tmp_path / f"{name}.mp4")
    with pytest.raises(MissingInputError), open_film(tmp_path / "gone.mp4"):
        pass
