"""Estimates within the strata that a sample was drawn by: by hand, and over many draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domainsam_urban.trend.measure.drawn import (
    Drawn,
    assess_strata,
    find_drawn_strata,
    find_jeffreys_interval,
)
from domainsam_urban.trend.measure.olofsson import assess
from domainsam_urban.trend.read.reference import Units, read_reference
from domainsam_urban.trend.settings import UncertaintyOptions
from tests.urban.trend.stacks import laea_ground


def test_jeffreys_intervals() -> None:
    """Of 5 in 20 and 0 in 20: quantiles of Beta(5.5, 15.5) and Beta(0.5, 20.5), as R's qbeta gives them."""
    low, high = find_jeffreys_interval(np.array([5.0, 0.0, 20.0]), np.full(3, 20.0), 0.95)
    np.testing.assert_allclose(low[:2], [0.10240, 0.0], atol=1e-4)
    assert high[0] == pytest.approx(0.46419, abs=1e-4)
    # One-sided where none was found, and the mirror image where all were.
    assert high[1] == pytest.approx(1 - low[2])
    assert high[1] == pytest.approx(0.09048, abs=1e-4)
    assert high[2] == 1.0


def test_strata_that_are_the_maps_classes_give_olofssons_estimates() -> None:
    counts = np.array([[90, 10], [5, 45]])
    mapped = np.repeat([0, 0, 1, 1], counts.ravel())
    truth = np.repeat([0, 1, 0, 1], counts.ravel())
    ours = assess_strata(mapped, mapped, truth, np.array([0.8, 0.2]))
    theirs = assess(counts, [0.8, 0.2])
    for name in ("proportion", "users", "producers"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name))
    np.testing.assert_allclose(ours.proportion_error, theirs.proportion_error)
    np.testing.assert_allclose(ours.users_error, theirs.users_error, rtol=0.02)
    np.testing.assert_allclose(ours.producers_error, theirs.producers_error, rtol=0.02)
    assert ours.overall == pytest.approx(theirs.overall)
    assert ours.overall_error == pytest.approx(theirs.overall_error)


def draw(areas: list[float], shares: list[float], number: list[int], seed: int) -> Drawn:
    """A sample of one year from strata of which the last is what the map calls settlement."""
    rng = np.random.default_rng(seed)
    stratum = np.repeat(np.arange(len(areas)), number)
    truth = rng.random(len(stratum)) < np.array(shares)[stratum]
    mapped = stratum == len(areas) - 1
    return Drawn(
        np.array(areas),
        np.array(areas) * 1e6,
        stratum,
        mapped[:, None].astype(np.int64),
        truth[:, None].astype(np.int64),
    )


@pytest.mark.parametrize(
    ("areas", "shares", "number"),
    [
        ([60.0, 20.0, 20.0], [0.0, 0.05, 0.9], [200, 100, 150]),
        ([90.0, 5.0, 5.0], [0.002, 0.12, 0.85], [900, 200, 300]),
        ([65.0, 15.0, 20.0], [0.003, 0.15, 0.9], [300, 150, 200]),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    areas: list[float], shares: list[float], number: list[int]
) -> None:
    """2,000 draws: 95 % give or take 2.5; a standard error is 0.5."""
    true = float(np.dot(areas, shares))
    held = []
    for seed in range(2000):
        estimate = draw(areas, shares, number, seed).estimate_area(0, 0.95)
        assert estimate is not None
        held.append(estimate.holds(true))
    assert 0.93 <= np.mean(held) <= 0.975


def test_the_estimate_is_the_strata_weighed_by_their_area() -> None:
    drawn = Drawn(
        np.array([90.0, 10.0]),
        np.array([9e5, 1e5]),
        np.array([0, 0, 0, 0, 1, 1]),
        np.array([[0], [0], [0], [0], [1], [1]]),
        np.array([[1], [0], [0], [0], [1], [1]]),
    )
    estimate = drawn.estimate_area(0, 0.95)
    assert estimate is not None
    assert estimate.central == pytest.approx(90 / 4 + 10)
    few = Drawn(drawn.area, drawn.pixels, np.array([0, 0, 0, 0, 0, 1]), drawn.mapped, drawn.truth)
    assert few.estimate_area(0, 0.95) is None


def test_a_census_has_no_width() -> None:
    stratum = np.repeat([0, 1], 50)
    truth = np.tile([0, 1], 50)[:, None]
    drawn = Drawn(np.array([1.0, 3.0]), np.array([50.0, 50.0]), stratum, truth, truth)
    estimate = drawn.estimate_area(0, 0.95)
    assert estimate is not None
    assert estimate.central == pytest.approx(2.0)
    assert estimate.high - estimate.low < 0.01


def units(**changes: object) -> Units:
    values: dict[str, object] = {
        "size": np.array([[[1.0, 0]], [[1.0, 0]], [[0, 2.0]], [[0, 2.0]]]),
        "truth": np.array([[0], [1], [1], [1]], np.int8),
        "weighted": True,
        "stratum": np.array(["a", "a", "b", "b"]),
        "strata_area": {"a": 6.0, "b": 2.0},
    }
    return Units(**{**values, **changes})  # type: ignore[arg-type]


def test_strata_are_scaled_to_the_ground() -> None:
    drawn = find_drawn_strata(units(), 400.0, 0.01)
    assert drawn is not None
    assert drawn.area.tolist() == [300.0, 100.0]
    assert drawn.pixels.tolist() == [30_000.0, 10_000.0]
    assert drawn.mapped[:, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"stratum": None},
        {"strata_area": None},
        {"stratum": np.array(["a", "a", "a", "a"]), "strata_area": {"a": 8.0}},
        {"strata_area": {"a": 6.0, "b": 2.0, "c": 1.0}},
        {"size": np.array([[[1.0, 1.0]], [[1.0, 0]], [[0, 2.0]], [[0, 2.0]]])},
    ],
    ids=["no strata", "no areas", "one stratum", "a stratum without places", "polygons"],
)
def test_samples_that_do_not_say_their_strata(changes: dict[str, object]) -> None:
    assert find_drawn_strata(units(**changes), 400.0, 0.01) is None


def test_areas_of_strata_are_read_or_are_sums_of_weights(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "lon": [116.39, 116.391, 116.392, 116.393],
            "lat": 39.91,
            "stratum": ["a", "a", "b", "b"],
            "weight": [3.0, 3.0, 1.0, 1.0],
            "2016": [1, 0, 1, None],
        }
    )
    ground = laea_ground(1000, 1000)
    options = UncertaintyOptions()
    path = tmp_path / "s.csv"
    rows.to_csv(path, index=False)
    read = read_reference(path, ground, ["2016"], options)
    assert read.strata_area is not None
    assert read.strata_area["a"] / read.strata_area["b"] == pytest.approx(3.0)
    assert len(read.shapes) == 3, "a place without truth is left out, its stratum stays as large"
    rows.assign(stratum_ha=[60, 60, 10, 10]).to_csv(path, index=False)
    assert read_reference(path, ground, ["2016"], options).strata_area == {"a": 60.0, "b": 10.0}
    rows.assign(weight=[3.0, 2.0, 1.0, 1.0]).to_csv(path, index=False)
    assert read_reference(path, ground, ["2016"], options).strata_area is None
