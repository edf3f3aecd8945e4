"""Settlements do not blink."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise, product

import numpy as np
import pytest

from domainsam_urban.trend.align.smoothing import DOUBT, YEAR_SECONDS, compute_transitions, smooth
from domainsam_urban.trend.settings import SmoothingOptions

YEARS = [datetime(year, 7, 1, tzinfo=UTC) for year in (2010, 2012, 2013, 2017)]
OPTIONS = SmoothingOptions()


def by_enumeration(evidence: np.ndarray) -> np.ndarray:
    """The probability of settlement in each year, summed over all sixteen histories."""
    gaps = [(later - earlier).total_seconds() / YEAR_SECONDS for earlier, later in pairwise(YEARS)]
    settled, total = np.zeros(len(YEARS)), 0.0
    for history in product((0, 1), repeat=len(YEARS)):
        weight = 0.5
        for state, p in zip(history, evidence, strict=True):
            weight *= p if state else 1 - p
        for (one, other), gap in zip(pairwise(history), gaps, strict=True):
            gain, loss = compute_transitions(gap, OPTIONS)
            stays = 1 - loss if one else 1 - gain
            weight *= stays if one == other else 1 - stays
        settled += weight * np.array(history)
        total += weight
    return settled / total


def test_equal_to_the_sum_over_all_histories() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (4, 6, 5)).astype(np.uint8)
    values[1, 2, 3] = 255
    answer = smooth(values, YEARS, OPTIONS)
    for row, col in np.ndindex(6, 5):
        stored = values[:, row, col]
        evidence = np.where(stored == 255, 0.5, np.clip(stored / 254, DOUBT, 1 - DOUBT))
        expected = by_enumeration(evidence)
        known = stored != 255
        np.testing.assert_allclose(answer[known, row, col] / 254, expected[known], atol=0.5 / 254 + 1e-5)
        assert (answer[~known, row, col] == 255).all()


def test_a_blink_is_mended_and_growth_is_kept() -> None:
    blink = np.array([230, 20, 230, 230], np.uint8).reshape(4, 1, 1)
    grown = np.array([10, 10, 240, 240], np.uint8).reshape(4, 1, 1)
    assert (smooth(blink, YEARS, OPTIONS) > 127).all()
    np.testing.assert_array_equal(smooth(grown, YEARS, OPTIONS).ravel() > 127, [False, False, True, True])


def test_without_change_all_years_agree() -> None:
    values = np.array([230, 60, 200, 120], np.uint8).reshape(4, 1, 1)
    answer = smooth(values, YEARS, SmoothingOptions(0.0, 0.0)).ravel()
    assert len(set(answer.tolist())) == 1


def test_rates_over_time() -> None:
    gain, loss = compute_transitions(1.0, OPTIONS)
    assert (gain, loss) == pytest.approx((OPTIONS.appear, OPTIONS.vanish), rel=0.05)
    assert compute_transitions(1000.0, OPTIONS)[0] == pytest.approx(
        OPTIONS.appear / (OPTIONS.appear + OPTIONS.vanish), rel=1e-3
    )
    two_steps = gain * (1 - loss) + (1 - gain) * gain
    assert compute_transitions(2.0, OPTIONS)[0] == pytest.approx(two_steps, rel=1e-9)
