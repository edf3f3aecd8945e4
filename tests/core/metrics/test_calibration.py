from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from domainsam.metrics.calibration import compute_reliability, count_calibration

pairs = st.lists(
    st.tuples(st.integers(0, 254).map(lambda level: level / 254), st.booleans()), min_size=1, max_size=80
)


@given(pairs)
@settings(max_examples=80, deadline=None)
def test_curve_and_brier_equal_sklearn(case: list[tuple[float, bool]]) -> None:
    probability, truth = np.array([p for p, _ in case]), np.array([t for _, t in case])
    # Seven bins: no level of the 255 lies on an edge, where the two put a pixel in different bins.
    curve = compute_reliability(count_calibration(probability, truth, bins=7))
    frequency, confidence = calibration_curve(truth, probability, n_bins=7)
    filled = curve.weight > 0
    np.testing.assert_allclose(curve.frequency[filled], frequency)
    np.testing.assert_allclose(curve.confidence[filled], confidence)
    assert np.isnan(curve.frequency[~filled]).all()
    np.testing.assert_allclose(curve.brier, brier_score_loss(truth, probability, labels=[False, True]))
    expected = np.sum(curve.weight[filled] * np.abs(frequency - confidence))
    np.testing.assert_allclose(curve.ece, expected, atol=1e-12)


def test_windows_add_up_and_invalid_pixels_do_not_count() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random((20, 30))
    truth, valid = generator.random((20, 30)) < probability, generator.random((20, 30)) < 0.7
    whole = count_calibration(probability, truth, valid)
    parts = sum(
        count_calibration(probability[r], truth[r], valid[r]) for r in np.array_split(np.arange(20), 3)
    )
    np.testing.assert_allclose(parts, whole)
    np.testing.assert_allclose(whole, count_calibration(probability[valid], truth[valid]))
    assert whole[:, 0].sum() == valid.sum()


def test_a_calibrated_forecast_has_a_small_error_and_an_overconfident_one_a_large_one() -> None:
    generator = np.random.default_rng(3)
    probability = generator.random(200_000)
    truth = generator.random(200_000) < probability
    assert compute_reliability(count_calibration(probability, truth)).ece < 0.01
    overconfident = np.where(probability > 0.5, 1.0, 0.0)
    assert compute_reliability(count_calibration(overconfident, truth)).ece == pytest.approx(0.25, abs=0.01)


def test_no_pixels_is_undefined() -> None:
    curve = compute_reliability(count_calibration(np.empty(0), np.empty(0, bool)))
    assert np.isnan(curve.ece)
    assert np.isnan(curve.brier)


@pytest.mark.parametrize("value", [1.2, -0.1, np.nan])
def test_values_that_are_no_probability_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        count_calibration(np.array([value]), np.array([True]))
    assert count_calibration(np.array([value]), np.array([True]), np.array([False])).sum() == 0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        count_calibration(np.zeros(3), np.zeros(4, bool))
