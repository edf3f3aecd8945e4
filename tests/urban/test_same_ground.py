"""One piece of ground, many files: the same answer, on each file's own grid and in its own CRS."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.warp import reproject

from domainsam.errors import ConfigError
from domainsam.testing.synthetic import make_settlement_scene
from domainsam_urban.finders import make_engine_options
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.run import map_options
from domainsam_urban.settings import MapOptions, OutputOptions, ReadOptions, RunOptions, ShapeOptions
from tests.urban.tiny import PLACE, UTM, write_scene

RUN = RunOptions(tile=64, overlap=16, method="coarse")
CORNER = Affine.translation(443_200, 4_412_300)
FINE = CORNER @ Affine.scale(0.5, -0.5)


def run(scene: Path, model: SettlementModel, **more: Any) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The probability on the scene's grid, and the summary; files lie in a folder beside the scene."""
    folder = scene.with_suffix("")
    folder.mkdir()
    outputs = OutputOptions(
        (folder / "s.gpkg",), folder / "p.tif", folder / "m.tif", summary=folder / "s.json"
    )
    map_scenes([str(scene)], MapOptions(outputs, **{"run": RUN, "quiet": True, **more}), model)
    with rasterio.open(scene) as one, rasterio.open(folder / "p.tif") as other:
        assert (one.shape, one.transform, one.crs) == (other.shape, other.transform, other.crs)
        return other.read(1), json.loads((folder / "s.json").read_text())


def outlines(scene: Path) -> Any:
    return geopandas.read_file(scene.with_suffix("") / "s.gpkg", layer="settlements")


def test_a_file_cut_elsewhere_gives_the_same_answer(tmp_path: Path, model: SettlementModel) -> None:
    """The tiny network's answers differ wildly with its strides; on the ground's lattice they agree."""
    image = make_settlement_scene(330, 310, seed=3).image
    whole, _ = run(write_scene(tmp_path / "a.tif", image), model)
    cut = write_scene(tmp_path / "b.tif", image[37:, 53:], transform=PLACE @ Affine.translation(53, 37))
    part, _ = run(cut, model)
    # A tile that is pushed back inside at an edge reaches 64 pixels, and into its neighbour's share of 16.
    inner = np.s_[80:-80, 80:-80]
    assert part[inner].std() > 10
    np.testing.assert_array_equal(part[inner], whole[37:, 53:][inner])


def test_a_file_in_a_frame_of_nodata_gives_the_same_answer(tmp_path: Path, model: SettlementModel) -> None:
    """Up to its very edge. The tiny transformer attends to all that it is shown, so nearly the same."""
    image = np.maximum(make_settlement_scene(160, 128, seed=2).image, 1)
    run_whole = RunOptions(tile=1024, overlap=16, method="coarse")
    plain, _ = run(write_scene(tmp_path / "a.tif", image), model, run=run_whole)
    framed = np.pad(image, ((64, 96), (96, 64), (0, 0)))
    place = PLACE @ Affine.translation(-96, -64)
    found, _ = run(write_scene(tmp_path / "b.tif", framed, transform=place, nodata=0), model, run=run_whole)
    assert plain.std() > 10
    difference = np.abs(found[64:-96, 96:-64].astype(int) - plain)
    # A tenth; 252 where the grid ends with the scene.
    assert difference.max() <= 25


