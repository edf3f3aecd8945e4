"""The common ground has a CRS with a name, and keeps it in the files of other programs."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from domainsam_urban.read.place import Place
from domainsam_urban.trend.ground import Footprint, choose_ground
from domainsam_urban.trend.settings import GroundOptions


@pytest.mark.parametrize(
    ("code", "left", "top", "where"),
    [(32650, 440_000, 4_420_000, "39.92N 116.32E"), (32719, 300_000, 6_300_000, "33.43S 71.14W")],
)
def test_the_equal_area_ground_is_named(
    tmp_path: Path, code: int, left: float, top: float, where: str
) -> None:
    scene = pyproj.CRS.from_epsg(code)
    place = Place((200, 300), Affine(10, 0, left, 0, -10, top), CRS.from_epsg(code))
    ground = choose_ground([Footprint("2020", place, 10.0)], GroundOptions()).ground
    crs = pyproj.CRS.from_wkt(ground.wkt)
    assert crs.name == f"WGS 84 / Lambert azimuthal equal-area around {where}"
    assert crs.geodetic_crs is not None
    assert crs.geodetic_crs.to_epsg() == 4326
    assert ground.areal_scale == pytest.approx(1, abs=1e-9)
    table = gpd.GeoDataFrame(geometry=[shapely.box(*ground.bounds)], crs=crs)
    table.to_file(tmp_path / "g.gpkg")
    back = gpd.read_file(tmp_path / "g.gpkg")
    assert back.crs.name == crs.name
    # The ground lies on the scene, to the centimetre and without a shift of datum.
    x, y = back.to_crs(scene).geometry[0].centroid.coords[0]
    assert (x, y) == pytest.approx((left + 1500, top - 1000), abs=20)
