"""Mapping a part of a scene: the window that holds it, its pixels and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from domainsam.errors import ConfigError, InputError
from domainsam.protocols import Window
from domainsam_cli import main
from domainsam_urban import finders
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.read.area import WantedArea, find_wanted_area
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions, OutputOptions, ReadOptions, RunOptions
from tests.urban.read.scene_files import ramp, save
from tests.urban.tiny import PLACE, UTM, write_scene

PART = Window(40, 24, 64, 80)
"""Rows 40 to 104 and columns 24 to 104 of a scene of 160 x 128 pixels."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("area") / "scene.tif")


def ground(part: Window, place: Affine = PLACE) -> shapely.Polygon:
    """The ground of a window, turned where the scene is."""
    corners = [(part.col, part.row), (part.col + part.width, part.row)]
    corners += [(x, part.row + part.height) for x, _ in reversed(corners)]
    return shapely.Polygon([place @ corner for corner in corners])


def box(part: Window = PART) -> tuple[float, ...]:
    return tuple(ground(part).bounds)


def layer(path: Path, *shapes: shapely.Geometry, crs: str | None = UTM, to: str | None = None) -> Path:
    table = gpd.GeoDataFrame(geometry=list(shapes), crs=crs)
    (table if to is None else table.to_crs(to)).to_file(path)
    return path


