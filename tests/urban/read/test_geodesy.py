from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer

from domainsam.errors import InputError
from domainsam_urban.read.geodesy import GroundFrame, measure_polygons, parse_crs
from tests.urban.ellipsoid import zone_area


@pytest.mark.parametrize("lat", [-60.0, -1.0, 0.0, 22.5, 39.9, 75.0])
def test_area_of_a_degree_cell_is_the_closed_form(lat: float) -> None:
    cell = shapely.box(116, lat, 117, lat + 1)
    # Sides follow the parallels: EDGE_M keeps the geodesics in between close to them.
    area = measure_polygons([cell], "EPSG:4326").area_m2[0]
    assert area == pytest.approx(zone_area(lat, lat + 1, 1), rel=1e-5)


@pytest.mark.parametrize("lat", [0.0, 22.5, 39.9, 65.0])
def test_web_mercator_is_not_taken_for_metres(lat: float) -> None:
    cell = shapely.box(116, lat, 116.01, lat + 0.01)
    to_mercator = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    drawn = shapely.transform(cell, lambda xy: np.column_stack(to_mercator.transform(xy[:, 0], xy[:, 1])))
    area = measure_polygons([drawn], "EPSG:3857").area_m2[0]
    assert area == pytest.approx(zone_area(lat, lat + 0.01, 0.01), rel=1e-6)
    if lat > 20:
        assert shapely.area(drawn) > 1.1 * area


@pytest.mark.parametrize(
    "code", ["EPSG:32650", "EPSG:3857", "EPSG:4326", "EPSG:2263", "EPSG:4807", "ESRI:54009"]
)
def test_area_agrees_with_an_equal_area_projection(code: str) -> None:
    """Straight edges of the CRS, followed by many points into a cylindrical equal-area plane."""
    crs = CRS.from_user_input(code)
    west, south, east, north = crs.area_of_use.bounds if code != "ESRI:54009" else (100, 20, 110, 30)
    lon, lat = (west + east) / 2, min(max((south + north) / 2, -40), 40)
    to_crs = Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True)
    degrees = math.degrees(crs.geodetic_crs.axis_info[0].unit_conversion_factor)
    angle = np.linspace(0, 2 * np.pi, 9)[:-1]
    x, y = to_crs.transform((lon + 0.2 * np.cos(angle)) / degrees, (lat + 0.15 * np.sin(angle)) / degrees)
    shell = shapely.Polygon(np.column_stack((x, y)))
    hole = shapely.affinity.scale(shell, 0.3, 0.3)
    polygon = shapely.difference(shell, hole)
    geod = crs.get_geod()
    plane = CRS.from_proj4(f"+proj=cea +lon_0={lon} +a={geod.a} +b={geod.b}")
    to_plane = Transformer.from_crs(crs, plane, always_xy=True)
    dense = shapely.segmentize(polygon, shapely.length(polygon) / 20000)
    flat = shapely.transform(dense, lambda xy: np.column_stack(to_plane.transform(xy[:, 0], xy[:, 1])))
    assert measure_polygons([polygon], crs).area_m2[0] == pytest.approx(shapely.area(flat), rel=1e-5)


def test_perimeter_counts_inner_rings_and_parts() -> None:
    ring = shapely.Polygon(shapely.box(0, 0, 10, 10).exterior, [shapely.box(2, 2, 4, 4).exterior])
    ring, far = (
        shapely.affinity.translate(shape, 500000, 4e6) for shape in (ring, shapely.box(50, 0, 51, 1))
    )
    measures = measure_polygons([ring, shapely.multipolygons([ring, far])], "EPSG:32650")
    # At the central meridian of a UTM zone a metre of the map is 1 / 0.9996 on the ground.
    assert measures.perimeter_m == pytest.approx(np.array([48, 52]) / 0.9996, rel=1e-6)
    assert measures.area_m2 == pytest.approx(np.array([96, 97]) / 0.9996**2, rel=1e-6)


def test_area_across_the_antimeridian() -> None:
    across, before = shapely.box(179.9, 10, 180.1, 10.1), shapely.box(170, 10, 170.2, 10.1)
    area = measure_polygons([across, before], "EPSG:4326").area_m2
    assert area[0] == pytest.approx(area[1], rel=1e-9)


def test_nothing_measures_nothing() -> None:
    measures = measure_polygons([], "EPSG:4326")
    assert measures.area_m2.shape == measures.perimeter_m.shape == (0,)


def test_a_crs_without_an_ellipsoid_is_refused() -> None:
    local = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    with pytest.raises(InputError, match="not tied to the Earth"):
        measure_polygons([shapely.box(0, 0, 1, 1)], local)


def test_as_crs_finds_the_registered_definition() -> None:
    assert parse_crs(parse_crs("EPSG:3857").to_wkt("WKT1_GDAL")) == CRS.from_epsg(3857)


@pytest.mark.parametrize(
    ("affine", "crs"),
    [
        (Affine(1.2, 0, 12973503, 0, -1.2, 4886466), "EPSG:3857"),
        (Affine(1e-6, 0, 85.52, 0, -1e-6, 27.6), "EPSG:4326"),
        (Affine.translation(450000, 4.4e6) @ Affine.rotation(33) @ Affine.scale(0.5, -0.5), "EPSG:32650"),
        (Affine(1000, 0, -2e6, 0, -1000, 2e6), "EPSG:3413"),
        (Affine.identity(), None),
    ],
)
def test_ground_frame_comes_back_to_the_corner(affine: Affine, crs: str | None) -> None:
    frame = GroundFrame.around((4000, 3000), affine, crs)
    corners = np.array([(0, 0), (3000, 0), (3000, 4000), (17, 2811), (1500, 2000)], dtype=float)
    back = frame.to_pixels(frame.to_ground(corners))
    # PROJ's inverse is good to a few millimetres; half a pixel is what rounding to corners can bear.
    assert np.abs(back - corners).max() < 0.05


def test_ground_frame_keeps_area_and_metres() -> None:
    affine = Affine(1e-4, 0, 85.0, 0, -1e-4, 60.0)
    frame = GroundFrame.around((1000, 1000), affine, "EPSG:4326")
    square = shapely.box(400, 400, 600, 600)
    flat = shapely.transform(square, frame.to_ground)
    world = shapely.transform(square, lambda xy: np.column_stack(affine @ (xy[:, 0], xy[:, 1])))
    assert shapely.area(flat) == pytest.approx(measure_polygons([world], "EPSG:4326").area_m2[0], rel=1e-6)
    _, _, metres = Geod(ellps="WGS84").inv(85.05, 59.96, 85.05, 59.94)
    assert shapely.length(flat) / 4 == pytest.approx((metres + metres / 2) / 2, rel=0.01)
