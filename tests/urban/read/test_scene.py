"""Reading scenes: bands, nodata, places, resolutions, and everything that can be wrong with a file."""

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
from rasterio.errors import NotGeoreferencedWarning

from domainsam.errors import InputError, MissingInputError
from domainsam.protocols import Source, Window
from domainsam_urban.read.scene import RasterSource

UTM = "EPSG:32633"
PLACE = Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 5_400_000.0)


def save(path: Path, values: NDArray[Any], transform: Affine | None = PLACE, **profile: Any) -> Path:
    colours = profile.pop("colours", None)
    mask = profile.pop("mask", None)
    count, height, width = values.shape
    profile = {"crs": UTM, "driver": "GTiff", **profile}
    if transform is not None:
        profile["transform"] = transform
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=values.dtype, **profile
    ) as dataset:
        if colours:
            dataset.colorinterp = colours
        dataset.write(values)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def ramp(count: int, height: int = 60, width: int = 80, dtype: str = "uint8") -> NDArray[Any]:
    rng = np.random.default_rng(count)
    return rng.integers(1, 200, (count, height, width)).astype(dtype)


def whole(source: RasterSource) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    block = source.read(Window(0, 0, *source.grid.shape))
    return block.image, block.valid


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
        np.testing.assert_allclose(source.profile_info.ground_pixel, (2, 2), rtol=1e-3)


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
        np.testing.assert_allclose(source.profile_info.ground_pixel, expected, rtol=5e-3)


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
        np.testing.assert_allclose(np.diff(image[0, 7, 1:-1]) * 255, 2, atol=1e-3)


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


