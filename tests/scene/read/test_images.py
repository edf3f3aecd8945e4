"""Image files: 16 bits a channel, palettes, alpha, numpy files, and everything that may be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from domainsam.errors import InputError, MissingInputError
from domainsam.io.rasters import silence_rasterio
from domainsam_scene.read.images import read_image
from tests.scene.trees import noise, write_png


def test_sixteen_bit_colour_png_keeps_its_bits(tmp_path: Path) -> None:
    values = noise(3, 8, 9, dtype="uint16", high=65536)
    raw = read_image(write_png(tmp_path / "a.png", values))
    assert raw.values.dtype == np.uint16
    np.testing.assert_array_equal(raw.values, values)
    assert raw.valid.all()


def test_alpha_is_dropped(tmp_path: Path) -> None:
    values = noise(4, 8, 9)
    np.testing.assert_array_equal(read_image(write_png(tmp_path / "a.png", values)).values, values[:3])


def test_palette_becomes_colours_unless_numbers_are_wanted(tmp_path: Path) -> None:
    path, numbers = tmp_path / "a.png", noise(8, 9, high=3)
    shape = {"count": 1, "height": 8, "width": 9, "dtype": "uint8"}
    with silence_rasterio(), rasterio.open(path, "w", driver="PNG", **shape) as made:
        made.write_colormap(1, {0: (9, 8, 7, 255), 1: (1, 2, 3, 255), 2: (200, 100, 50, 255)})
        made.write(numbers, 1)
    np.testing.assert_array_equal(read_image(path, indices=True).values[0], numbers)
    colours = read_image(path).values
    assert tuple(colours[:, numbers == 2][:, 0]) == (200, 100, 50)


@pytest.mark.parametrize("shape", [(6, 7), (3, 6, 7), (6, 7, 3), (1, 6, 7), (6, 7, 1)])
def test_numpy_files_of_any_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        assert read_image(tmp_path / name).values.shape[1:] == (6, 7)


def test_nan_is_not_valid(tmp_path: Path) -> None:
    array = np.zeros((4, 5), np.float32)
    array[1, 2] = np.nan
    np.save(tmp_path / "a.npy", array)
    valid = read_image(tmp_path / "a.npy").valid
    assert valid.sum() == 19
    assert not valid[1, 2]


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("no picture\n")


def make_cut_png(path: Path) -> None:
    write_png(path.with_name("whole.png"), noise(3, 64, 64))
    whole = path.with_name("whole.png").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def make_cut_npz(path: Path) -> None:
    np.savez(path.with_name("whole.npz"), noise(64, 64))
    path.write_bytes(path.with_name("whole.npz").read_bytes()[:900])


def make_two_arrays(path: Path) -> None:
    np.savez(path, a=np.zeros((3, 3)), b=np.zeros((3, 3)))


def make_pickle(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def make_cube(path: Path) -> None:
    np.save(path, np.zeros((9, 9, 9), np.float32))


def make_words(path: Path) -> None:
    np.save(path, np.array([["a", "b"]]))


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (make_empty, "x.png", "empty"),
        (make_text, "x.png", "not an image"),
        (make_cut_png, "x.png", "damaged, truncated"),
        (make_empty, "x.npz", "empty"),
        (make_text, "x.npy", "cannot be read as an array of numpy"),
        (make_cut_npz, "x.npz", "damaged, cut short"),
        (make_two_arrays, "x.npz", r"2 arrays \(a, b\), expected one"),
        (make_pickle, "x.npy", "holds object in 1 axes, expected numbers"),
        (make_cube, "x.npy", "up to 4 channels"),
        (make_words, "x.npy", "expected numbers"),
    ],
)
def test_bad_files_are_named_with_the_remedy(
    tmp_path: Path, make: Callable[[Path], Any], name: str, words: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=words) as caught:
        read_image(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file"):
        read_image(tmp_path / "none.png")