FORMS = {
    "west-up": lambda image: (image[:, ::-1], FINE @ Affine.translation(128, 0) @ Affine.scale(-1, 1)),
    "half turned": lambda image: (
        image[::-1, ::-1],
        FINE @ Affine.translation(128, 160) @ Affine.scale(-1, -1),
    ),
    "quarter turned": lambda image: (
        image.swapaxes(0, 1)[::-1],
        FINE @ Affine(0, 1, 0, 1, 0, 0) @ Affine.translation(0, 128) @ Affine.scale(1, -1),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_quarter_turns_and_mirrors_are_equal(tmp_path: Path, model: SettlementModel, form: str) -> None:
    image = make_settlement_scene(160, 128, seed=2).image
    plain = write_scene(tmp_path / "a.tif", image, transform=FINE)
    turned_image, place = FORMS[form](image)
    turned = write_scene(tmp_path / "b.tif", np.ascontiguousarray(turned_image), transform=place)
    expected, _ = run(plain, model)
    found, _ = run(turned, model)
    np.testing.assert_array_equal(found, FORMS[form](expected)[0])
    tables = [outlines(scene).geometry for scene in (plain, turned)]
    assert len(tables[0]) == len(tables[1]) > 0
    assert tables[0].geom_equals_exact(tables[1], 1e-6).all()


def in_web_mercator(path: Path, image: NDArray[np.uint8], place: Affine) -> Path:
    """The image on a grid of EPSG:3857, finer, so that nothing of it is lost."""
    x, y = Transformer.from_crs(UTM, 3857, always_xy=True).transform(place.c, place.f)
    transform = Affine.translation(x - 4, y + 4) @ Affine.scale(0.5, -0.5)
    values = np.zeros((3, 270, 250), np.uint8)
    reproject(
        np.maximum(image.transpose(2, 0, 1), 1),
        values,
        src_transform=place,
        src_crs=UTM,
        dst_transform=transform,
        dst_crs="EPSG:3857",
        resampling=rasterio.warp.Resampling.bilinear,
    )
    return write_scene(path, values.transpose(1, 2, 0), "EPSG:3857", transform, nodata=0)


def test_outputs_of_a_scene_that_is_looked_at_in_utm_are_in_its_own_crs(
    tmp_path: Path, model: SettlementModel
) -> None:
    image = make_settlement_scene(160, 128, seed=2).image
    scene = in_web_mercator(tmp_path / "a.tif", image, FINE)
    _, summary = run(scene, model)
    table = outlines(scene)
    assert table.crs.to_epsg() == 3857
    with rasterio.open(scene.with_suffix("") / "m.tif") as dataset:
        inside, place, known = dataset.read(1) == 1, dataset.transform, dataset.read(1) != 255
    rows, cols = np.indices(inside.shape) + 0.5
    x, y = place @ (cols, rows)
    drawn = shapely.contains_xy(shapely.union_all(table.geometry.values), x, y)
    assert (inside & drawn).sum() / (inside | drawn).sum() > 0.9
    # 64 m x 80 m of ground in all, less what the network left out; measured on the ellipsoid.
    assert table["area_ha"].sum() == pytest.approx(summary["hectares"])
    share = inside.sum() / known.sum()
    assert summary["hectares"] == pytest.approx(share * 64 * 80 / 1e4, rel=0.05)
    assert summary["valid_share"] == pytest.approx(known.mean(), abs=0.02)


def test_resolution_gives_a_grid_of_the_scene_s_extent_and_crs(
    tmp_path: Path, model: SettlementModel
) -> None:
    scene = in_web_mercator(tmp_path / "a.tif", make_settlement_scene(160, 128, seed=2).image, FINE)
    files = OutputOptions((), tmp_path / "p.tif", tmp_path / "m.tif", stac=False)
    map_scenes([str(scene)], MapOptions(files, run=RUN, quiet=True, read=ReadOptions(resolution=0.8)), model)
    with rasterio.open(scene) as one, rasterio.open(tmp_path / "p.tif") as other:
        assert other.crs == one.crs
        assert other.bounds == pytest.approx(one.bounds, abs=1e-5)
        # 0.8 m on the ground are 1.04 m of the map at 40 degrees.
        assert other.res == pytest.approx((1.04, 1.04), rel=0.02)
        seen = other.read(1) != 255
    assert 0.4 < seen.mean() < 0.9


def test_polygons_alone_have_the_scene_s_footprint(tmp_path: Path, model: SettlementModel) -> None:
    """The grid that the network looks at reaches beyond the scene; nobody is told of that."""
    scene = write_scene(tmp_path / "a.tif")
    files = OutputOptions((tmp_path / "s.gpkg",))
    map_scenes([str(scene)], MapOptions(files, run=RUN, quiet=True), model)
    item = json.loads((tmp_path / "s.stac.json").read_text())
    assert item["properties"]["proj:shape"] == [160, 128]
    with rasterio.open(scene) as dataset:
        left, bottom, right, top = dataset.bounds
    west, south, east, north = item["bbox"]
    x, y = Transformer.from_crs(4326, UTM, always_xy=True).transform([west, east], [south, north])
    assert (*x, *y) == pytest.approx((left, right, bottom, top), abs=2.0)


def test_specks_are_left_out_of_mask_and_polygons_and_told(tmp_path: Path, model: SettlementModel) -> None:
    scenes = [write_scene(tmp_path / f"{name}.tif") for name in "abc"]
    every, all_of_it = run(scenes[0], model)
    few, summary = run(scenes[1], model, shape=ShapeOptions(min_area=300.0))
    # The probability is what it was; the mask and the polygons are not.
    np.testing.assert_array_equal(every, few)
    assert outlines(scenes[1])["area_m2"].min() >= 300 > outlines(scenes[0])["area_m2"].min()
    with rasterio.open(tmp_path / "b" / "m.tif") as dataset:
        kept = int((dataset.read(1) == 1).sum())
    assert kept * 0.81 == pytest.approx(summary["hectares"] * 1e4, rel=0.02)
    assert all_of_it["left_out"] == 0
    assert summary["left_out"] > 0
    # Nothing is lost: what is written and what was left out make all of it.
    assert summary["hectares"] + summary["left_out_ha"] == pytest.approx(all_of_it["hectares"], rel=0.01)
    outputs = OutputOptions((tmp_path / "d.gpkg",), stac=False)
    options = MapOptions(outputs, run=RUN, quiet=True, shape=ShapeOptions(min_area=300.0))
    (result,) = map_scenes([str(scenes[2])], options, model).results
    told = f"({summary['left_out']} smaller than 300 m² left out, {summary['left_out_ha']:.2f} ha in all)"
    assert told in result.sentence()


def test_views_reach_the_engine_and_change_the_answer(tmp_path: Path, model: SettlementModel) -> None:
    one, _ = run(write_scene(tmp_path / "a.tif"), model)
    many, _ = run(write_scene(tmp_path / "b.tif"), model, run=replace(RUN, views=8))
    assert (one != many).mean() > 0.5
    # A mean of eight answers of a random network lies nearer to the middle.
    assert many.std() < one.std()
    assert make_engine_options(map_options(out="x.gpkg", views="4"), model, None).views == 4
    with pytest.raises(ConfigError, match="views is '3', expected one of: 1, 4, 8"):
        map_options(out="x.gpkg", views=3)


def test_tiles_begin_at_strides_of_the_ground(model: SettlementModel) -> None:
    options = make_engine_options(MapOptions(OutputOptions(()), run=RUN), model, (0.9, 0.9), (320, -96))
    assert options.offset == (320, -96)
    assert options.margin == 6
