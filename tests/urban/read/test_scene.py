"""Reading scenes: bands, nodata, places and resolutions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from domainsam.errors import InputError
from domainsam.protocols import Source, Window
from domainsam_urban.read.scene import RasterSource
from tests.urban.read.scene_files import ramp, save, whole


def test_is_a_source_and_reads_8_bit_as_it_is(tmp_path: Path) -> None:
    values = ramp(3)
    with RasterSource(save(tmp_path / "a.tif", values)) as source:
        assert isinstance(source, Source)
        image, valid = whole(source)
        np.testing.assert_array_equal(image, (values / 255).astype(np.float32))
        assert valid.all()


def test_overhang_is_invalid_and_black(tmp_path: Path) -> None:
    values = ramp(3)
    with RasterSource(save(tmp_path / "a.tif", values)) as source:
        block = source.read(Window(-10, 70, 40, 30))
        expected = np.zeros((40, 30), dtype=bool)
        expected[10:, :10] = True
        np.testing.assert_array_equal(block.valid, expected)
        assert (block.image[:, ~expected] == 0).all()
        np.testing.assert_array_equal(block.image[0, 10:, :10] * 255, values[0, :30, 70:])
        assert not source.read(Window(500, 500, 8, 8)).valid.any()


@pytest.mark.parametrize(
    ("count", "colours", "bands", "expected"),
    [
        (4, None, None, (1, 2, 3)),
        (1, None, None, (1, 1, 1)),
        (8, None, (5, 3, 2), (5, 3, 2)),
        (4, None, (4,), (4, 4, 4)),
        (2, [ColorInterp.gray, ColorInterp.alpha], None, (1, 1, 1)),
        (4, [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red], None, (4, 3, 2)),
        (
            4,
            [ColorInterp.alpha, ColorInterp.undefined, ColorInterp.undefined, ColorInterp.undefined],
            None,
            (2, 3, 4),
        ),
    ],
)
def test_chooses_bands(
    tmp_path: Path,
    count: int,
    colours: list[ColorInterp] | None,
    bands: tuple[int, ...] | None,
    expected: tuple[int, ...],
) -> None:
    values = ramp(count)
    profile = {"photometric": "MINISBLACK", "colours": colours}
    with RasterSource(save(tmp_path / "a.tif", values, **profile), bands=bands) as source:
        assert source.bands == expected
        image, _ = whole(source)
        np.testing.assert_allclose(image * 255, values[[band - 1 for band in expected]], atol=1e-4)


@pytest.mark.parametrize("bands", [(0, 1, 2), (1, 2, 9), (1, 2), ()])
def test_refuses_wrong_bands(tmp_path: Path, bands: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected one or three of 1 to 4"):
        RasterSource(save(tmp_path / "a.tif", ramp(4)), bands=bands)


def test_refuses_two_bands_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has 2 bands.*--bands 1"):
        RasterSource(save(tmp_path / "a.tif", ramp(2)))


def test_refuses_colour_indices(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", ramp(1))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0, 255)})
    with pytest.raises(InputError, match="expand rgb"):
        RasterSource(path)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "int32"])
def test_stretches_other_types_once_for_the_scene(tmp_path: Path, dtype: str) -> None:
    values = ramp(3, dtype=dtype) * 9 - (500 if dtype != "uint16" else 0)
    values = values.astype(dtype)
    with RasterSource(save(tmp_path / "a.tif", values)) as source:
        image, _ = whole(source)
        low, high = np.percentile(values[1], (2, 98))
        expected = np.clip((values[1] - low) / (high - low), 0, 1)
        np.testing.assert_allclose(image[1], expected, atol=1e-5)
        part = source.read(Window(20, 30, 16, 16)).image
        np.testing.assert_array_equal(part, image[:, 20:36, 30:46])


def test_takes_the_radiometry_of_a_reference_scene(tmp_path: Path) -> None:
    dark, light = ramp(3, dtype="uint16"), ramp(3, dtype="uint16") * 50
    with RasterSource(save(tmp_path / "a.tif", light)) as reference:
        stats = reference.radiometry.to_dict()
    with RasterSource(save(tmp_path / "b.tif", dark), stats=stats) as source:
        assert source.radiometry.to_dict() == stats
        assert whole(source)[0].max() < 0.05
    one_band = {"low": [0], "high": [1], "rule": "scene"}
    with pytest.raises(InputError, match="for 1 bands, not 3"):
        RasterSource(tmp_path / "b.tif", stats=one_band)


def hole(values: NDArray[Any]) -> NDArray[np.bool_]:
    valid = np.ones(values.shape[1:], dtype=bool)
    valid[:20, :30] = False
    return valid


@pytest.mark.parametrize("nodata", [0, -9999, float("nan")])
def test_declared_nodata(tmp_path: Path, nodata: float) -> None:
    values = ramp(3, dtype="float32")
    valid = hole(values)
    values[:, ~valid] = nodata
    with RasterSource(save(tmp_path / "a.tif", values, nodata=nodata)) as source:
        image, seen = whole(source)
        np.testing.assert_array_equal(seen, valid)
        assert (image[:, ~valid] == 0).all()
        assert min(source.radiometry.low) > 0


def test_nodata_in_one_band_is_a_dark_pixel_not_a_hole(tmp_path: Path) -> None:
    values = ramp(3)
    values[0, :5] = 0
    with RasterSource(save(tmp_path / "a.tif", values, nodata=0)) as source:
        assert whole(source)[1].all()


def test_nodata_override(tmp_path: Path) -> None:
    values = ramp(3)
    valid = hole(values)
    values[:, ~valid] = 255
    path = save(tmp_path / "a.tif", values, nodata=0)
    with RasterSource(path, nodata=255) as source:
        np.testing.assert_array_equal(whole(source)[1], valid)


def test_undeclared_nan_is_missing(tmp_path: Path) -> None:
    values = ramp(3, dtype="float32")
    values[2, 3, 4] = np.nan
    with RasterSource(save(tmp_path / "a.tif", values)) as source:
        image, valid = whole(source)
        assert np.argwhere(~valid).tolist() == [[3, 4]]
        assert np.isfinite(image).all()


def test_alpha_band(tmp_path: Path) -> None:
    values = ramp(4)
    valid = hole(values)
    values[3] = np.where(valid, 255, 0)
    with RasterSource(save(tmp_path / "a.tif", values, photometric="RGB", alpha="YES")) as source:
        assert source.bands == (1, 2, 3)
        np.testing.assert_array_equal(whole(source)[1], valid)


def test_dataset_mask(tmp_path: Path) -> None:
    values = ramp(3)
    valid = hole(values)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = save(tmp_path / "a.tif", values, mask=valid)
    with RasterSource(path) as source:
        np.testing.assert_array_equal(whole(source)[1], valid)


def test_grid_gives_pixel_centres_also_of_rotated_scenes(tmp_path: Path) -> None:
    turned = Affine.translation(500_000, 5_400_000) @ Affine.rotation(30) @ Affine.scale(2, -2)
    with RasterSource(save(tmp_path / "a.tif", ramp(3), turned)) as source:
        world = source.grid.to_world([(7, 11), (0, 0)])
        np.testing.assert_allclose(world, [turned @ (11.5, 7.5), turned @ (0.5, 0.5)])
        assert source.grid.frame.startswith("PROJCS")
        assert source.profile_info.ground_pixel == pytest.approx((2, 2), rel=1e-3)


@pytest.mark.parametrize(
    ("crs", "transform", "expected"),
    [
        # Web Mercator at 60 degrees north stretches lengths about twofold.
        ("EPSG:3857", Affine(10, 0, 1e6, 0, -10, 8_399_737.89), (5.0, 5.0)),
        # A degree at 60 north: 111.4 km north-south, 55.8 km east-west.
        ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 60), (11.14, 5.58)),
        # US survey feet.
        ("EPSG:2263", Affine(10, 0, 9.8e5, 0, -10, 2e5), (3.048, 3.048)),
    ],
)
def test_ground_pixel_is_metres_on_the_ellipsoid(
    tmp_path: Path, crs: str, transform: Affine, expected: tuple[float, float]
) -> None:
    with RasterSource(save(tmp_path / "a.tif", ramp(3), transform, crs=crs)) as source:
        assert source.profile_info.ground_pixel == pytest.approx(expected, rel=5e-3)


def test_near_resolution_is_read_as_it_is(tmp_path: Path) -> None:
    with RasterSource(save(tmp_path / "a.tif", ramp(3)), resolution=2.4) as source:
        assert source.grid.shape == (60, 80)
        assert not source.profile_info.resampled


@pytest.mark.parametrize("turn", [0.0, 30.0])
def test_coarser_work_grid_holds_area_means(tmp_path: Path, turn: float) -> None:
    place = Affine.translation(500_000, 5_400_000) @ Affine.rotation(turn) @ Affine.scale(2, -2)
    values = ramp(3)
    with RasterSource(save(tmp_path / "a.tif", values, place), resolution=8) as source:
        assert source.grid.shape == (15, 20)
        image, valid = whole(source)
        expected = values.reshape(3, 15, 4, 20, 4).mean(axis=(2, 4)) / 255
        np.testing.assert_allclose(image, expected, atol=1e-6)
        assert valid.all()
        np.testing.assert_allclose(source.transform @ (20, 15), place @ (80, 60))


def test_means_leave_missing_pixels_out(tmp_path: Path) -> None:
    values = np.full((3, 40, 40), 100, dtype=np.uint8)
    values[:, :10, :10] = 0
    with RasterSource(save(tmp_path / "a.tif", values, nodata=0), resolution=16) as source:
        image, valid = whole(source)
        assert source.grid.shape == (5, 5)
        np.testing.assert_allclose(image[:, valid], 100 / 255, atol=1e-6)
        # Pixel (0, 0) is wholly missing, (1, 1) by a sixteenth, (0, 1) by a quarter.
        assert np.argwhere(~valid).tolist() == [[0, 0]]


@pytest.mark.parametrize("resolution", [0.7, 3.1, 9.0])
def test_resampled_windows_fit_together_bit_for_bit(tmp_path: Path, resolution: float) -> None:
    values = ramp(3, dtype="uint16")
    values[:, 30:35, 10:50] = 0
    with RasterSource(save(tmp_path / "a.tif", values, nodata=0), resolution=resolution) as source:
        image, valid = whole(source)
        rows, cols = source.grid.shape
        for window in (Window(3, 2, 9, 7), Window(rows - 5, cols - 6, 5, 6), Window(-4, cols - 3, 12, 9)):
            block = source.read(window)
            inside = (
                slice(max(0, window.row), min(rows, window.row + window.height)),
                slice(max(0, window.col), min(cols, window.col + window.width)),
            )
            part = (
                slice(inside[0].start - window.row, inside[0].stop - window.row),
                slice(inside[1].start - window.col, inside[1].stop - window.col),
            )
            np.testing.assert_array_equal(block.image[(slice(None), *part)], image[(slice(None), *inside)])
            np.testing.assert_array_equal(block.valid[part], valid[inside])
            outside = np.ones(block.valid.shape, dtype=bool)
            outside[part] = False
            assert not block.valid[outside].any()


def test_finer_work_grid_interpolates(tmp_path: Path) -> None:
    values = np.tile(np.arange(0, 160, 4, dtype=np.uint8), (3, 10, 1))
    with RasterSource(save(tmp_path / "a.tif", values), resolution=1) as source:
        image, _ = whole(source)
        assert image.shape == (3, 20, 80)
        # At the rim the last pixel goes on, which a spline notices for some pixels.
        np.testing.assert_allclose(np.diff(image[0, 7, 16:-16]) * 255, 2, atol=1e-3)


def test_threads_read_the_same(tmp_path: Path) -> None:
    values = ramp(3, 256, 256, "uint16")
    with RasterSource(save(tmp_path / "a.tif", values, tiled=True, blockxsize=64, blockysize=64)) as source:
        windows = [Window(row, col, 70, 70) for row in range(-8, 200, 24) for col in range(0, 200, 24)]
        alone = [source.read(window).image for window in windows]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(source.read, windows))
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other.image)


def test_blocks_cover_the_scene(tmp_path: Path) -> None:
    with RasterSource(save(tmp_path / "a.tif", ramp(3, 150, 100))) as source:
        seen = np.zeros((150, 100), dtype=bool)
        for block in source.blocks(64, 16):
            assert block.image.shape == (3, 64, 64)
            seen[block.index.slices] |= block.valid[: 150 - block.index.row, : 100 - block.index.col]
        assert seen.all()


def test_fingerprint_tells_files_and_readings_apart(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", ramp(3))
    marks = []
    for options in ({}, {}, {"bands": (3, 2, 1)}, {"nodata": 7}, {"resolution": 20}):
        with RasterSource(path, **options) as source:
            marks.append(source.fingerprint)
    save(path, ramp(3, 61))
    with RasterSource(path) as source:
        marks.append(source.fingerprint)
    assert marks[0] == marks[1]
    assert all(marks[0] != other for other in marks[2:])
