"""Fill that no file declares is found, told and left out; dark ground and bright roofs are left alone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam_urban.read import scene
from domainsam_urban.read.fill import find_fill
from domainsam_urban.read.scene import RasterSource
from tests.urban.read.scene_files import ramp, save, whole


def reflectance(height: int = 60, width: int = 80) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.05, 0.4, (3, height, width)).astype(np.float32)


@pytest.mark.parametrize("value", [-9999.0, -3.4028234663852886e38, 1e20])
def test_a_value_far_from_all_others_is_no_data_and_not_stretched_over(tmp_path: Path, value: float) -> None:
    values = reflectance()
    hidden = np.zeros((60, 80), bool)
    hidden[5:20, 10:30] = True
    values[:, hidden] = value
    source = RasterSource(save(tmp_path / "a.tif", values))
    declared = RasterSource(save(tmp_path / "b.tif", values, nodata=value))
    assert source.radiometry == declared.radiometry
    for found, expected in zip(whole(source), whole(declared), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(whole(source)[1], ~hidden)
    (note,) = source.notes
    assert note.startswith(f"{tmp_path / 'a.tif'}: 6.2% of the pixels are {value:g} in every band")
    assert "--nodata" in note
    assert not declared.notes


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 0), ("uint8", 255), ("uint16", 0), ("uint16", 65535)])
def test_a_border_in_one_colour_is_not_seen(tmp_path: Path, dtype: str, value: int) -> None:
    values = ramp(3, dtype=dtype)
    values[:, :, :25] = value
    source = RasterSource(save(tmp_path / "a.tif", values))
    seen = whole(source)[1]
    assert not seen[:, :25].any()
    assert seen[:, 25:].all()
    (note,) = source.notes
    assert f"31.2% of the pixels are {value}" in note
    # The way out: a value that does not occur.
    assert whole(RasterSource(tmp_path / "a.tif", nodata=7777))[1].all()


def test_what_may_be_ground_is_left_alone(tmp_path: Path) -> None:
    lake = ramp(3)
    lake[:, 20:40, 20:50] = 0
    roofs = ramp(3)
    roofs[:, ::9, ::9] = 255
    one_band = ramp(3)
    one_band[0, :, :25] = 0
    bright = reflectance()
    bright[:, 3:9, 3:9] = 1.2
    dead = reflectance()
    dead[:, 4, 4] = -9999
    for values in (lake, roofs, one_band, bright, dead):
        assert find_fill(values, np.ones((60, 80), bool)) is None


def test_all_of_one_value_is_no_fill(tmp_path: Path) -> None:
    assert find_fill(np.zeros((3, 9, 9), np.uint8), np.ones((9, 9), bool)) is None
    assert find_fill(np.zeros((3, 9, 9), np.float32), np.zeros((9, 9), bool)) is None


def test_bands_are_taken_by_their_names(tmp_path: Path) -> None:
    values = ramp(4)
    for name, order, words in (
        ("nir.tif", [1, 2, 3], ("NIR", "Red", "Green", "Blue")),
        ("bgrn.tif", [2, 1, 0], ("blue", "green", "red", "nir")),
        ("edge.tif", [3, 1, 0], ("B", "G", "red edge", "R")),
    ):
        source = RasterSource(_named(tmp_path / name, values, words))
        np.testing.assert_allclose(whole(source)[0], values[order] / np.float32(255))
        assert whole(source)[1].all()
        (note,) = source.notes
        assert f"bands {', '.join(str(band + 1) for band in order)} are taken for red, green, blue" in note


def test_names_count_more_than_the_colours_that_gdal_gives_to_four_bytes(tmp_path: Path) -> None:
    values = ramp(4)
    values[3, :30] = 0
    path = _named(tmp_path / "a.tif", values, ("NIR", "Red", "Green", "Blue"), photometric="RGB", alpha="yes")
    source = RasterSource(path)
    np.testing.assert_allclose(whole(source)[0], values[[1, 2, 3]] / np.float32(255))
    # Blue is no mask, though the file's fourth band is called alpha.
    assert whole(source)[1].all()


def test_four_bands_of_which_nothing_is_said_are_told(tmp_path: Path) -> None:
    source = RasterSource(save(tmp_path / "a.tif", ramp(4), photometric="MINISBLACK"))
    assert source.bands == (1, 2, 3)
    (note,) = source.notes
    assert "has 4 bands and does not say which are red, green and blue" in note
    assert not RasterSource(tmp_path / "a.tif", bands=(3, 2, 1)).notes
    assert not RasterSource(save(tmp_path / "b.tif", ramp(3))).notes


def _named(path: Path, values: NDArray[Any], words: tuple[str, ...], **profile: Any) -> Path:
    import rasterio

    profile = {"photometric": "MINISBLACK", **profile}
    save(path, values, **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = words
    return path


def test_what_is_known_of_a_scene_is_not_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = reflectance()
    values[:, 5:20, 10:30] = -9999.0
    first = RasterSource(save(tmp_path / "a.tif", values))
    known = pickle.loads(pickle.dumps(first.overview))
    monkeypatch.setattr(scene, "look_over", lambda *given, **more: pytest.fail("looked again"))
    again = RasterSource(tmp_path / "a.tif", known=known)
    assert again.fingerprint == first.fingerprint
    for found, expected in zip(whole(again), whole(first), strict=True):
        np.testing.assert_array_equal(found, expected)
