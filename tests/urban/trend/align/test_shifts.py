"""How far one year lies from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from domainsam.protocols import Window
from domainsam_urban.trend.align.shifts import (
    LEAST_PEAK,
    describe_shifts,
    find_displacement,
    get_shift,
    mark_corrected,
    place_measuring_windows,
    register,
)
from domainsam_urban.trend.stack import Registration
from tests.urban.trend.stacks import laea_ground


def structure(shape: tuple[int, int] = (400, 400), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), 2).astype(np.float32)


@pytest.mark.parametrize("moved", [(0.0, 0.0), (3.3, -7.6), (0.4, 0.25), (20.5, 11.0)])
def test_displacement_to_a_tenth_of_a_pixel(moved: tuple[float, float]) -> None:
    first = structure()
    second = ndimage.shift(first, moved, order=3, mode="wrap")
    part = (slice(70, 326), slice(70, 326))
    found = find_displacement(first[part], second[part])
    assert (found.rows, found.cols) == pytest.approx(moved, abs=0.1)
    assert found.peak > 5 * LEAST_PEAK


def test_brightness_and_contrast_do_not_matter() -> None:
    first = structure()
    second = (0.3 * np.roll(first, (5, -4), (0, 1)) + 7).astype(np.float32)
    found = find_displacement(first[:256, :256], second[:256, :256])
    assert (found.rows, found.cols) == pytest.approx((5, -4), abs=0.1)


def test_chance_is_no_match() -> None:
    peaks = [
        find_displacement(structure((256, 256), n), structure((256, 256), n + 50)).peak for n in range(4)
    ]
    assert max(peaks) < LEAST_PEAK


def test_flat_pictures_match_nothing() -> None:
    flat = np.full((64, 64), 3, np.float32)
    assert find_displacement(flat, structure((64, 64))).peak == 0


def picture(values: np.ndarray, seen: np.ndarray | None = None) -> Any:
    known = np.ones(values.shape, bool) if seen is None else seen
    return lambda window: (values[window.slices], known[window.slices])


def test_the_median_is_not_led_astray_by_change() -> None:
    """A third of the ground shows something else altogether, and a corner has no data."""
    first = structure((800, 800))
    second = np.roll(first, (-3, 6), (0, 1))
    second[:, 560:] = structure((800, 240), 9)
    seen = np.ones(first.shape, bool)
    seen[:300, :300] = False
    found = register(picture(first), picture(second, seen), laea_ground(800, 800, 2.0))
    assert (found.east_m, found.north_m) == pytest.approx((12.0, 6.0), abs=0.2)
    assert found.windows >= 3
    assert found.spread_m < 1


def test_nothing_to_match() -> None:
    water = np.zeros((300, 300), np.float32)
    found = register(picture(water), picture(water), laea_ground(300, 300))
    assert found.windows == 0
    assert get_shift(mark_corrected(found, align=True)) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(50, 70), (256, 256), (300, 5000), (20_000, 20_000)])
def test_windows_lie_inside_and_are_few(shape: tuple[int, int]) -> None:
    windows = place_measuring_windows(shape)
    assert 1 <= len(windows) <= 36
    assert len(set(windows)) == len(windows)
    for window in windows:
        assert isinstance(window, Window)
        assert min(window.row, window.col) >= 0
        assert window.row + window.height <= shape[0]
        assert window.col + window.width <= shape[1]


def test_what_is_said_of_places() -> None:
    ground = laea_ground(100, 100, 2.0)
    off = Registration(3.0, -4.0, 0.2, 20)
    found = [
        None,
        off,
        mark_corrected(off, True),
        Registration(),
        Registration(5.0, 0.0, 0.1, 2),
        Registration(0.5, 0.0, 0.1, 9),
        Registration(9.0, 0.0, 30.0, 9),
    ]
    said = describe_shifts(["a", "b", "c", "d", "e", "f", "g"], found, 0, ground)
    assert len(said) == 4
    assert "b lies 3.0 m east and 4.0 m south of a" in said[0]
    assert "--align" in said[0]
    assert "moved back" in said[1]
    assert "could not be measured" in said[2]
    assert "could not be measured" in said[3]
    assert found[4] is not None
    assert get_shift(mark_corrected(found[4], align=True)) == (0.0, 0.0)


def test_real_photographs_of_four_summers(shared_data: Path) -> None:
    """Four aerial photographs, each moved by known pixels against itself and found again."""
    import rasterio

    for path in sorted((shared_data / "satellite/opengeos/naip").glob("*.tif"))[:2]:
        with rasterio.open(path) as dataset:
            grey = dataset.read([1, 2, 3]).mean(axis=0, dtype=np.float32)
        second = ndimage.shift(grey, (1.3, -2.45), order=3)
        found = register(picture(grey), picture(second), laea_ground(grey.shape[0], grey.shape[1], pixel=5.0))
        assert (found.east_m, found.north_m) == pytest.approx((-2.45 * 5, -1.3 * 5), abs=0.5)
