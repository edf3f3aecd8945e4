"""Sizes of samples: Cochran's formula by hand, bounds, and what is impossible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam_urban.sample.allocation import Target, allocate, expect_error, make_targets
from domainsam_urban.sample.settings import SampleOptions
from domainsam_urban.sample.strata import BUFFER, GAIN, LOSS, MIXED, NAMES, OTHER, SETTLEMENT

PIXELS = np.array([900_000, 50_000, 50_000, 0, 0, 0])


def asked(**changes: object) -> SampleOptions:
    return SampleOptions(Path("s.gpkg"), **changes)  # type: ignore[arg-type]


def by_hand(pixels: NDArray[np.int64], shares: list[float], target_error: float) -> int:
    """Cochran 1977, equation 5.25, with z = 1.959964."""
    w = pixels / pixels.sum()
    p = np.array(shares)
    s = np.sqrt(p * (1 - p))
    wanted = (target_error * (w * p).sum() / 1.959964) ** 2
    return int(np.ceil((w * s).sum() ** 2 / (wanted + (w * s * s).sum() / pixels.sum())))


def test_the_number_of_points_is_cochrans() -> None:
    options = asked(target_error=0.1)
    (target,) = make_targets(["2020"], options, PIXELS)
    found = allocate(PIXELS, [target], options)
    assert found.cochran == by_hand(PIXELS[:3], [0.005, 0.1, 0.85], 0.1)
    # Between Neyman and the ground's shares it takes a few more, and then errs as much as was asked for.
    assert found.points.sum() > found.cochran
    assert found.errors["2020"] == pytest.approx(0.1, rel=0.01)
    assert found.errors["2020"] <= 0.1


def test_points_lie_between_neyman_and_shares_of_the_ground() -> None:
    options = asked(target_error=0.05, min_per_stratum=2)
    targets = make_targets(["2020"], options, PIXELS)
    points = allocate(PIXELS, targets, options).points
    w = PIXELS / PIXELS.sum()
    neyman = w * targets[0].spread
    neyman /= neyman.sum()
    share = points / points.sum()
    for stratum in (OTHER, BUFFER, SETTLEMENT):
        assert (
            min(w[stratum], neyman[stratum]) - 1e-3
            <= share[stratum]
            <= max(w[stratum], neyman[stratum]) + 1e-3
        )
    assert points[[GAIN, LOSS, MIXED]].sum() == 0


def test_rare_strata_have_the_least_number_or_all_their_pixels() -> None:
    pixels = np.array([900_000, 50_000, 50_000, 900, 20, 0])
    options = asked(target_error=0.2)
    points = allocate(pixels, make_targets(["2016", "2020"], options, pixels), options).points
    assert points[GAIN] == 50
    assert points[LOSS] == 20
    assert points[MIXED] == 0


def test_a_smaller_error_takes_more_points() -> None:
    totals = []
    for error in (0.2, 0.1, 0.05):
        options = asked(target_error=error)
        totals.append(allocate(PIXELS, make_targets(["2020"], options, PIXELS), options).points.sum())
    assert totals == sorted(totals)
    assert totals[2] > 3 * totals[1]


def test_a_census_has_no_error() -> None:
    pixels = np.array([100, 0, 100, 0, 0, 0])
    target = Target("2020", np.full(6, 0.4), 0.3)
    assert expect_error(target, pixels / 200, pixels, pixels, 1.96) == 0.0


def test_a_given_number_of_points_is_kept() -> None:
    options = asked(points=400)
    found = allocate(PIXELS, make_targets(["2020"], options, PIXELS), options)
    assert 390 <= found.points.sum() <= 400
    with pytest.raises(ConfigError, match=r"120 points are fewer than 50 in each of 3 strata \(150\)"):
        allocate(PIXELS, make_targets(["2020"], options, PIXELS), asked(points=120))


def test_an_impossible_error_says_what_is_possible() -> None:
    options = asked(target_error=0.001)
    with pytest.raises(
        ConfigError, match=r"needs more than 20000 points here \(20000 give 0\.0\d+, 500 about"
    ):
        allocate(PIXELS, make_targets(["2020"], options, PIXELS), options)


def test_a_change_is_judged_by_what_changes() -> None:
    pixels = np.array([900_000, 50_000, 50_000, 10_000, 10_000, 0])
    options = asked(of="change", target_error=0.3)
    (target,) = make_targets(["2016", "2020"], options, pixels)
    assert target.name == "change 2016 to 2020"
    # Gain: 0.7 became, 0.03 ceased; variance of +1, 0, -1 is g + l - (g - l)^2.
    assert target.spread[GAIN] == pytest.approx(np.sqrt(0.73 - 0.67**2))
    with pytest.raises(ConfigError, match="a change needs two maps"):
        make_targets(["2020"], options, pixels)


def test_expected_shares_are_of_strata() -> None:
    with pytest.raises(ConfigError, match=f"no stratum 'slum': expected shares are of {', '.join(NAMES)}"):
        make_targets(["2020"], asked(expected={"slum": 0.5}), PIXELS)
    better = asked(target_error=0.1, expected={"settlement": 0.98})
    usual = asked(target_error=0.1)
    fewer = allocate(PIXELS, make_targets(["2020"], better, PIXELS), better).points.sum()
    assert fewer < allocate(PIXELS, make_targets(["2020"], usual, PIXELS), usual).points.sum()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_error": 0.0}, "target error is 0"),
        ({"target_error": 1.5}, "above 0 and below 1"),
        ({"confidence": 0.3}, "confidence is 0.3"),
        ({"buffer_m": -1.0}, "buffer is -1"),
        ({"buffer_m": float("inf")}, "buffer is inf"),
        ({"min_per_stratum": 1}, "1 points a stratum tells no spread"),
        ({"expected": {"other": 2.0}}, "expected share of 'other'"),
        ({"of": "colour"}, "'colour' cannot be estimated"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asked(**changes)
    with pytest.raises(ConfigError, match=r"ends in \.gpkg, \.geojson, \.csv"):
        SampleOptions(Path("sample.shp"))
