from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio import features

from domainsam.errors import ConfigError, InputError
from domainsam_urban.write.polygons import COLUMNS, PIXEL_COLUMNS, PolygonOptions, polygonise
from domainsam_urban.write.provenance import Acquisition, Provenance
from tests.urban.ellipsoid import zone_area
from tests.urban.mask_files import METRE, UTM, blobs, write_raster

PROVENANCE = Provenance(
    "scene.tif", Acquisition(datetime(2020, 5, 6, tzinfo=UTC)), "model.safetensors", "two-pass"
)


def test_columns_and_what_they_say(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:15, 5:25] = mask[30:35, 2:6] = 1
    probability = np.where(mask == 1, 127, 20).astype(np.uint8)
    table = polygonise(
        write_raster(tmp_path / "m.tif", mask),
        probability_path=write_raster(tmp_path / "p.tif", probability),
        provenance=PROVENANCE,
    )
    assert tuple(table.columns) == (*COLUMNS, "geometry")
    assert table.id.tolist() == [1, 2]
    assert table["class"].tolist() == ["settlement"] * 2
    assert table.confidence.tolist() == [0.5, 0.5]
    assert table.area_m2.tolist() == pytest.approx([200, 20], rel=0.002)
    assert table.area_ha.tolist() == pytest.approx((table.area_m2 / 1e4).tolist())
    assert table.perimeter_m.tolist() == pytest.approx([60, 18], rel=0.001)
    assert (table.datetime == datetime(2020, 5, 6, tzinfo=UTC)).all()
    assert set(table.source) == {"scene.tif"}
    assert set(table.model) == {"model.safetensors"}
    assert set(table.method) == {"two-pass"}
    assert table.crs == UTM
    assert table.total_bounds.tolist() == [450002, 4429965, 450025, 4429995]


@pytest.mark.parametrize("count", [0, 1])
def test_empty_has_the_same_types_as_full(tmp_path: Path, count: int) -> None:
    table = polygonise(write_raster(tmp_path / "m.tif", np.full((4, 4), count, np.uint8)))
    assert len(table) == count
    assert table.id.dtype == np.int64
    assert {str(table[name].dtype) for name in ("class", "source", "model", "method")} <= {"str", "object"}
    assert str(table.datetime.dtype) == "datetime64[ms, UTC]"
    assert all(table[name].dtype == np.float64 for name in COLUMNS[2:6])
    assert table.crs == UTM


def test_rings_are_right_handed_under_any_transform(tmp_path: Path) -> None:
    mask = np.ones((10, 10), np.uint8)
    mask[4:6, 4:6] = 0
    turned = Affine.translation(450000, 4.4e6) @ Affine.rotation(200) @ Affine.scale(2, -2)
    south_up = Affine(1, 0, 450000, 0, 1, 4430000)
    for number, transform in enumerate((METRE, turned, south_up)):
        table = polygonise(write_raster(tmp_path / f"{number}.tif", mask, transform))
        polygon = table.geometry[0]
        assert shapely.is_ccw(polygon.exterior)
        assert not shapely.is_ccw(polygon.interiors[0])


