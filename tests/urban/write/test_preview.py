from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from matplotlib.image import imread

from domainsam.errors import InputError, OutputError
from domainsam_urban.write.polygons import PolygonOptions, polygonise
from domainsam_urban.write.preview import Caption, _length_words, draw_preview, round_below
from tests.urban.mask_files import METRE, UTM, write_raster

CAPTION = Caption("A title", "some facts")


def scene(
    folder: Path, shape: tuple[int, int], transform: Affine = METRE, crs: Any = UTM
) -> tuple[Path, Any]:
    """A grey scene and the polygons of a square in its middle."""
    mask = np.zeros(shape, np.uint8)
    rows, columns = (slice(size // 4, max(size // 2, 1)) for size in shape)
    mask[rows, columns] = 1
    values = np.full((3, *shape), 100, np.uint8)
    values[:, :: max(shape[0] // 2, 1)] = 120
    path = write_raster(folder / "m.tif", mask, transform, crs)
    table = polygonise(path, PolygonOptions(allow_no_crs=True))
    return write_raster(folder / "s.tif", values, transform, crs, None), table


def redness(picture: np.ndarray) -> np.ndarray:
    """Pixels in the colour of outlines and fills."""
    return (picture[..., 0] > picture[..., 1] + 0.05) & (picture[..., 0] > picture[..., 2] + 0.05)


def test_the_outline_lies_where_the_mask_is(tmp_path: Path) -> None:
    path, table = scene(tmp_path, (400, 400))
    draw_preview(tmp_path / "p.png", path, table, CAPTION)
    picture = imread(tmp_path / "p.png")
    assert max(picture.shape) == 1600
    red = redness(picture)[:-92]  # above the legend
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    side = 1600 - 92 - 92
    left = (picture.shape[1] - side) / 2
    assert rows[[0, -1]] == pytest.approx([92 + side / 4, 92 + side / 2], abs=4)
    assert columns[[0, -1]] == pytest.approx([left + side / 4, left + side / 2], abs=4)


@pytest.mark.parametrize("with_probability", [False, True])
@pytest.mark.parametrize(
    ("shape", "transform", "crs"),
    [
        ((30, 40), METRE @ Affine.rotation(30) @ Affine.scale(2), UTM),
        ((1, 900), METRE, UTM),
        ((900, 1), METRE, UTM),
        ((1, 1), METRE, UTM),
        ((40, 30), Affine.identity(), None),
        ((40, 40), Affine(1000, 0, -20000, 0, -1000, 20000), "EPSG:3413"),
    ],
)
def test_any_shape_and_place_is_drawn(
    tmp_path: Path, shape: tuple[int, int], transform: Affine, crs: Any, with_probability: bool
) -> None:
    path, table = scene(tmp_path, shape, transform, crs)
    probability = tmp_path / "m.tif" if with_probability else None
    draw_preview(tmp_path / "p.png", path, table, CAPTION, probability_path=probability, longest=800)
    picture = imread(tmp_path / "p.png")
    assert 100 < min(picture.shape[:2]) <= max(picture.shape[:2]) <= 801
    assert picture[..., :3].std() > 0.01


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 1), (1.9, 1), (2, 2), (499, 200), (7e5, 5e5), (0.03, 0.02)]
)
def test_scale_bars_are_round(length: float, expected: float) -> None:
    assert round_below(length) == pytest.approx(expected)


def test_lengths_in_words() -> None:
    words = [_length_words(length, True) for length in (0.05, 20.0, 2000.0)]
    assert words == ["5 cm", "20 m", "2 km"]
    assert _length_words(50, False) == "50 pixels"


def test_nothing_found_is_a_picture_too(tmp_path: Path) -> None:
    path, table = scene(tmp_path, (50, 50))
    draw_preview(tmp_path / "p.png", path, table.iloc[:0], CAPTION)
    assert not redness(imread(tmp_path / "p.png")).any()


def test_a_scene_without_a_valid_pixel_is_drawn_blank(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.full((2, 20, 20), np.nan, np.float32), nodata=None)
    _, table = scene(tmp_path, (20, 20))
    draw_preview(tmp_path / "p.png", path, table.iloc[:0], CAPTION, bands=(2,))
    assert imread(tmp_path / "p.png")[:, :, :3].mean() > 0.9


def test_long_titles_are_shortened(tmp_path: Path) -> None:
    path, table = scene(tmp_path, (50, 50))
    draw_preview(tmp_path / "p.png", path, table, Caption("long " * 200, "facts " * 300))
    margin = imread(tmp_path / "p.png")[:90, -20:, :3]
    assert margin.min() == 1.0


def test_pictures_are_the_same_again(tmp_path: Path) -> None:
    path, table = scene(tmp_path, (50, 50))
    for name in ("a.png", "b.png"):
        draw_preview(tmp_path / name, path, table, CAPTION)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_bad_wishes_are_named(tmp_path: Path) -> None:
    path, table = scene(tmp_path, (50, 50))
    with pytest.raises(InputError, match="it has bands 1 to 3"):
        draw_preview(tmp_path / "p.png", path, table, CAPTION, bands=(1, 2, 9))
    (tmp_path / "p.png").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        draw_preview(tmp_path / "p.png", path, table, CAPTION)
    assert (tmp_path / "p.png").read_text() == "precious"
