from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from domainsam_urban.read.geodesy import GroundFrame
from domainsam_urban.write.outlines import Traced, close_holes, measure_ground_area, simplify, trace
from tests.urban.mask_files import METRE, UTM, blobs, write_raster

PIXELS = GroundFrame.around((100, 100), Affine.identity(), None)


def test_neighbours_stay_neighbours(tmp_path: Path) -> None:
    """Two classes that tile the plane: no gap, no overlap, whatever the tolerance."""
    rows, columns = np.indices((80, 80))
    mask = np.where(columns + 6 * np.sin(rows / 5) < 40, 1, 2).astype(np.uint8)
    mask[30:50, 10:30] = 2
    traced = trace(write_raster(tmp_path / "m.tif", mask), (1, 2))
    thin = simplify(traced.polygons, PIXELS, 4.0)
    assert shapely.get_num_coordinates(thin).sum() < shapely.get_num_coordinates(traced.polygons).sum() / 2
    assert shapely.is_valid(thin).all()
    assert shapely.coverage_is_valid(thin)
    assert shapely.area(thin).sum() == pytest.approx(shapely.area(shapely.union_all(thin)))
    assert shapely.area(shapely.union_all(thin)) == pytest.approx(6400, rel=0.01)
    assert shapely.get_num_interior_rings(shapely.union_all(thin)) == 0


@pytest.mark.parametrize(
    ("affine", "crs"),
    [(Affine.identity(), None), (Affine(10, 0, 12973503, 0, -10, 8399737), "EPSG:3857")],
)
def test_three_classes_meet_without_a_gap(tmp_path: Path, affine: Affine, crs: str | None) -> None:
    """Two ragged classes end on a third one's straight edge, which has no corner of its own there."""
    rows, columns = np.indices((60, 90))
    mask = np.where(columns + 5 * np.sin(rows / 4) < 45, 1, 2).astype(np.uint8)
    mask[40:] = 3
    path = write_raster(tmp_path / "m.tif", mask, affine, crs)
    frame = GroundFrame.around(mask.shape, affine, crs)
    thin = simplify(trace(path, (1, 2, 3)).polygons, frame, 4.0 * (1 if crs is None else 5))
    assert shapely.coverage_is_valid(thin)
    whole = shapely.union_all(thin)
    assert shapely.area(whole) == pytest.approx(shapely.area(thin).sum())
    assert shapely.equals(whole, shapely.box(0, 0, 90, 60))
    assert shapely.get_num_coordinates(thin).sum() < 80


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [1.0, 3.0, 20.0])
def test_ragged_masks_stay_valid_and_apart(tmp_path: Path, seed: int, tolerance: float) -> None:
    polygons = trace(write_raster(tmp_path / "m.tif", blobs((64, 64), seed))).polygons
    thin = simplify(polygons, PIXELS, tolerance)
    assert len(thin) == len(polygons)
    assert shapely.is_valid(thin).all()
    assert shapely.area(shapely.union_all(thin)) == pytest.approx(shapely.area(thin).sum())
    kept = {tuple(point) for point in shapely.get_coordinates(thin)}
    assert kept <= {tuple(point) for point in shapely.get_coordinates(polygons)}


def staircase(frame: GroundFrame, tolerance: float) -> int:
    steps = [(0, 0), *((c + i, c) for c in range(1, 30) for i in (-1, 0)), (0, 29)]
    return int(shapely.get_num_coordinates(simplify(np.array([shapely.Polygon(steps)]), frame, tolerance)[0]))