def test_rotation_changes_no_size(tmp_path: Path) -> None:
    mask = blobs((60, 60), seed=5)
    options = PolygonOptions(min_area=30, close_holes=10, simplify=3)
    turned = METRE @ Affine.translation(30, 30) @ Affine.rotation(50) @ Affine.translation(-30, -30)
    straight = polygonise(write_raster(tmp_path / "a.tif", mask), options)
    rotated = polygonise(write_raster(tmp_path / "b.tif", mask, turned), options)
    assert len(straight) == len(rotated)
    assert rotated.area_m2.to_numpy() == pytest.approx(straight.area_m2.to_numpy(), rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_min_area_holds_for_what_is_written(tmp_path: Path, seed: int) -> None:
    path = write_raster(tmp_path / "m.tif", blobs((80, 80), seed))
    table = polygonise(path, PolygonOptions(min_area=60, close_holes=20, simplify=4))
    assert len(table)
    assert table.area_m2.min() >= 60
    assert table.is_valid.all()
    assert set(table.geom_type) == {"Polygon"}
    assert table.id.tolist() == list(range(1, len(table) + 1))
    assert table.union_all().area == pytest.approx(table.area.sum())


def test_sizes_in_web_mercator_are_of_the_ground(tmp_path: Path) -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[100:300, 100:300] = 1
    place = Affine(1.194328566955879, 0, 12974115.4, 0, -1.194328566955879, 4886466.3)
    path = write_raster(tmp_path / "m.tif", mask, place, "EPSG:3857")
    table = polygonise(path)
    wgs84 = table.geometry.segmentize(5).to_crs("+proj=laea +lat_0=40.1 +lon_0=116.5 +ellps=WGS84")
    assert table.area_m2[0] == pytest.approx(wgs84.area[0], rel=1e-5)
    # min_area is met by ground metres, although 57 000 m2 of the map are more.
    assert len(polygonise(path, PolygonOptions(min_area=34000))) == 0
    assert len(polygonise(path, PolygonOptions(min_area=33000))) == 1


def test_geographic_rasters_take_metres(tmp_path: Path) -> None:
    """Banepa's ground: 1.3e-6 degrees a pixel, which is 14 cm north and 13 cm east."""
    mask = blobs((200, 200), seed=6)
    place = Affine(1.3e-6, 0, 85.52, 0, -1.3e-6, 27.63)
    path = write_raster(tmp_path / "m.tif", mask, place, "EPSG:4326")
    table = polygonise(path, PolygonOptions(min_area=0.5, simplify=0.5))
    assert table.area_m2.min() >= 0.5
    geod = pyproj.Geod(ellps="WGS84")
    areas = [abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in table.geometry]
    assert table.area_m2.to_numpy() == pytest.approx(areas, rel=1e-5)
    full = polygonise(path, PolygonOptions(min_area=0.5))
    points = [shapely.get_num_coordinates(t.geometry.to_numpy()).sum() for t in (table, full)]
    assert points[0] < 0.8 * points[1]


def test_without_a_crs_only_pixels_are_counted(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "m.tif", np.ones((6, 5), np.uint8), Affine.identity(), None)
    with pytest.raises(InputError, match=r"m\.tif' has no CRS.*--allow-no-crs"):
        polygonise(path)
    table = polygonise(path, PolygonOptions(allow_no_crs=True, min_area=30))
    assert tuple(table.columns) == (*COLUMNS, *PIXEL_COLUMNS, "geometry")
    assert table[["area_m2", "area_ha", "perimeter_m"]].isna().all(axis=None)
    assert (table.area_px[0], table.perimeter_px[0]) == (30, 22)
    assert table.crs is None
    assert len(polygonise(path, PolygonOptions(allow_no_crs=True, min_area=31))) == 0


@pytest.mark.parametrize(
    "bad", [{"min_area": -1}, {"simplify": float("nan")}, {"labels": {0: "x"}}, {"labels": {}}]
)
def test_impossible_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        PolygonOptions(**bad)


def test_real_masks_measure_the_same_row_by_row(shared_data: Path) -> None:
    """Each row of pixels is a strip between two parallels, whose area is known in closed form."""
    paths = sorted((shared_data / "satellite/urban_villages").glob("*/*_mask.tif"))
    assert paths
    to_degrees = pyproj.Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    for path in paths:
        with rasterio.open(path) as dataset:
            mask, affine = dataset.read(1), dataset.transform
        edges = affine.f + affine.e * np.arange(mask.shape[0] + 1)
        lon, lat = to_degrees.transform([affine.c, affine.c + affine.a], [edges[0]] * 2)
        _, lat = to_degrees.transform(np.full_like(edges, affine.c), edges)
        pixel = [zone_area(south, north, lon[1] - lon[0]) for north, south in pairwise(lat)]
        expected = ((mask == 1).sum(axis=1) * pixel).sum()
        assert polygonise(path).area_m2.sum() == pytest.approx(expected, rel=1e-5)
        cleaned = polygonise(path, PolygonOptions(min_area=500, close_holes=500, simplify=2))
        assert cleaned.is_valid.all()
        assert cleaned.area_m2.sum() == pytest.approx(expected, rel=0.005)


def test_real_buildings_in_degrees_keep_their_area(tmp_path: Path, shared_data: Path) -> None:
    """Banepa's buildings, drawn at 14 cm in EPSG:4326 and traced again."""
    buildings = geopandas.read_file(shared_data / "satellite/fair_banepa/buildings_dev.geojson")
    west, south, east, north = buildings.total_bounds
    place = Affine(1.3e-6, 0, west, 0, -1.3e-6, north)
    shape = int((north - south) / 1.3e-6) + 1, int((east - west) / 1.3e-6) + 1
    mask = features.rasterize(buildings.geometry, shape, transform=place, dtype="uint8")
    path = write_raster(tmp_path / "m.tif", mask, place, "EPSG:4326")
    geod = pyproj.Geod(ellps="WGS84")
    expected = abs(geod.geometry_area_perimeter(buildings.union_all())[0])
    table = polygonise(path, PolygonOptions(min_area=2, close_holes=2, simplify=0.5))
    assert table.area_m2.sum() == pytest.approx(expected, rel=0.01)
    assert table.area_m2.min() >= 2
    assert table.is_valid.all()
    overlaps = table.sjoin(table, predicate="overlaps")
    assert overlaps.empty
