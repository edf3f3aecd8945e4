"""A stack of years and its windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from domainsam_urban.trend.stack import tile_ground
from tests.urban.trend.stacks import from_masks, laea_ground, year_stack


def test_windows_cover_the_ground_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    years = {year: rng.integers(0, 256, (150, 230)) for year in (2018, 2016)}
    stack = year_stack(tmp_path, years)
    assert stack.labels == ("2016", "2018")
    seen = np.zeros((150, 230), int)
    for window, values, valid in stack.windows(64):
        seen[window.slices] += 1
        for year, whole in years.items():
            np.testing.assert_array_equal(values[str(year)], whole[window.slices])
        both = (years[2016][window.slices] != 255) & (years[2018][window.slices] != 255)
        np.testing.assert_array_equal(valid, both)
    assert (seen == 1).all()


def test_smoothed_layers_take_the_place_of_the_own(tmp_path: Path) -> None:
    own, smooth = np.zeros((20, 20)), np.full((20, 20), 254)
    stack = year_stack(tmp_path, {2016: own, 2018: own}, smoothed={2016: smooth, 2018: smooth})
    assert stack.has_smoothed
    (_, values, _), *_ = stack.as_smoothed().windows()
    assert (values["2016"] == 254).all()
    assert not from_masks(tmp_path / "masks", {2016: own}).has_smoothed


def test_ground_pixel_has_its_area() -> None:
    ground = laea_ground(100, 100, 2.0)
    assert ground.pixel_ha == pytest.approx(4e-4, rel=1e-6)
    assert ground.bounds == (-100.0, -100.0, 100.0, 100.0)


def test_windows_at_the_far_edge_are_smaller() -> None:
    assert [(w.height, w.width) for w in tile_ground((5, 3), 4)] == [(4, 3), (1, 3)]


def test_layers_know_their_place(tmp_path: Path) -> None:
    stack = from_masks(tmp_path, {2016: np.ones((30, 40))}, pixel=10)
    with rasterio.open(stack.years[0].probability) as dataset:
        assert dataset.transform == stack.ground.affine
        assert dataset.crs.linear_units == "metre"
        assert dataset.nodata == 255
