"""Choose how many points a sample needs, and how many of them each stratum gets.

Sizes follow Cochran (1977), "Sampling Techniques", equation 5.25: with a
stratum's share of the ground ``W``, its standard deviation ``S`` and ``N``
pixels in all, an estimate whose variance is to be ``V`` needs
``(sum W S)^2 / (V + sum W S^2 / N)`` points, divided as ``W S`` (Neyman). Good
practice (Olofsson et al. 2014, section 5.1) lies between that and shares of
the ground, with a least number in every stratum; the number then grows until
the expected error is the one asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.grid import Float64
from domainsam_urban.sample.settings import MOST_POINTS, SampleOptions
from domainsam_urban.sample.strata import BUFFER, GAIN, LOSS, NAMES, OTHER, SETTLEMENT
from domainsam_urban.trend.measure.olofsson import compute_z_value

EXPECTED: Mapping[str, float] = {
    **{"other": 0.005, "buffer": 0.1, "settlement": 0.85, "gain": 0.7, "loss": 0.7, "mixed": 0.5},
}
"""Share of each stratum that is truly what its name says; of other and buffer, that is settlement after all.

Conjectures for planning, as Olofsson et al. 2014 (section 5.1.1) make them: user's accuracy of 0.85, of a
map of change less, few omissions and most of them near what is mapped. The estimate does not depend on
them, only how well the points are used.
"""


@dataclass(frozen=True, eq=False)
class Target:
    """One figure that is to be estimated: a sum over the ground of something known at points.

    ``spread`` ``(6,)`` is its expected standard deviation within each stratum, ``size`` the expected
    total, as a share of the ground, that errors are told as a share of.
    """

    name: str
    spread: Float64
    size: float


@dataclass(frozen=True, eq=False)
class Allocation:
    """How a sample is divided.

    Parameters
    ----------
    points
        ``(6,)`` points in each stratum.
    errors
        Expected half width of the interval of every target, as a share, by the target's name.
    cochran
        Points that equation 5.25 gives for the hardest target, before any least number.
    """

    points: NDArray[np.int64]
    errors: Mapping[str, float]
    cochran: int


def make_targets(labels: Sequence[str], options: SampleOptions, pixels: NDArray[np.int64]) -> list[Target]:
    """What is to be estimated, with conjectured spreads.

    Raises
    ------
    ConfigError
        If an expected share is of no stratum, or a change of one year is asked for.
    """
    foreign = set(options.expected) - set(NAMES)
    if foreign:
        raise ConfigError(
            f"there is no stratum '{sorted(foreign)[0]}': expected shares are of {', '.join(NAMES)}"
        )
    share = {**EXPECTED, **options.expected}
    weights = pixels / pixels.sum()
    if options.of == "change":
        if len(labels) < 2:
            raise ConfigError("a change needs two maps at least: add another year, or estimate --of area")
        gain, loss = _changes(share)
        spread = np.sqrt(gain + loss - (gain - loss) ** 2)
        return [Target(f"change {labels[0]} to {labels[-1]}", spread, float(weights @ (gain + loss)))]
    targets = []
    for year, label in enumerate(labels):
        p = _settled(share, year / max(1, len(labels) - 1))
        targets.append(Target(label, np.sqrt(p * (1 - p)), float(weights @ p)))
    return targets


def _settled(share: Mapping[str, float], moment: float) -> Float64:
    """Expected share of settlement in each stratum at a moment from 0, the first year, to 1, the last."""
    p = np.array([share[name] for name in NAMES])
    # Of what the map calls gain, so much is settlement in the end; at first it is what the map has wrong.
    p[GAIN] = share["gain"] * moment + (1 - share["gain"]) * (1 - moment)
    p[LOSS] = share["loss"] * (1 - moment) + (1 - share["loss"]) * moment
    return p


def _changes(share: Mapping[str, float]) -> tuple[Float64, Float64]:
    """Expected share of each stratum that truly became, and ceased to be, settlement."""
    gain, loss = np.full(len(NAMES), 0.1), np.full(len(NAMES), 0.1)
    gain[OTHER] = loss[OTHER] = share["other"] / 2
    gain[BUFFER] = loss[BUFFER] = share["buffer"] / 4
    gain[SETTLEMENT] = loss[SETTLEMENT] = (1 - share["settlement"]) / 4
    gain[GAIN], loss[GAIN] = share["gain"], (1 - share["gain"]) / 10
    gain[LOSS], loss[LOSS] = (1 - share["loss"]) / 10, share["loss"]
    return gain, loss


def allocate(pixels: NDArray[np.int64], targets: Sequence[Target], options: SampleOptions) -> Allocation:
    """Points for every stratum that has ground.

    Parameters
    ----------
    pixels
        ``(6,)`` pixels of each stratum; those without any get no points.

    Raises
    ------
    ConfigError
        If the error asked for needs more points than anyone labels, or fewer are allowed than the least
        number of every stratum.
    """
    z = compute_z_value(options.confidence)
    weights = pixels / pixels.sum()
    sizes = [_cochran(weights, target, pixels, options.target_error / z) for target in targets]
    hardest = targets[int(np.argmax(sizes))]
    neyman = weights * hardest.spread
    # Half way between shares of the ground and Neyman's.
    shape = (weights + neyman / max(neyman.sum(), 1e-12)) / 2

    def divide(total: int) -> NDArray[np.int64]:
        least = np.maximum(np.rint(total * shape), options.min_per_stratum)
        return np.minimum(least, pixels).astype(np.int64)

    def worst(total: int) -> float:
        points = divide(total)
        return max(expect_error(target, weights, points, pixels, z) for target in targets)

    if options.points is not None:
        total = _fit_points(options, pixels, divide)
    elif worst(MOST_POINTS) > options.target_error:
        raise ConfigError(
            f"a target error of {options.target_error:.3g} needs more than {MOST_POINTS} points here "
            f"({MOST_POINTS} give {worst(MOST_POINTS):.2g}, 500 about {worst(500):.2g}): allow a larger one"
        )
    else:
        total = _least(worst, options.target_error)
    points = divide(total)
    errors = {target.name: expect_error(target, weights, points, pixels, z) for target in targets}
    return Allocation(points, errors, max(sizes))


def expect_error(
    target: Target, weights: Float64, points: NDArray[np.int64], pixels: NDArray[np.int64], z: float
) -> float:
    """Half width of the expected interval as a share of the target (Cochran 1977, equation 5.11)."""
    some = points > 0
    n, total = points[some].astype(np.float64), pixels[some]
    variance = (weights[some] * target.spread[some]) ** 2 / n * (1 - n / total)
    return z * float(np.sqrt(variance.sum())) / target.size


def _cochran(weights: Float64, target: Target, pixels: NDArray[np.int64], error: float) -> int:
    """Points by equation 5.25; ``error`` is the standard error wanted, as a share of the target."""
    wanted = (error * target.size) ** 2
    finite = float(weights @ target.spread**2) / int(pixels.sum())
    return int(np.ceil(float(weights @ target.spread) ** 2 / (wanted + finite)))


def _least(worst: Callable[[int], float], target: float) -> int:
    """The smallest total whose error is no larger than the target, by halving."""
    low, high = 0, MOST_POINTS
    while high - low > 1:
        middle = (low + high) // 2
        if worst(middle) <= target:
            high = middle
        else:
            low = middle
    return high


def _fit_points(
    options: SampleOptions, pixels: NDArray[np.int64], divide: Callable[[int], NDArray[np.int64]]
) -> int:
    """The largest total whose points, least numbers and all, are no more than those allowed."""
    wanted = options.points or 0
    least = int(np.minimum(options.min_per_stratum, pixels).sum())
    if least > wanted:
        raise ConfigError(
            f"{wanted} points are fewer than {options.min_per_stratum} in each of {int((pixels > 0).sum())} "
            f"strata ({least}): allow more points, or fewer with --min-per-stratum"
        )
    low, high = 0, 2 * wanted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if int(divide(middle).sum()) <= wanted else (low, middle)
    return low
