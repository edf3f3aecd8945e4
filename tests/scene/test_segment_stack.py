"""Stacks of rasters: any resolution and CRS, no seams, whatever the tiles, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject, transform_bounds
from scipy import ndimage

from domainsam.errors import InputError
from domainsam.infer.journal import JOURNAL_FILE
from domainsam.protocols import Source, Window
from domainsam_scene.model.scene import SceneModel
from domainsam_scene.model.sweep import TileOptions, segment_stack
from domainsam_scene.read.rasters import SceneSource
from tests.scene.tiny import TinyModel, tiny_scene_model

UTM = "EPSG:32632"
CORNER = (500_000.0, 5_000_000.0)
SENSORS = ("optical", "sar", "dem")
ROWS, COLS = 150, 210


def field(rows: int = ROWS, cols: int = COLS, seed: int = 0, blur: float = 6) -> NDArray[np.float32]:
    """A smooth picture from 0 to 1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((rows, cols)), blur)
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)


def write(
    path: Path, values: NDArray[Any], pixel: float = 10.0, corner: tuple[float, float] = CORNER, **more: Any
) -> Path:
    bands = values if values.ndim == 3 else values[None]
    profile = {
        "driver": "GTiff",
        "dtype": bands.dtype,
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "crs": UTM,
        "transform": Affine.translation(*corner) @ Affine.scale(pixel, -pixel),
        **more,
    }
    with rasterio.open(path, "w", **profile) as made:
        made.write(bands)
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """10 m colours, 25 m radar with two bands, and elevation in another CRS with a hole."""
    room = tmp_path_factory.mktemp("stack")
    optical = np.stack([field(seed=seed) * 255 for seed in range(3)]).astype(np.uint8)
    radar = np.stack([field(60, 84, seed, 3) * 10 - 20 for seed in (4, 5)])
    paths = {"optical": write(room / "o.tif", optical), "sar": write(room / "s.tif", radar, 25.0)}
    height = field(seed=6) * 900 + 100
    height[:30, :40] = -9999
    write(room / "utm.tif", height, nodata=-9999)
    with rasterio.open(room / "utm.tif") as source:
        geographic = "EPSG:4326"
        left, bottom, right, top = transform_bounds(source.crs, geographic, *source.bounds)
        rows, width = source.height, source.width
        transform = Affine(right - left, 0, left, 0, bottom - top, top) @ Affine.scale(1 / width, 1 / rows)
        laid = np.full((1, rows, width), -9999, np.float32)
        reproject(
            rasterio.band(source, 1),
            laid[0],
            dst_transform=transform,
            dst_crs=geographic,
            dst_nodata=-9999,
            resampling=Resampling.bilinear,
        )
    paths["dem"] = write(room / "d.tif", laid, crs=geographic, transform=transform, nodata=-9999)
    return paths


def answers(
    stack: Mapping[str, Path], folder: Path, tiles: TileOptions, model: Any = None
) -> dict[str, NDArray[np.uint8]]:
    folder.mkdir(parents=True, exist_ok=True)
    chosen: SceneModel = model or tiny_scene_model(modalities=SENSORS, reach=4)
    with SceneSource(stack) as source:
        answer = segment_stack(source, chosen, folder, tiles)
    found = {}
    for name in answer.paths:
        with answer.open(name) as staged:
            found[name] = staged.read(Window(0, 0, *answer.shape))
    return found


def test_source_keeps_the_protocol(stack: dict[str, Path]) -> None:
    with SceneSource(stack) as source:
        assert isinstance(source, Source)
        assert source.grid.shape == (ROWS, COLS)
        np.testing.assert_allclose(source.grid.to_world([0, 0]), [CORNER[0] + 5, CORNER[1] - 5])
        np.testing.assert_allclose(source.grid.to_world([2, 3]), [CORNER[0] + 35, CORNER[1] - 25])
        block = source.read(Window(-8, 200, 32, 32))
        assert block.image.shape == (9, 32, 32)
        assert not block.valid[:8].any()
        assert not block.valid[:, 10:].any()
        assert block.valid[8:, :10].all()
        assert sum(1 for _ in source.blocks(64, 16)) >= 12


def test_sensors_are_laid_on_the_same_ground(stack: dict[str, Path]) -> None:
    with SceneSource(stack, ranges={"dem": (100, 1000), "sar": (-20, -10)}) as source:
        planes = source.read_sensors(Window(0, 0, ROWS, COLS))
    inner = np.s_[8:-8, 8:-8]
    # The elevation went to degrees and back; its hole is where it was.
    dem = planes["dem"]
    assert not dem.valid[5:25, 5:35].any()
    assert dem.valid[40:-8, 8:-8].all()
    expected = field(seed=6)
    agree = dem.valid[inner] & ndimage.binary_erosion(dem.valid, iterations=3)[inner]
    assert np.abs(dem.image[0][inner] - expected[inner])[agree].max() < 0.03
    coarse = ndimage.zoom(field(60, 84, 4, 3), 2.5, order=1, grid_mode=True, mode="nearest")
    assert np.abs(planes["sar"].image[0] - coarse)[inner].mean() < 0.02
    assert not planes["sar"].image[2].any()
    assert planes["optical"].valid.all()


def test_windows_agree_with_the_whole(stack: dict[str, Path]) -> None:
    with SceneSource(stack) as source:
        whole = source.read(Window(0, 0, ROWS, COLS))
        for window in (Window(0, 0, 40, 50), Window(37, 91, 64, 64), Window(100, 150, 50, 60)):
            part = source.read(window)
            np.testing.assert_array_equal(part.valid, whole.valid[window.slices])
            np.testing.assert_allclose(part.image, whole.image[:, *window.slices], atol=2e-4)


