"""Settlements followed through the years."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from domainsam_urban.trend.measure.objects import ChangeObjects, find_change_objects
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.read.zones import Zoning, make_whole
from domainsam_urban.trend.settings import ObjectOptions
from domainsam_urban.trend.stack import YearStack
from tests.urban.trend.stacks import LEVEL, from_masks

SHAPE = (120, 160)


def ground(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of boxes given as first row, first column, rows, columns."""
    mask = np.zeros(SHAPE, bool)
    for row, col, height, width in boxes:
        mask[row : row + height, col : col + width] = True
    return mask


def follow(folder: Path, *years: np.ndarray) -> tuple[YearStack, ChangeObjects]:
    stack = from_masks(folder, {2016 + 2 * index: mask for index, mask in enumerate(years)})
    found = find_change_objects(
        stack, [make_whole(stack.ground)], Thresholds.around(LEVEL, 0.2), ObjectOptions(min_area=100), folder
    )
    return stack, found


FATES = {
    "appeared": ([], [(10, 10, 30, 30)], ["appeared"]),
    "vanished": ([(10, 10, 30, 30)], [], ["vanished"]),
    "stable": ([(10, 10, 30, 30)], [(10, 10, 31, 30)], ["stable"]),
    "expanded": ([(10, 10, 30, 30)], [(10, 10, 40, 30)], ["expanded"]),
    "shrunk": ([(10, 10, 40, 30)], [(10, 10, 30, 30)], ["shrunk"]),
    "split": ([(10, 10, 30, 60)], [(10, 10, 30, 35), (10, 50, 30, 20)], ["split", "split"]),
    "merged": ([(10, 10, 30, 35), (10, 50, 30, 20)], [(10, 10, 30, 60)], ["merged", "merged"]),
}


@pytest.mark.parametrize("fate", FATES)
def test_every_fate_is_told(fate: str, tmp_path: Path) -> None:
    before, after, statuses = FATES[fate]
    _, found = follow(tmp_path, ground(*before), ground(*after))
    assert list(found.statuses) == statuses


def test_the_larger_part_keeps_the_id_and_the_other_knows_where_it_came_from(tmp_path: Path) -> None:
    _, found = follow(tmp_path, ground((10, 10, 30, 60)), ground((10, 10, 30, 35), (10, 50, 30, 20)))
    whole_, part = found.settlements
    assert (whole_.first, whole_.last, part.first, part.origin) == (0, 1, 1, whole_.id)


def test_what_merged_knows_into_what(tmp_path: Path) -> None:
    _, found = follow(tmp_path, ground((10, 10, 30, 35), (10, 50, 30, 20)), ground((10, 10, 30, 60)))
    large, small = found.settlements
    assert small.heir == large.id
    assert small.last == 0
    assert large.events[1] == "merged"


def test_an_id_lasts_through_growth_and_a_year_in_which_nothing_was_seen(tmp_path: Path) -> None:
    one, two = ground((10, 10, 30, 30)), ground((10, 10, 40, 40))
    _, found = follow(tmp_path, one, two, ground(), two)
    (settlement,) = found.settlements
    assert sorted(settlement.rows) == [0, 1, 3]
    assert settlement.events == {0: "present", 1: "expanded", 2: "vanished", 3: "appeared"}
    assert found.statuses == ("expanded",)


def test_a_touch_is_no_kinship(tmp_path: Path) -> None:
    """Overlap below a tenth of the smaller settlement is misregistration, not descent."""
    _, found = follow(tmp_path, ground((10, 10, 40, 40)), ground((10, 48, 40, 40)))
    assert sorted(found.statuses) == ["appeared", "vanished"]


def test_outlines_have_the_area_of_their_pixels_and_corners_hold_together(tmp_path: Path) -> None:
    mask = ground((10, 10, 20, 20), (30, 30, 20, 20), (60, 80, 30, 30))
    mask[70:80, 90:100] = False
    stack, found = follow(tmp_path, mask, mask)
    objects = found.years[0]
    assert list(objects.area_px) == [800, 800]
    np.testing.assert_allclose(shapely.area(objects.polygons), objects.area_px * stack.ground.pixel_m**2)
    assert [p.geom_type for p in objects.polygons] == ["MultiPolygon", "Polygon"]


def test_specks_are_left_out(tmp_path: Path) -> None:
    _, found = follow(tmp_path, ground((10, 10, 4, 4), (50, 50, 20, 20)), ground((50, 50, 20, 20)))
    assert len(found.settlements) == 1


def test_bands_do_not_cut_settlements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of one sweep mean the same in the next, whatever the height of a band."""
    rng = np.random.default_rng(3)
    years = [np.kron(rng.random((12, 16)) > 0.55, np.ones((10, 10))).astype(bool) for _ in range(3)]
    _, once = follow(tmp_path / "a", *years)
    monkeypatch.setattr("domainsam.infer.components.BAND_PIXELS", 16 * SHAPE[1])
    _, again = follow(tmp_path / "b", *years)
    assert once.statuses == again.statuses
    for one, other in zip(once.years, again.years, strict=True):
        np.testing.assert_array_equal(one.area_px, other.area_px)
        assert shapely.equals(one.polygons, other.polygons).all()


def test_settlements_are_counted_where_they_lie(tmp_path: Path) -> None:
    stack = from_masks(tmp_path, {2016: ground((10, 10, 20, 20), (10, 110, 20, 20)), 2018: ground()})
    left, bottom, right, top = stack.ground.bounds
    halves = np.array([shapely.box(left, bottom, 0, top), shapely.box(0, bottom, right, top)], dtype=object)
    zoning = Zoning("zones", ("west", "east"), halves)
    found = find_change_objects(
        stack, [zoning], Thresholds.around(LEVEL, 0.2), ObjectOptions(min_area=100), tmp_path
    )
    numbers = {key: estimate.central for key, estimate in found.counts.items()}
    assert numbers == {
        ("zones", "west", "2016"): 1,
        ("zones", "east", "2016"): 1,
        ("zones", "west", "2018"): 0,
        ("zones", "east", "2018"): 0,
    }
