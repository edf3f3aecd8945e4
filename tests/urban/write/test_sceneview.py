from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from domainsam.io.rasters import open_raster
from domainsam_urban.write.sceneview import INVALID, fit_view, read_probability_picture, read_scene_picture
from tests.urban.mask_files import METRE, UTM, write_raster

ROOM = (1500.0, 1400.0)


def test_pixels_are_square_on_the_ground() -> None:
    """At 60 degrees north a degree of longitude is half as long as one of latitude."""
    view = fit_view((100, 100), Affine(1e-5, 0, 10, 0, -1e-5, 60), "EPSG:4326", ROOM)
    assert view.size[1] / view.size[0] == pytest.approx(2, rel=0.01)
    assert view.metre is not None
    assert view.size[1] * view.metre == pytest.approx(111.4, rel=0.01)


@pytest.mark.parametrize("angle", [0, 30, 135, -90])
def test_north_turns_with_the_scene(angle: float) -> None:
    middle = Affine.translation(500000, 4430000)
    view = fit_view((300, 300), middle @ Affine.rotation(angle) @ Affine.scale(1, -1), UTM, ROOM)
    # Rows run down: a scene turned counter-clockwise shows north turned clockwise.
    expected = math.sin(math.radians(angle)), -math.cos(math.radians(angle))
    assert view.north == pytest.approx(expected, abs=0.01)


def test_web_mercator_scale_is_of_the_ground() -> None:
    view = fit_view((1000, 1000), Affine(1, 0, 12974115, 0, -1, 8399737), "EPSG:3857", ROOM)
    assert view.metre is not None
    assert view.metre * view.size[0] == pytest.approx(500, rel=0.01)


def test_views_fit_and_small_scenes_stay_small() -> None:
    wide = fit_view((100, 4000), METRE, UTM, ROOM)
    assert wide.size == pytest.approx((1500, 37.5), abs=0.5)
    small = fit_view((10, 20), METRE, UTM, ROOM)
    assert small.size == (80, 40)
    assert small.to_picture @ (450020, 4429990) == pytest.approx((80, 40))


def test_eight_bits_keep_their_colour_and_others_are_balanced(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 100, 400), (40, 1))
    bands = np.stack((ramp, ramp / 2, np.zeros_like(ramp)))
    for dtype, brightest in (("uint8", [1, 0.5, 0]), ("uint16", [1, 1, 0])):
        path = write_raster(tmp_path / f"{dtype}.tif", bands.astype(dtype), nodata=None)
        with open_raster(path) as dataset:
            picture = read_scene_picture(dataset, None, (400, 40))
        assert picture.shape == (40, 400, 3)
        assert picture.max(axis=(0, 1)) == pytest.approx(brightest, abs=0.05)


def test_invalid_pixels_are_grey_and_stretch_nothing(tmp_path: Path) -> None:
    values = np.tile(np.linspace(1, 2, 100, dtype=np.float32), (50, 1))
    values[:10], values[10:20] = -9999, np.nan
    path = write_raster(tmp_path / "s.tif", values, nodata=-9999)
    with open_raster(path) as dataset:
        picture = read_scene_picture(dataset, None, (100, 50))
    assert (picture[:20] == INVALID).all()
    assert (picture[20:].min(), picture[20:].max()) == (0, 1)
    assert np.diff(picture[20:], axis=1).min() >= 0


def test_probability_is_read_in_its_scale(tmp_path: Path) -> None:
    steps = np.array([[0, 127, 254, 255]], dtype=np.uint8)
    shades = read_probability_picture(write_raster(tmp_path / "u.tif", steps, nodata=None), (4, 1))
    assert shades.tolist() == [[0, 0.5, 1, None]]
    floats = np.array([[0, 0.5, 1, np.nan]], dtype=np.float32)
    shades = read_probability_picture(write_raster(tmp_path / "f.tif", floats, nodata=None), (4, 1))
    assert shades.tolist() == [[0, 0.5, 1, None]]
