"""Which ground is compared: what all years saw, and saw alike all around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from domainsam.infer.blend import NODATA
from domainsam_urban.trend.align.warp import CommonSeen, find_near, write_common_valid
from domainsam_urban.trend.ground import CommonGround
from tests.urban.trend.stacks import write_layer

SIDE, REACH = 120, 16


@pytest.fixture
def ground() -> CommonGround:
    return CommonGround(CRS.from_epsg(32650).to_wkt(), Affine(1, 0, 0, 0, -1, SIDE), SIDE, SIDE, 1.0)


def read_marks(path: Path) -> NDArray[np.bool_]:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1) == 1)


def compare(
    folder: Path, ground: CommonGround, unseen: tuple[slice, slice], reach: int = REACH
) -> tuple[CommonSeen, NDArray[np.bool_]]:
    """A whole layer against one that lacks a part."""
    whole = np.full((SIDE, SIDE), 100, np.uint8)
    cut = whole.copy()
    cut[unseen] = NODATA
    paths = tuple(
        write_layer(folder / f"{name}.tif", values, ground) for name, values in (("a", whole), ("b", cut))
    )
    found = write_common_valid(paths, folder / "valid.tif", ground, reach)
    return found, read_marks(folder / "valid.tif")


def test_beside_the_end_of_one_year_nothing_is_compared(tmp_path: Path, ground: CommonGround) -> None:
    found, kept = compare(tmp_path, ground, (slice(None), slice(0, 30)))
    assert found == CommonSeen(SIDE * 90, SIDE * (90 - REACH))
    assert not kept[:, : 30 + REACH].any()
    assert kept[:, 30 + REACH :].all()


def test_masks_of_others_are_compared_up_to_the_edge(tmp_path: Path, ground: CommonGround) -> None:
    found, kept = compare(tmp_path, ground, (slice(None), slice(0, 30)), reach=0)
    assert found == CommonSeen(SIDE * 90, SIDE * 90)
    assert kept.sum() == SIDE * 90


def test_a_narrow_hole_costs_itself_alone(tmp_path: Path, ground: CommonGround) -> None:
    hole = (slice(50, 56), slice(50, 56))
    found, kept = compare(tmp_path, ground, hole)
    assert found.seen == found.compared == SIDE * SIDE - 36
    assert not kept[hole].any()


def test_edges_that_both_years_share_are_compared(tmp_path: Path, ground: CommonGround) -> None:
    values = np.full((SIDE, SIDE), 7, np.uint8)
    values[:40] = NODATA
    paths = tuple(write_layer(tmp_path / f"{name}.tif", values, ground) for name in "ab")
    found = write_common_valid(paths, tmp_path / "valid.tif", ground, REACH)
    assert found == CommonSeen(80 * SIDE, 80 * SIDE)


def test_where_most_would_go_all_is_compared(tmp_path: Path, ground: CommonGround) -> None:
    found, kept = compare(tmp_path, ground, (slice(None), slice(0, 95)))
    assert found == CommonSeen(25 * SIDE, 25 * SIDE)
    assert kept[:, 95:].all()


def test_windows_leave_no_seam(tmp_path: Path, ground: CommonGround, monkeypatch: pytest.MonkeyPatch) -> None:
    corner = (slice(0, 41), slice(0, 47))
    _, whole = compare(tmp_path, ground, corner)
    monkeypatch.setattr("domainsam_urban.trend.stack.STEP", 32)
    (tmp_path / "tiled").mkdir()
    _, tiled = compare(tmp_path / "tiled", ground, corner)
    np.testing.assert_array_equal(tiled, whole)


def test_distance_is_of_the_place_and_not_of_its_core() -> None:
    places = np.zeros((60, 60), dtype=bool)
    places[:, :20] = True
    near = find_near(places, 12)
    assert near[:, :32].all()
    assert not near[:, 32:].any()
    assert not find_near(np.zeros((5, 5), dtype=bool), 3).any()
