"""Strata by hand, and draws in which every pixel of a stratum is as likely as another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest

from domainsam_urban.sample import strata as strata_module
from domainsam_urban.sample.draw import draw_points
from domainsam_urban.sample.strata import (
    BUFFER,
    GAIN,
    LOSS,
    MIXED,
    OTHER,
    SETTLEMENT,
    UNSEEN,
    count_strata,
    find_near,
    stratify,
    sweep_strata,
)
from tests.urban.trend.stacks import from_masks, year_stack


def test_strata_of_every_course() -> None:
    courses = {
        (0, 0, 0): OTHER,
        (1, 1, 1): SETTLEMENT,
        (0, 0, 1): GAIN,
        (0, 1, 1): GAIN,
        (1, 0, 0): LOSS,
        (1, 1, 0): LOSS,
        (0, 1, 0): MIXED,
        (1, 0, 1): MIXED,
    }
    settled = np.array(list(courses), dtype=bool).T[:, None, :]
    near = np.zeros((1, 8), bool)
    np.testing.assert_array_equal(stratify(settled, near)[0], list(courses.values()))
    near[:] = True
    assert stratify(settled, near)[0, 0] == BUFFER
    one = np.array([[[True, False]]])
    np.testing.assert_array_equal(stratify(one, np.array([[True, True]])), [[SETTLEMENT, BUFFER]])


def test_the_buffer_reaches_as_far_as_it_says() -> None:
    settled = np.zeros((1, 21), bool)
    settled[0, 10] = True
    assert find_near(settled, 5.0).sum() == 11
    assert not find_near(settled, 0.0).any()
    assert not find_near(np.zeros((3, 3), bool), 5.0).any()


def test_strata_do_not_depend_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    masks = {year: rng.random((90, 120)) < 0.01 for year in (2016, 2020)}
    stack = from_masks(tmp_path, masks)
    ((_, whole),) = list(sweep_strata(stack, 14.0))
    monkeypatch.setattr(strata_module, "choose_sweep_size", lambda _: 32)
    pieces = np.full((90, 120), UNSEEN, np.uint8)
    for window, part in sweep_strata(stack, 14.0):
        rows = slice(window.row, window.row + window.height)
        pieces[rows, window.col : window.col + window.width] = part
    np.testing.assert_array_equal(pieces, whole)
    np.testing.assert_array_equal(count_strata(stack, 14.0), np.bincount(whole.ravel(), minlength=6))


def test_ground_that_a_year_has_not_seen_is_in_no_stratum(tmp_path: Path) -> None:
    early = np.zeros((10, 10), np.uint8)
    early[:5] = 255
    stack = year_stack(tmp_path, {2016: early, 2020: np.full((10, 10), 254)})
    assert count_strata(stack, 0.0).tolist() == [0, 0, 0, 50, 0, 0]


def test_draws_are_even_within_strata_and_never_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:25] = True
    stack = from_masks(tmp_path, {2020: mask})
    monkeypatch.setattr(strata_module, "choose_sweep_size", lambda _: 16)
    pixels = count_strata(stack, 4.0)
    assert pixels[SETTLEMENT] == 150
    wanted = np.array([30, 20, 15, 0, 0, 0])
    hits = np.zeros((40, 50), int)
    windows = list(sweep_strata(stack, 4.0))
    for seed in range(400):
        points = draw_points(windows, stack.ground, pixels, wanted, seed)
        assert len({*zip(points.row.tolist(), points.col.tolist(), strict=True)}) == 65
        assert np.bincount(points.stratum, minlength=6).tolist() == wanted.tolist()
        assert mask[points.row, points.col].sum() == 15
        np.add.at(hits, (points.row, points.col), 1)
    # 15 of 150: every pixel 40 times of 400 draws, give or take five standard deviations (6).
    assert hits[mask].mean() == pytest.approx(40)
    assert np.abs(hits[mask] - 40).max() < 30
    one, other = (draw_points(windows, stack.ground, pixels, wanted, 7) for _ in range(2))
    np.testing.assert_array_equal(one.row, other.row)


def test_points_are_pixels_centres_in_degrees(tmp_path: Path) -> None:
    stack = from_masks(tmp_path, {2020: np.ones((30, 30), bool)})
    wanted = np.array([0, 0, 20, 0, 0, 0])
    points = draw_points(sweep_strata(stack, 0.0), stack.ground, count_strata(stack, 0.0), wanted, 0)
    to_ground = pyproj.Transformer.from_crs(
        "EPSG:4326", pyproj.CRS.from_wkt(stack.ground.wkt), always_xy=True
    )
    col, row = ~stack.ground.affine @ to_ground.transform(points.longitude, points.latitude)
    np.testing.assert_allclose(col, points.col + 0.5, atol=1e-3)
    np.testing.assert_allclose(row, points.row + 0.5, atol=1e-3)