def whole(path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Image and validity of all that a source of a path shows."""
    with RasterSource(path, **options) as source:
        block = source.read(Window(0, 0, *source.grid.shape))
    return block.image, block.valid


def test_a_box_is_a_window_of_the_scene(scene: Path) -> None:
    image, valid = whole(scene)
    with RasterSource(scene, area=find_wanted_area(ReadOptions(bbox=box()))) as source:
        assert source.window == PART
        assert source.grid.shape == (PART.height, PART.width)
        assert source.transform.almost_equals(PLACE @ Affine.translation(PART.col, PART.row))
        block = source.read(Window(-8, -8, 96, 96))
    assert np.array_equal(block.image[:, 8:72, 8:88], image[(slice(None), *PART.slices)])
    assert np.array_equal(block.valid[8:72, 8:88], valid[PART.slices])
    assert block.valid.sum() == valid[PART.slices].sum(), "nothing beyond the window has data"


def test_percentiles_are_those_of_the_whole_scene(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(100, 5000, (160, 128, 3)).astype(np.uint16)
    pixels[:40] //= 50
    path = write_scene(tmp_path / "s.tif", pixels)
    image, _ = whole(path)
    part, _ = whole(path, area=find_wanted_area(ReadOptions(bbox=box())))
    assert np.array_equal(part, image[(slice(None), *PART.slices)])


def test_a_box_in_degrees_covers_the_same_ground(scene: Path) -> None:
    degrees = gpd.GeoSeries([ground(PART)], crs=UTM).to_crs(4326).total_bounds
    with RasterSource(
        scene, area=find_wanted_area(ReadOptions(bbox=tuple(degrees), bbox_crs="EPSG:4326"))
    ) as source:
        window = source.window
        assert window is not None
        valid = source.read(Window(0, 0, window.height, window.width)).valid
    # Meridians are not quite the grid's: a pixel or two more on each side.
    assert PART.row - 3 <= window.row <= PART.row
    assert PART.col - 3 <= window.col <= PART.col
    assert valid[4:-4, 4:-4].all()


@pytest.mark.parametrize("to", [UTM, "EPSG:4326"])
def test_outside_of_polygons_there_is_no_data(scene: Path, tmp_path: Path, to: str) -> None:
    triangle = shapely.Polygon([PLACE @ (10.3, 10.2), PLACE @ (110.4, 20.7), PLACE @ (20.6, 149.8)])
    small = shapely.box(*(PLACE @ (100.2, 149.6)), *(PLACE @ (119.7, 140.3)))
    path = layer(tmp_path / "aoi.gpkg", triangle, small, to=to)
    with RasterSource(scene, area=find_wanted_area(ReadOptions(aoi=path))) as source:
        assert source.window == Window(10, 10, 140, 110)
        valid = source.read(Window(0, 0, 140, 110)).valid
    rows, cols = np.mgrid[10:150, 10:120] + 0.5
    x, y = PLACE @ (cols, rows)
    expected = shapely.contains_xy(shapely.union_all([triangle, small]), x, y)
    assert (valid != expected).sum() <= 1, "a centre may lie on an edge"


def test_a_turned_scene_is_cut_to_the_box(tmp_path: Path) -> None:
    turned = PLACE @ Affine.rotation(30)
    path = write_scene(tmp_path / "s.tif", transform=turned)
    bounds = ground(PART, turned).buffer(-15).bounds
    with RasterSource(path, area=find_wanted_area(ReadOptions(bbox=bounds))) as source:
        window = source.window
        valid = source.read(Window(0, 0, window.height, window.width)).valid
    rows, cols = np.mgrid[: window.height, : window.width] + 0.5
    x, y = turned @ (cols + window.col, rows + window.row)
    inside = (x > bounds[0]) & (x < bounds[2]) & (y > bounds[1]) & (y < bounds[3])
    assert np.array_equal(valid, inside)
    assert 0.3 < valid.mean() < 0.7


def test_mapping_an_area_gives_outputs_of_that_area(
    scene: Path, tmp_path: Path, model: SettlementModel
) -> None:
    outputs = OutputOptions(
        (tmp_path / "s.gpkg",), probability=tmp_path / "p.tif", preview=tmp_path / "p.png", stac=False
    )
    read = ReadOptions(aoi=layer(tmp_path / "aoi.gpkg", ground(PART).buffer(0)))
    options = MapOptions(outputs, read=read, run=RunOptions(tile=64, overlap=16), quiet=True)
    (result,) = map_scenes([str(scene)], options, model).results
    assert result.shape == (PART.height, PART.width)
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert dataset.shape == (PART.height, PART.width)
        assert tuple(dataset.bounds) == pytest.approx(box())
    found = gpd.read_file(tmp_path / "s.gpkg", layer="settlements")
    assert len(found) > 0
    assert found.union_all().within(ground(PART).buffer(0.01))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_scene_outside_is_refused_with_both_extents(scene: Path) -> None:
    away = find_wanted_area(ReadOptions(bbox=(0, 0, 10, 10)))
    with pytest.raises(InputError, match=r"box 0,0,10,10 does not overlap it.*\[0, 0, 10, 10\].*443200"):
        RasterSource(scene, area=away)


def test_between_the_polygons_of_a_layer_is_outside_too(scene: Path) -> None:
    around = [
        shapely.box(443_000, 4_412_000, 443_100, 4_412_400),
        shapely.box(443_400, 4_412_000, 443_500, 4_412_400),
    ]
    with pytest.raises(InputError, match="area 'x' does not overlap"):
        RasterSource(scene, area=WantedArea("area 'x'", gpd.GeoSeries(around, crs=UTM)))


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (ReadOptions(bbox=(2, 0, 1, 1)), "--bbox 2,0,1,1 is no box: expected west,south,east,north"),
        (ReadOptions(bbox=(0, 0, 1, float("nan"))), "is no box"),
        (ReadOptions(bbox=(0, 0, 1, 1), bbox_crs="EPSG:nonsense"), "--bbox-crs 'EPSG:nonsense' is unknown"),
        (ReadOptions(bbox_crs="EPSG:4326"), "without --bbox"),
        (ReadOptions(bbox=(0, 0, 1, 1), aoi=Path("a.gpkg")), "both given"),
    ],
)
def test_impossible_areas_are_refused(read: ReadOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_wanted_area(read)


def test_an_empty_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.gpkg"
    gpd.GeoDataFrame({"a": []}, geometry=[], crs=UTM).to_file(path)
    with pytest.raises(InputError, match=r"empty.gpkg' is empty: expected polygons"):
        find_wanted_area(ReadOptions(aoi=path))


def test_a_layer_cannot_be_laid_on_a_scene_without_crs(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s.tif", crs=None)
    area = find_wanted_area(ReadOptions(aoi=layer(tmp_path / "aoi.gpkg", ground(PART))))
    with pytest.raises(InputError, match=r"has no CRS, so area 'aoi\.gpkg' cannot be laid on it"):
        RasterSource(path, allow_no_crs=True, area=area)


@pytest.mark.parametrize("on_ground", [False, True])
def test_a_part_of_a_scene_without_geotransform_has_no_place_either(tmp_path: Path, on_ground: bool) -> None:
    with pytest.warns(NotGeoreferencedWarning):
        path = save(tmp_path / "s.tif", ramp(3), None)
    area = find_wanted_area(ReadOptions(bbox=(8, 16, 72, 48)))
    with RasterSource(path, resolution=1.5, allow_no_crs=True, area=area, on_ground=on_ground) as source:
        assert (source.crs, source.work_crs, source.grid.frame) == (None, None, "pixel")
        assert (source.grid.shape, source.profile_info.ground_pixel) == ((32, 64), None)
        np.testing.assert_array_equal(source.read(Window(0, 0, 32, 64)).image * 255, ramp(3)[:, 16:48, 8:72])


def test_from_the_command_line(
    scene: Path,
    tmp_path: Path,
    model: SettlementModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(finders, "load_model", lambda options: model)
    common = ["urban", "map", str(scene), "-o", str(tmp_path / "s.gpkg"), "--no-stac", "--tile", "64"]
    assert main([*common, "--bbox", "1,2,3"]) == 2
    assert "is not west,south,east,north" in capsys.readouterr().err
    assert main([*common, "--bbox", "-1,-2,3,4", "--quiet"]) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "box -1,-2,3,4 does not overlap" in line
    assert not (tmp_path / "s.gpkg").exists()
    assert main([*common, "--bbox", ",".join(map(str, box())), "--quiet"]) == 0
    assert (tmp_path / "s.gpkg").is_file()
