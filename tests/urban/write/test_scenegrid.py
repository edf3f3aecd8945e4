"""Rasters lie on the scene, pixel on pixel, whatever grid the model looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from domainsam.infer.blend import NODATA
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam.testing.synthetic import make_settlement_scene
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions, OutputOptions, ReadOptions, RunOptions
from domainsam_urban.write import scenegrid
from domainsam_urban.write.scenegrid import lay_on_scene
from tests.urban.tiny import write_scene

CORNER = Affine.translation(443_200, 4_412_300)
FINE = CORNER @ Affine.scale(0.5, -0.5)
COARSE = CORNER @ Affine.scale(1.4, -1.4)
TURNED = CORNER @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)
SOUTH_UP = CORNER @ Affine.scale(0.5, 0.5)
WEST_UP = CORNER @ Affine.scale(-0.5, -0.5)


def run(scene: Path, folder: Path, model: SettlementModel, **read: Any) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    outputs = OutputOptions((folder / "s.gpkg",), folder / "p.tif", folder / "m.tif", folder / "p.png")
    options = MapOptions(outputs, run=RunOptions(tile=64, overlap=16), quiet=True, read=ReadOptions(**read))
    map_scenes([str(scene)], options, model)
    return folder / "p.tif", folder / "m.tif"


@pytest.mark.parametrize("transform", [FINE, COARSE, TURNED, SOUTH_UP, WEST_UP])
def test_mask_and_probability_have_the_scene_s_grid(
    tmp_path: Path, model: SettlementModel, transform: Affine
) -> None:
    scene = write_scene(tmp_path / "a.tif", transform=transform)
    probability, mask = run(scene, tmp_path / "o", model)
    with rasterio.open(scene) as one, rasterio.open(probability) as two, rasterio.open(mask) as three:
        assert two.shape == three.shape == one.shape
        assert two.transform == three.transform == one.transform
        assert two.crs == three.crs == one.crs
        steps, inside = two.read(1), three.read(1)
    np.testing.assert_array_equal(inside == 1, steps >= 127)
    assert (steps != NODATA).all()
    item = json.loads((tmp_path / "o" / "s.stac.json").read_text())
    assert item["properties"]["proj:shape"] == list(steps.shape)


@pytest.mark.parametrize("transform", [FINE, COARSE, SOUTH_UP])
def test_mask_covers_what_polygons_cover(tmp_path: Path, model: SettlementModel, transform: Affine) -> None:
    scene = write_scene(tmp_path / "a.tif", transform=transform)
    _, mask = run(scene, tmp_path / "o", model)
    table = geopandas.read_file(tmp_path / "o" / "s.gpkg", layer="settlements")
    with rasterio.open(mask) as dataset:
        inside, place = dataset.read(1) == 1, dataset.transform
    rows, cols = np.indices(inside.shape) + 0.5
    x, y = place @ (cols, rows)
    drawn = shapely.contains_xy(shapely.union_all(table.geometry.values), x, y)
    # They part only along outlines, by less than a pixel of the coarser grid.
    assert (inside & drawn).sum() / (inside | drawn).sum() > (0.9 if transform is COARSE else 0.93)
    assert inside.sum() * abs(place.determinant) == pytest.approx(table["area_m2"].sum(), rel=0.03)


def test_resolution_gives_the_grid_that_was_asked_for(tmp_path: Path, model: SettlementModel) -> None:
    scene = write_scene(tmp_path / "a.tif", transform=FINE)
    _, mask = run(scene, tmp_path / "o", model, resolution=0.9)
    with rasterio.open(mask) as dataset:
        assert dataset.shape == (89, 71)
        assert dataset.res == pytest.approx((128 * 0.5 / 71, 160 * 0.5 / 89))
        # To a hundredth of a millimetre: the scene's own extent.
        assert dataset.bounds == pytest.approx((443_200, 4_412_220, 443_264, 4_412_300), abs=1e-5)


def test_polygons_are_the_same_whether_rasters_are_asked_for(tmp_path: Path, model: SettlementModel) -> None:
    scene = write_scene(tmp_path / "a.tif", transform=FINE)
    run(scene, tmp_path / "o", model)
    outputs = OutputOptions((tmp_path / "alone.gpkg",), stac=False)
    map_scenes([str(scene)], MapOptions(outputs, run=RunOptions(tile=64, overlap=16), quiet=True), model)
    both = [
        geopandas.read_file(path, layer="settlements")
        for path in (tmp_path / "alone.gpkg", tmp_path / "o" / "s.gpkg")
    ]
    assert both[0].drop(columns="datetime").equals(both[1].drop(columns="datetime"))


def test_part_lies_on_the_lattice_of_the_whole(tmp_path: Path, model: SettlementModel) -> None:
    scene = write_scene(tmp_path / "a.tif", transform=SOUTH_UP)
    _, mask = run(scene, tmp_path / "o", model, bbox=(443_210.2, 4_412_310.2, 443_240.0, 4_412_340.0))
    with rasterio.open(mask) as dataset:
        assert dataset.transform == SOUTH_UP @ Affine.translation(20, 20)
        assert dataset.shape == (60, 60)
        values = dataset.read(1)
    # The box ends within its first row and column of pixels, so far from their centre that both are wanted.
    assert (values != NODATA).all()


@pytest.mark.parametrize("transform", [FINE, SOUTH_UP, WEST_UP])
def test_nodata_is_that_of_the_scene_exactly(
    tmp_path: Path, model: SettlementModel, transform: Affine
) -> None:
    image = make_settlement_scene(160, 128, seed=2).image
    missing = np.zeros(image.shape[:2], bool)
    missing[:40, :50] = True
    missing[100, 120] = True
    image = np.where(missing[..., None], 0, np.maximum(image, 1)).astype(image.dtype)
    scene = write_scene(tmp_path / "a.tif", image, transform=transform, nodata=0)
    for path in run(scene, tmp_path / "o", model):
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(1) == NODATA, missing)


def test_rows_from_south_to_north_give_the_same_answer(tmp_path: Path, model: SettlementModel) -> None:
    image = make_settlement_scene(160, 128, seed=2).image
    down = write_scene(tmp_path / "down.tif", image, transform=FINE)
    up = write_scene(
        tmp_path / "up.tif", image[::-1], transform=FINE @ Affine.translation(0, 160) @ Affine.scale(1, -1)
    )
    expected, found = (run(scene, tmp_path / scene.stem, model)[0] for scene in (down, up))
    with rasterio.open(expected) as one, rasterio.open(found) as other:
        np.testing.assert_array_equal(one.read(1), other.read(1)[::-1])
    tables = [
        geopandas.read_file(tmp_path / name / "s.gpkg", layer="settlements").geometry
        for name in ("down", "up")
    ]
    assert tables[0].geom_equals_exact(tables[1], 1e-6).all()


@pytest.fixture
def source(tmp_path: Path) -> RasterSource:
    return RasterSource(write_scene(tmp_path / "a.tif", transform=FINE), resolution=1.0)


def test_a_slope_stays_a_slope(source: RasterSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpolated values are those of the straight line, in strips of whatever height."""
    rows, cols = source.grid.shape
    down = np.linspace(20, 220, rows)[:, None] + np.zeros(cols)
    whole = []
    for pixels in (1 << 21, 800):
        monkeypatch.setattr(scenegrid, "STRIP_PIXELS", pixels)
        with RawRaster.create(tmp_path / "work.u8", (rows, cols)) as raster:
            raster.write(Window(0, 0, rows, cols), np.rint(down).astype(np.uint8))
            lay_on_scene(raster, source, tmp_path / "scene.u8")
        with RawRaster.open(tmp_path / "scene.u8", (160, 128)) as laid:
            whole.append(laid.read(Window(0, 0, 160, 128)))
    np.testing.assert_array_equal(whole[0], whole[1])
    middle = (np.arange(160) + 0.5) * rows / 160 - 0.5
    line = np.interp(middle, np.arange(rows), np.rint(down[:, 0]))
    assert np.abs(whole[0] - line[:, None]).max() <= 0.501


def test_classes_take_the_nearest_pixel(source: RasterSource, tmp_path: Path) -> None:
    rows, cols = source.grid.shape
    classes = np.random.default_rng(0).integers(0, 4, (rows, cols)).astype(np.uint8)
    with RawRaster.create(tmp_path / "work.u8", (rows, cols)) as raster:
        raster.write(Window(0, 0, rows, cols), classes)
        lay_on_scene(raster, source, tmp_path / "scene.u8", nearest=True)
    with RawRaster.open(tmp_path / "scene.u8", (160, 128)) as laid:
        found = laid.read(Window(0, 0, 160, 128))
    down = ((np.arange(160) + 0.5) * rows / 160).astype(int)
    across = ((np.arange(128) + 0.5) * cols / 128).astype(int)
    np.testing.assert_array_equal(found, classes[down][:, across])
