"""Areas of zones, against independent tools and against sums that must come out."""

from __future__ import annotations

import time
import warnings
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam_urban.trend.measure.sweep import Thresholds, classify
from domainsam_urban.trend.measure.tallies import CENTRAL, HIGH, LOW, Blocks, Tally, tally
from domainsam_urban.trend.read.zones import (
    Zoning,
    compute_pixel_coverage,
    make_rings,
    make_whole,
    make_zonings,
    read_zones,
)
from domainsam_urban.trend.settings import ZoneOptions
from domainsam_urban.trend.stack import YearStack
from tests.urban.trend.stacks import BEIJING, LEVEL, laea_ground, year_stack

THRESHOLDS = Thresholds.around(LEVEL, 0.2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> YearStack:
    """Three years of blobs with gaps of their own."""
    rng = np.random.default_rng(5)
    years = {}
    for year in (2016, 2018, 2020):
        noise = np.kron(rng.integers(0, 255, (12, 15)), np.ones((20, 20)))
        noise[rng.integers(0, 200) :][:30, :40] = 255
        years[year] = noise
    return year_stack(tmp_path_factory.mktemp("stack"), years)


def star(x: float, y: float, radius: float, seed: int) -> shapely.Polygon:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    reach = radius * rng.uniform(0.5, 1, 40)
    return shapely.Polygon(np.column_stack([x + reach * np.cos(angle), y + reach * np.sin(angle)]))


def settled(counted: Tally, level: int = CENTRAL) -> np.ndarray:
    areas = np.zeros((len(counted.zoning.names), counted.at_least.shape[1]))
    np.add.at(areas, counted.cell_place, counted.at_least[:, :, level])
    return areas


def count(stack: YearStack, *zonings: Zoning) -> list[Tally]:
    return list(tally(stack, zonings, THRESHOLDS, Blocks.of(stack.ground, 100)))


def test_coverage_equals_cutting_every_pixel() -> None:
    columns, rows = np.meshgrid(np.arange(40), np.arange(30))
    pixels = shapely.box(columns, rows, columns + 1, rows + 1)
    shapes = [star(20, 15, 14, seed) for seed in range(5)]
    shapes += [shapes[0].difference(shapely.Point(20, 15).buffer(3)), shapely.box(3, 4, 20, 10)]
    shapes += [
        shapely.box(-5, -5, 60, 60),
        shapely.box(50, 50, 60, 60),
        shapes[1].union(shapely.box(0, 0, 2, 2)),
    ]
    for shape in shapes:
        covered = compute_pixel_coverage(shape, Affine.identity(), (30, 40))
        np.testing.assert_allclose(covered, shapely.area(shapely.intersection(pixels, shape)), atol=1e-9)


def test_zones_equal_exactextract(stack: YearStack) -> None:
    """To 0.1 %, also for zones of a few hundred pixels; the difference is float32."""
    exactextract = pytest.importorskip("exactextract")
    shapes = [
        star(x, y, 60, index) for index, (x, y) in enumerate([(-150, 100), (0, 0), (120, -90), (200, 150)])
    ]
    zones = gpd.GeoDataFrame({"name": list("abcd")}, geometry=shapes, crs=stack.ground.wkt)
    counted = count(stack, Zoning("zones", tuple("abcd"), np.asarray(shapes, dtype=object)))[0]
    for index, year in enumerate(stack.years):
        with rasterio.open(year.probability) as one, rasterio.open(stack.common_valid) as seen:
            settled_pixels = ((one.read(1) >= LEVEL) & (seen.read(1) == 1)).astype(np.float64)
            profile = one.profile | {"dtype": "float64", "nodata": None}
        path = year.probability.with_name(f"mask_{year.label}.tif")
        with rasterio.open(path, "w", **profile) as out:
            out.write(settled_pixels, 1)
        rows = exactextract.exact_extract(str(path), zones, ["sum"], output="pandas")
        theirs = rows["sum"].to_numpy() * stack.ground.pixel_ha
        np.testing.assert_allclose(settled(counted)[:, index], theirs, rtol=1e-3)
        assert theirs.min() > 200 * stack.ground.pixel_ha


def test_zones_equal_rasterstats(stack: YearStack) -> None:
    """To 0.1 % for a large zone: rasterstats counts whole pixels."""
    rasterstats = pytest.importorskip("rasterstats")
    zone = star(0, 0, 230, 3).buffer(20)
    counted = count(stack, Zoning("zones", ("a",), np.array([zone], dtype=object)))[0]
    with rasterio.open(stack.years[0].probability) as one, rasterio.open(stack.common_valid) as seen:
        pixels = ((one.read(1) >= LEVEL) & (seen.read(1) == 1)).astype(np.float64)
    # Pixels a quarter the size, so that whole ones are fine enough.
    fine = pixels.repeat(8, 0).repeat(8, 1)
    affine = stack.ground.affine @ Affine.scale(1 / 8)
    with warnings.catch_warnings():
        # Of how rasterstats itself multiplies affine transforms.
        warnings.filterwarnings("ignore", "Use `@` matmul", PendingDeprecationWarning)
        (row,) = rasterstats.zonal_stats([zone], fine, affine=affine, stats=["sum"], nodata=-1)
    assert settled(counted)[0, 0] == pytest.approx(row["sum"] / 64 * stack.ground.pixel_ha, rel=1e-3)


def test_zones_that_part_the_ground_add_up_to_it(stack: YearStack) -> None:
    left, bottom, right, top = stack.ground.bounds
    xs, ys = np.linspace(left, right, 8), np.linspace(bottom, top, 6)
    shapes = [shapely.box(a, b, c, d) for a, c in pairwise(xs) for b, d in pairwise(ys)]
    turned = [shapely.affinity.rotate(shape, 20, origin=(0, 0)) for shape in shapes]
    for polygons in (shapes, [*turned, shapely.box(left, bottom, right, top) - shapely.union_all(turned)]):
        parts = Zoning("zones", tuple(map(str, range(len(polygons)))), np.asarray(polygons, dtype=object))
        every, apart = count(stack, make_whole(stack.ground), parts)
        np.testing.assert_allclose(apart.at_least.sum(axis=0), every.at_least.sum(axis=0), rtol=1e-9)
        np.testing.assert_allclose(apart.moves.sum(axis=0), every.moves.sum(axis=0), rtol=1e-7, atol=1e-9)
        assert apart.valid_ha.sum() == pytest.approx(every.valid_ha[0])


def test_figures_do_not_depend_on_windows(stack: YearStack, monkeypatch: pytest.MonkeyPatch) -> None:
    zoning = Zoning("zones", ("a",), np.array([star(10, -20, 150, 1)], dtype=object))
    before = count(stack, make_whole(stack.ground), zoning)
    monkeypatch.setattr("domainsam_urban.trend.measure.sweep.choose_sweep_size", lambda layers: 64)
    after = count(stack, make_whole(stack.ground), zoning)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.cell_block, other.cell_block)
        np.testing.assert_allclose(one.at_least, other.at_least, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(one.moves, other.moves, rtol=1e-9, atol=1e-12)


def test_low_and_high_enclose_the_map_and_only_common_ground_counts(stack: YearStack) -> None:
    (counted,) = count(stack, make_whole(stack.ground))
    assert (settled(counted, LOW) <= settled(counted)).all()
    assert (settled(counted) <= settled(counted, HIGH)).all()
    with rasterio.open(stack.common_valid) as seen:
        valid = seen.read(1) == 1
    assert counted.valid_ha[0] == pytest.approx(valid.sum() * stack.ground.pixel_ha)
    assert (counted.own_valid_ha[0] > counted.valid_ha[0]).all()
    np.testing.assert_allclose(counted.moves[0].sum(axis=(1, 2)), counted.valid_ha[0])


def test_an_outline_is_known_to_a_pixel() -> None:
    values = np.zeros((20, 20), np.uint8)
    values[5:15, 5:15] = 254
    classes = classify(values, THRESHOLDS)
    assert [(classes >= level).sum() for level in (3, 2, 1)] == [8 * 8, 10 * 10, 12 * 12]
    values[:, 10] = 255
    gap = classify(values, THRESHOLDS)
    assert (gap[:, 10] == 0).all()
    # What is beyond the gap is not known, so the outline does not retreat from it.
    assert (gap[6:14, 9] == 3).all()


@pytest.mark.slow
def test_thousands_of_zones_cost_what_they_cover(stack: YearStack) -> None:
    """Ten times as many zones on the same ground must not take a hundred times as long."""
    left, bottom, right, top = stack.ground.bounds
    seconds = []
    for side in (16, 51):
        xs, ys = np.linspace(left, right, side + 1), np.linspace(bottom, top, side + 1)
        x, y = np.meshgrid(range(side), range(side))
        shapes = shapely.box(xs[x], ys[y], xs[x + 1], ys[y + 1]).ravel()
        zoning = Zoning("zones", tuple(map(str, range(len(shapes)))), shapes)
        begin = time.process_time()
        count(stack, zoning)
        seconds.append(time.process_time() - begin)
    assert seconds[1] < 40 * seconds[0]


def test_zones_in_degrees_land_on_the_ground(tmp_path: Path) -> None:
    ground = laea_ground(100, 100, 10.0)
    box = shapely.box(-200, -200, 200, 300)
    table = gpd.GeoDataFrame({"district": ["Haidian"]}, geometry=[box], crs=ground.wkt).to_crs(4326)
    table.to_file(tmp_path / "zones.geojson")
    zoning = read_zones(tmp_path / "zones.geojson", ground)
    assert zoning.names == ("Haidian",)
    assert shapely.area(zoning.polygons)[0] == pytest.approx(box.area, rel=1e-4)


def test_invalid_zones_are_mended_and_said_so(tmp_path: Path) -> None:
    ground = laea_ground(100, 100, 10.0)
    bow = shapely.Polygon([(-100, -100), (100, 100), (100, -100), (-100, 100)])
    line = shapely.LineString([(0, 0), (1, 1)])
    table = gpd.GeoDataFrame({"name": ["bow", "line"]}, geometry=[bow, line], crs=ground.wkt)
    table.to_file(tmp_path / "zones.gpkg")
    zoning = read_zones(tmp_path / "zones.gpkg", ground)
    assert zoning.names == ("bow",)
    assert shapely.is_valid(zoning.polygons).all()
    assert any("mended" in note for note in zoning.notes)
    assert any("no area" in note for note in zoning.notes)


def test_zones_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    ground = laea_ground(100, 100, 10.0)
    far = gpd.GeoDataFrame({"name": ["far"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    far.to_file(tmp_path / "far.gpkg")
    with pytest.raises(InputError, match="do not overlap"):
        read_zones(tmp_path / "far.gpkg", ground)
    with pytest.raises(ConfigError, match="no column 'nom'"):
        read_zones(tmp_path / "far.gpkg", ground, "nom")
    with pytest.raises(MissingInputError):
        read_zones(tmp_path / "none.gpkg", ground)
    (tmp_path / "text.gpkg").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        read_zones(tmp_path / "text.gpkg", ground)


def test_rings_have_the_area_of_rings(tmp_path: Path) -> None:
    ground = laea_ground(400, 400, 10.0)
    zoning = make_rings(ground, BEIJING, (0.5, 1.0, 1.5))
    assert zoning.names == ("0 to 0.5 km", "0.5 to 1 km", "1 to 1.5 km")
    theirs = np.pi * np.array([0.5**2, 1 - 0.5**2, 1.5**2 - 1]) * 1e6
    np.testing.assert_allclose(shapely.area(zoning.polygons), theirs, rtol=1e-4)
    assert "end at 1.5 km" in zoning.notes[0]
    with pytest.raises(InputError, match="no ring"):
        make_rings(ground, (10.0, 50.0), (1.0,))


def test_ring_roads_lie_inside_each_other(tmp_path: Path) -> None:
    ground = laea_ground(200, 200, 10.0)
    boxes = [shapely.box(-r, -r, r, r) for r in (800, 300, 500)]
    path = tmp_path / "roads.gpkg"
    gpd.GeoDataFrame({"name": ["4th", "2nd", "3rd"]}, geometry=boxes, crs=ground.wkt).to_file(path)
    zoning = make_zonings(ground, ZoneOptions(ring_polygons=path))[1]
    assert zoning.names == ("2nd", "3rd", "4th")
    np.testing.assert_allclose(shapely.area(zoning.polygons), [600**2, 1000**2 - 600**2, 1600**2 - 1000**2])


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"centre": (200.0, 0.0)}, "longitude,latitude"),
        ({"centre": BEIJING, "rings_km": (2.0, 1.0)}, "growing"),
        ({"rings_km": (1.0,)}, "need a centre"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ZoneOptions(**wrong)  # type: ignore[arg-type]