class TestBadInput:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingInputError, match="no such file"):
            RasterSource(tmp_path / "none.tif")

    def test_missing_vsi(self, tmp_path: Path) -> None:
        with pytest.raises(MissingInputError, match="cannot be opened"):
            RasterSource(f"/vsizip/{tmp_path}/none.zip/a.tif")

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.touch()
        with pytest.raises(InputError, match="is empty"):
            RasterSource(path)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a folder"):
            RasterSource(tmp_path)

    def test_not_a_raster(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_text("hello")
        with pytest.raises(InputError, match="not a raster"):
            RasterSource(path)

    def test_header_cut_off(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(3))
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(InputError, match="damaged or truncated TIFF"):
            RasterSource(path)

    @pytest.mark.parametrize("compress", ["none", "deflate"])
    def test_truncated_in_the_middle(self, tmp_path: Path, compress: str) -> None:
        values = np.random.default_rng(0).integers(0, 255, (3, 512, 512)).astype(np.uint8)
        path = save(tmp_path / "a.tif", values, tiled=True, blockxsize=128, blockysize=128, compress=compress)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with RasterSource(path) as source:
            source.read(Window(0, 0, 64, 64))
            with pytest.raises(InputError, match=r"cannot read rows 448 to 512.*truncated"):
                source.read(Window(448, 448, 64, 64))

    def test_mosaic_with_a_missing_part(self, tmp_path: Path) -> None:
        part = save(tmp_path / "part.tif", ramp(3))
        vrt = tmp_path / "all.vrt"
        vrt.write_text(mosaic([part]))
        part.unlink()
        with pytest.raises(InputError, match="cannot read"), RasterSource(vrt) as source:
            source.read(Window(0, 0, 10, 10))

    def test_no_crs(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(3), crs=None)
        with pytest.raises(InputError, match=r"no coordinate reference system.*--allow-no-crs"):
            RasterSource(path)
        with RasterSource(path, allow_no_crs=True, resolution=50) as source:
            assert source.grid.frame == "pixel"
            assert source.grid.shape == (60, 80)
            assert source.crs is None

    def test_no_geotransform(self, tmp_path: Path) -> None:
        with pytest.warns(NotGeoreferencedWarning):
            path = save(tmp_path / "a.tif", ramp(3), None)
        with pytest.raises(InputError, match="no geotransform"):
            RasterSource(path)
        with RasterSource(path, allow_no_crs=True) as source:
            assert source.grid.frame == "pixel"

    def test_all_nodata(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", np.zeros((3, 30, 40), dtype=np.uint8), nodata=0)
        with pytest.raises(InputError, match=r"holds no data, all 30 x 40 pixels are nodata \(0\)"):
            RasterSource(path)

    def test_one_valid_pixel_is_enough(self, tmp_path: Path) -> None:
        values = np.zeros((3, 3000, 40), dtype=np.uint16)
        values[:, 1501, 17] = 9
        with RasterSource(save(tmp_path / "a.tif", values, nodata=0)) as source:
            assert whole(source)[1].sum() == 1

    def test_complex(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(1).astype(np.complex64))
        with pytest.raises(InputError, match="complex numbers"):
            RasterSource(path)

    def test_messages_are_one_line(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(3))
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(InputError) as caught:
            RasterSource(path)
        assert "\n" not in str(caught.value)


def mosaic(parts: list[Path]) -> str:
    """A VRT over equally sized north-up parts."""
    opened = []
    for part in parts:
        with rasterio.open(part) as dataset:
            opened.append((part, dataset.bounds, dataset.shape, dataset.crs.to_wkt(), dataset.transform))
    pixel = opened[0][4].a
    left, top = min(item[1].left for item in opened), max(item[1].top for item in opened)
    right, bottom = max(item[1].right for item in opened), min(item[1].bottom for item in opened)
    size = round((right - left) / pixel), round((top - bottom) / pixel)
    bands = []
    for band, colour in enumerate(("Red", "Green", "Blue"), start=1):
        sources = "".join(
            f'<ComplexSource><SourceFilename relativeToVRT="0">{part}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{shape[1]}" ySize="{shape[0]}"/>'
            f'<DstRect xOff="{round((bounds.left - left) / pixel)}" '
            f'yOff="{round((top - bounds.top) / pixel)}" '
            f'xSize="{shape[1]}" ySize="{shape[0]}"/></ComplexSource>'
            for part, bounds, shape, _, _ in opened
        )
        bands.append(
            f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>0</NoDataValue>'
            f"<ColorInterp>{colour}</ColorInterp>{sources}</VRTRasterBand>"
        )
    return (
        f'<VRTDataset rasterXSize="{size[0]}" rasterYSize="{size[1]}"><SRS>{opened[0][3]}</SRS>'
        f"<GeoTransform>{left},{pixel},0,{top},0,{-pixel}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )


class TestRealScenes:
    def test_mosaic_of_urban_villages(self, shared_data: Path, tmp_path: Path) -> None:
        tiles = sorted((shared_data / "satellite/urban_villages/train").glob("*_image.tif"))
        path = tmp_path / "all.vrt"
        path.write_text(mosaic(tiles))
        with RasterSource(path) as source:
            rows, cols = source.grid.shape
            assert min(rows, cols) > 1024
            # Web Mercator's 1.19 m are 0.91 m on the ground in Beijing.
            np.testing.assert_allclose(source.profile_info.ground_pixel, (0.91, 0.91), atol=0.02)
            valid = np.concatenate(
                [source.read(Window(row, 0, 512, cols)).valid for row in range(0, rows, 512)]
            )
            assert 0.3 < valid[:rows].mean() < 1
        with rasterio.open(tiles[0]) as tile, RasterSource(path) as source:
            row, col = (round(float(index)) for index in source.grid.to_index(tile.transform @ (0.5, 0.5)))
            image = source.read(Window(row, col, 64, 64)).image
            assert image.shape == (3, 64, 64)
            assert image.max() > 0

    def test_spacenet_in_degrees(self, shared_data: Path) -> None:
        path = next((shared_data / "satellite/spacenet_rio/8band").glob("*img1.tif"))
        with RasterSource(path, bands=(5, 3, 2), nodata=0) as source:
            image, valid = whole(source)
            assert source.profile_info.dtype == "uint16"
            np.testing.assert_allclose(source.profile_info.ground_pixel, (1.98, 1.83), atol=0.05)
            assert 0.2 < image[:, valid].mean() < 0.7
        with RasterSource(path, bands=(5, 3, 2), nodata=0, resolution=0.9) as source:
            assert source.profile_info.resampled
            np.testing.assert_allclose(source.profile_info.work_pixel, (0.9, 0.9), rtol=0.02)

    def test_naip_and_landsat(self, shared_data: Path) -> None:
        folder = shared_data / "satellite/opengeos"
        for path in (next((folder / "naip").glob("*.tif")), folder / "landsat/1990.tif"):
            with RasterSource(path) as source:
                image, valid = whole(source)
                assert source.bands == (1, 2, 3)
                assert valid.mean() > 0.5
                assert 0 < image[:, valid].mean() < 1

    def test_rotated_radar_is_refused_as_complex(self, shared_data: Path) -> None:
        with pytest.raises(InputError, match="complex"):
            RasterSource(shared_data / "satellite/solaris_sample/preproc_tutorial/sar_vv.tif")
