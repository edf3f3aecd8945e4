"""The stratified estimator, against the worked example of its paper and against other ways to compute it."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam_urban.trend.measure.olofsson import assess, assess_clusters, compute_z_value

COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Olofsson et al. 2014, table 8: deforestation, forest gain, stable forest, stable non-forest."""
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HECTARES = 0.09
"""Of a pixel of 30 m."""


def test_areas_of_the_worked_example() -> None:
    """Section 5: 235,086 pixels or 21,158 ha of deforestation, plus or minus 68,418 pixels or 6158 ha."""
    result = assess(COUNTS, PIXELS)
    total = PIXELS.sum()
    assert round(result.proportion[0] * total) == 235_086
    assert round(1.96 * result.proportion_error[0] * total) == 68_418
    hectares = result.proportion * total * HECTARES
    np.testing.assert_array_equal(hectares.round(), [21_158, 11_686, 285_770, 581_386])
    half_widths = 1.96 * result.proportion_error * total * HECTARES
    np.testing.assert_array_equal(half_widths.round(), [6158, 3756, 15_510, 16_282])


def test_accuracies_of_the_worked_example() -> None:
    result = assess(COUNTS, PIXELS)
    np.testing.assert_array_equal(result.users.round(2), [0.88, 0.73, 0.93, 0.96])
    np.testing.assert_array_equal((1.96 * result.users_error).round(2), [0.07, 0.10, 0.04, 0.02])
    np.testing.assert_array_equal(result.producers.round(2), [0.75, 0.85, 0.93, 0.96])
    assert round(1.96 * result.producers_error[0], 2) == 0.21
    assert round(result.overall, 2) == 0.95
    assert round(1.96 * result.overall_error, 2) == 0.02


def test_sampling_the_same_ground_again_and_again_spreads_as_the_standard_error_says() -> None:
    """An independent computation: draw from a known population and look at the spread of the estimates."""
    rng = np.random.default_rng(7)
    inside = np.array([[0.9, 0.1], [0.03, 0.97]])
    areas = np.array([10.0, 90.0])
    number = np.array([60, 140])
    estimates, errors, producers, producers_errors = [], [], [], []
    for _ in range(4000):
        hits = rng.binomial(number, inside[:, 0])
        result = assess(np.column_stack([hits, number - hits]), areas)
        estimates.append(result.proportion[0])
        errors.append(result.proportion_error[0] ** 2)
        producers.append(result.producers[0])
        producers_errors.append(result.producers_error[0] ** 2)
    assert np.mean(estimates) == pytest.approx(0.1 * 0.9 + 0.9 * 0.03, abs=6e-4)
    assert np.mean(errors) ** 0.5 == pytest.approx(np.std(estimates), rel=0.04)
    assert np.mean(producers_errors) ** 0.5 == pytest.approx(np.std(producers), rel=0.05)


def test_clusters_of_one_pixel_are_points() -> None:
    stratum, true = np.repeat(np.indices(COUNTS.shape).reshape(2, -1), COUNTS.ravel(), axis=1)
    points = assess(COUNTS, PIXELS)
    clusters = assess_clusters(stratum, np.ones(len(stratum)), np.eye(4)[true], PIXELS)
    for name in ("proportion", "proportion_error", "users", "producers", "overall"):
        np.testing.assert_allclose(getattr(clusters, name), getattr(points, name), rtol=1e-12)
    np.testing.assert_allclose(clusters.covariance, points.covariance, rtol=1e-9, atol=1e-18)


def test_pixels_of_one_polygon_are_not_more_evidence() -> None:
    """Enlarging every unit leaves the interval as wide as it was."""
    stratum, true = np.repeat(np.indices(COUNTS.shape).reshape(2, -1), COUNTS.ravel(), axis=1)
    small = assess_clusters(stratum, np.ones(len(stratum)), np.eye(4)[true], PIXELS)
    large = assess_clusters(stratum, np.full(len(stratum), 100), 100 * np.eye(4)[true], PIXELS)
    np.testing.assert_allclose(large.proportion_error, small.proportion_error, rtol=1e-12)


def test_a_stratum_without_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        assess([[10, 0], [1, 0]], [5, 5])


def test_ninety_five_percent_is_1_96() -> None:
    assert compute_z_value(0.95) == pytest.approx(1.959964, abs=1e-6)