def test_tiles_leave_no_seams(stack: dict[str, Path], tmp_path: Path) -> None:
    tiled = answers(stack, tmp_path / "a", TileOptions(64, 32, keep_probability=True))
    whole = answers(stack, tmp_path / "b", TileOptions(256, 0, keep_probability=True))
    for name in tiled:
        assert tiled[name].shape == (ROWS, COLS)
    # A tile that sees nothing of a sensor cannot mind it: only there may tiles and whole differ.
    difference = np.abs(tiled["confidence"].astype(int) - whole["confidence"])
    assert np.mean(tiled["labels"] == whole["labels"]) > 0.995
    assert difference.mean() < 1
    total = sum(tiled[f"probability/{index}"].astype(int) for index in range(4))
    assert np.abs(total - 254).max() <= 2
    shares = sum(tiled[f"contribution/{name}"].astype(int) for name in SENSORS)
    assert np.abs(shares - 254).max() <= 3


def test_answer_of_a_pixel_model_is_the_same_whatever_the_tiles(
    stack: dict[str, Path], tmp_path: Path
) -> None:
    local = TinyModel(SENSORS, reach=0)
    first = answers(stack, tmp_path / "a", TileOptions(64, 16), local)
    for index, tiles in enumerate(
        (TileOptions(64, 16, offset=(32, 32)), TileOptions(96, 48), TileOptions(64, 0))
    ):
        other = answers(stack, tmp_path / f"b{index}", tiles, local)
        for name, values in first.items():
            assert np.abs(values.astype(int) - other[name]).max() <= (0 if name == "labels" else 1), name


def test_strips_change_nothing(
    stack: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = TileOptions(64, 32)
    whole = answers(stack, tmp_path / "a", tiles)
    monkeypatch.setattr("domainsam_scene.model.sweep.BAND_BYTES", 64 * 64 * 4 * 8)
    strips = answers(stack, tmp_path / "b", tiles)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, strips[name])
    lengths = [(tmp_path / name / JOURNAL_FILE).read_text().count("unit") for name in ("a", "b")]
    assert lengths[1] > 2 * lengths[0]


def test_interrupted_run_goes_on_to_the_same_bytes(stack: dict[str, Path], tmp_path: Path) -> None:
    tiles = TileOptions(64, 32, resume=True)
    whole = answers(stack, tmp_path / "a", tiles)

    class Stops(TinyModel):
        left = 9

        def predict_sensors(self, *arguments: Any) -> Any:
            Stops.left -= 1
            if Stops.left < 0:
                raise KeyboardInterrupt
            return super().predict_sensors(*arguments)

    with pytest.raises(KeyboardInterrupt):
        answers(stack, tmp_path / "b", tiles, Stops(SENSORS, reach=4))
    again = answers(stack, tmp_path / "b", tiles)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, again[name])
    with pytest.raises(InputError, match="cannot resume"):
        answers(stack, tmp_path / "b", TileOptions(96, 32, resume=True))


def test_small_map_is_overhung_not_scaled(tmp_path: Path) -> None:
    path = write(tmp_path / "o.tif", (field(20, 30) * 255).astype(np.uint8))
    found = answers({"optical": path}, tmp_path / "a", TileOptions(64, 16))
    assert found["labels"].shape == (20, 30)
    assert (found["labels"] < 4).all()


def test_command_writes_cloud_optimised_maps(
    stack: dict[str, Path],
    tmp_path: Path,
    use_model: Callable[[TinyModel], TinyModel],
    scene: Callable[..., int],
) -> None:
    from rio_cogeo.cogeo import cog_validate

    use_model(TinyModel(SENSORS))
    pairs = [f"{name}={path}" for name, path in stack.items()]
    outputs = {"-o": "m.tif", "--probability": "p.tif", "--contribution": "c.tif", "--preview": "v.png"}
    words = [word for option, name in outputs.items() for word in (option, tmp_path / name)]
    assert scene("segment", "--geotiff", *pairs, *words, "--summary", tmp_path / "s.json", "-q") == 0
    assert {path.name for path in tmp_path.iterdir()} == {*outputs.values(), "s.json"}
    for name in ("m.tif", "p.tif", "c.tif"):
        assert cog_validate(tmp_path / name, quiet=True)[0]
    with rasterio.open(tmp_path / "m.tif") as made, rasterio.open(stack["optical"]) as first:
        assert (made.shape, made.crs, made.transform) == (first.shape, first.crs, first.transform)
        assert made.tags()["CLASS_1"] == "dark"
        assert made.colormap(1)[255][3] == 0
        assert set(np.unique(made.read(1))) <= {0, 1, 2, 3}
    with rasterio.open(tmp_path / "p.tif") as made:
        assert made.descriptions == ("background", "dark", "middle", "bright")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["sensors"] == list(SENSORS)
    assert summary["valid_share"] == 1


def test_raster_that_cannot_be_read_is_left_out(
    stack: dict[str, Path],
    tmp_path: Path,
    use_model: Callable[[TinyModel], TinyModel],
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_model(TinyModel(SENSORS))
    bad = tmp_path / "bad.tif"
    bad.write_bytes(stack["sar"].read_bytes()[:300])
    words = ["segment", "--geotiff", f"optical={stack['optical']}", f"sar={bad}", "-o", tmp_path / "m.tif"]
    assert scene(*words, "--strict") == 2
    assert scene(*words) == 0
    assert "going on with optical" in capsys.readouterr().err


def test_raster_of_other_ground_is_refused(stack: dict[str, Path], tmp_path: Path) -> None:
    far = write(tmp_path / "far.tif", field(), corner=(700_000.0, 5_000_000.0))
    with pytest.raises(InputError, match="does not lie on the ground of the map"):
        SceneSource({"optical": stack["optical"], "dem": far})