@pytest.mark.parametrize(
    ("affine", "crs", "pixel_m"),
    [
        (Affine(2, 0, 450000, 0, -2, 4430000), "EPSG:32650", 2.0),
        (Affine(2, 0, 12973503, 0, -2, 8399737), "EPSG:3857", 1.0),
        (Affine(1e-5, 0, 116, 0, -1e-5, 0.1), "EPSG:4326", 1.11),
        (Affine(6.5617, 0, 980000, 0, -6.5617, 200000), "EPSG:2263", 2.0),
    ],
)
def test_tolerance_is_in_metres_of_the_ground(affine: Affine, crs: str, pixel_m: float) -> None:
    """A staircase goes straight once the tolerance passes the triangle of a step, pixel / sqrt(2)."""
    frame = GroundFrame.around((30, 30), affine, crs)
    step = pixel_m / np.sqrt(2)
    assert staircase(frame, 0.9 * step) > 40
    assert staircase(frame, 1.1 * step) < 25


def test_nothing_is_thinned_at_zero() -> None:
    square = np.array([shapely.box(0, 0, 3, 3)])
    assert simplify(square, PIXELS, 0.0) is square
    assert len(simplify(square[:0], PIXELS, 5.0)) == 0


def test_polygons_too_small_for_the_tolerance_are_left() -> None:
    small = np.array([shapely.box(0, 0, 1, 1), shapely.box(20, 20, 24, 23), shapely.box(24, 23, 27, 25)])
    assert shapely.equals(simplify(small, PIXELS, 50.0), small).all()


def test_area_hardly_changes(tmp_path: Path) -> None:
    polygons = trace(write_raster(tmp_path / "m.tif", blobs((96, 96), seed=8))).polygons
    thin = simplify(polygons, PIXELS, 4.0)
    assert shapely.area(thin) == pytest.approx(shapely.area(polygons), rel=0.05)
    assert shapely.get_num_coordinates(thin).sum() < shapely.get_num_coordinates(polygons).sum()


def rings() -> np.ndarray:
    """A block with a hole of 4 that is empty, and one of 36 with an island of 4 in it."""
    mask = np.ones((14, 20), np.uint8)
    mask[2:4, 2:4] = 0
    mask[6:12, 6:12] = 0
    mask[8:10, 8:10] = 1
    return mask


@pytest.mark.parametrize(("limit", "areas"), [(0, [240, 4]), (4, [240, 4]), (5, [244, 4]), (37, [280])])
def test_holes_below_the_limit_close_and_swallow_islands(
    tmp_path: Path, limit: float, areas: list[float]
) -> None:
    closed = close_holes(trace(write_raster(tmp_path / "m.tif", rings())), PIXELS, limit)
    assert shapely.area(closed.polygons).tolist() == areas
    assert shapely.is_valid(closed.polygons).all()
    assert len(closed.values) == len(areas)


def test_a_hole_that_holds_another_class_stays_open(tmp_path: Path) -> None:
    mask = rings()
    mask[8:10, 8:10] = 2
    closed = close_holes(trace(write_raster(tmp_path / "m.tif", mask), (1, 2)), PIXELS, 1e9)
    assert closed.values.tolist() == [1, 2]
    assert shapely.area(closed.polygons).tolist() == [244.0, 4.0]


def test_hole_limit_is_in_ground_metres(tmp_path: Path) -> None:
    """At 60 degrees north a pixel of 1 m in EPSG:3857 is about a quarter of a square metre."""
    affine = Affine(1, 0, 12973503, 0, -1, 8399737)
    traced = trace(write_raster(tmp_path / "m.tif", rings(), affine, "EPSG:3857"))
    frame = GroundFrame.around((14, 20), affine, "EPSG:3857")
    assert len(close_holes(traced, frame, 1.1).polygons) == 2
    assert shapely.get_num_interior_rings(close_holes(traced, frame, 1.1).polygons[0]) == 1
    assert shapely.get_num_interior_rings(close_holes(traced, frame, 0.9).polygons[0]) == 2
    assert measure_ground_area(traced.polygons, frame).sum() == pytest.approx(244 / 4, rel=0.01)


def test_no_polygons_no_trouble() -> None:
    none = Traced(np.empty(0, dtype=object), np.empty(0, dtype=np.int64))
    frame = GroundFrame.around((4, 4), METRE, UTM)
    assert len(close_holes(none, frame, 10.0)) == 0
    assert len(measure_ground_area(none.polygons, frame)) == 0
