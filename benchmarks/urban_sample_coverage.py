"""How often do intervals from samples of ``domainsam urban sample`` hold the truth?

Generated settlements have a known area in every year; maps of them err as
classifiers do. From each map many samples are drawn as the command draws them,
every point gets its truth, and areas and changes are estimated as
``domainsam urban trend --reference`` does it.

    python -m benchmarks.urban_sample_coverage --draws 1000
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from benchmarks.urban_trend_coverage import THRESHOLD, stage
from domainsam_urban.sample.allocation import allocate, make_targets
from domainsam_urban.sample.draw import Points, draw_points
from domainsam_urban.sample.settings import SampleOptions
from domainsam_urban.sample.strata import NAMES, count_strata, sweep_strata
from domainsam_urban.trend.generated import Errors, SettlementSeries, make_series, simulate_map
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.measure.adjusted import adjust
from domainsam_urban.trend.measure.areas import make_bounded_figures
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.measure.tallies import Blocks, tally
from domainsam_urban.trend.read.reference import Reference, Units
from domainsam_urban.trend.read.zones import make_whole
from domainsam_urban.trend.settings import UncertaintyOptions
from domainsam_urban.trend.stack import YearStack

YEARS = 2


@dataclass(frozen=True)
class Case:
    """A kind of map, and what is asked of the sample."""

    name: str
    errors: Errors
    options: SampleOptions


def asked(**options: object) -> SampleOptions:
    return SampleOptions(Path("sample.gpkg"), **{"buffer_m": 10.0, **options})  # type: ignore[arg-type]


MISSING = Errors(outline=1.5, missed=0.2, false_alarms=20)
CASES = (
    Case("area, wobbling outlines, 10 %", Errors(outline=1.5), asked(target_error=0.1)),
    Case("area, missed and made up, 10 %", MISSING, asked(target_error=0.1)),
    Case("area, missed and made up, 5 %", MISSING, asked(target_error=0.05)),
    Case("area, missed, no buffer stratum, 10 %", MISSING, asked(target_error=0.1, buffer_m=0.0)),
    Case("area, outlines 1 px too far out, 400 points", Errors(1.5, 1.0), asked(points=400)),
    Case("change, missed and made up, 20 %", MISSING, asked(of="change", target_error=0.2)),
)


@dataclass(frozen=True, eq=False)
class Coverage:
    """Shares of intervals that hold the truth, mean relative half width, and points of a sample."""

    area: float
    net: float
    width: float
    bias: float
    points: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=4)
    arguments = parser.parse_args()
    print(f"{arguments.draws} samples a case, {YEARS} years; 95 % intervals that hold the truth")
    print("| sample | points | year's area | net change | half width, share of area | bias of area |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        found = measure(case, arguments.draws, arguments.cells)
        print(
            f"| {case.name} | {found.points} | {found.area:.1%} | {found.net:.1%} | {found.width:.1%} "
            f"| {found.bias:+.2%} |",
            flush=True,
        )


def measure(case: Case, draws: int, cells: int, seed: int = 0) -> Coverage:
    """Draw samples from one map of one truth."""
    series = make_series(YEARS, cells, cells, seed)
    with tempfile.TemporaryDirectory() as folder:
        stack = stage(Path(folder), simulate_map(series, case.errors, seed))
        return cover(stack, series, case.options, draws)


def cover(stack: YearStack, series: SettlementSeries, options: SampleOptions, draws: int) -> Coverage:
    thresholds = Thresholds.around(THRESHOLD, 0.2)
    tallies = tally(stack, [make_whole(stack.ground)], thresholds, Blocks.of(stack.ground, 200))
    figures = make_bounded_figures(stack, tallies, UncertaintyOptions(draws=50, block_m=200), "map", {})
    true = series.masks.sum(axis=(1, 2)) * stack.ground.pixel_ha
    pixels = count_strata(stack, options.buffer_m)
    area_ha = np.asarray(pixels * stack.ground.pixel_ha, dtype=np.float64)
    windows = list(sweep_strata(stack, options.buffer_m))
    allocation = allocate(pixels, make_targets(stack.labels, options, pixels), options)
    mapped = np.stack([rasterio.open(year.probability).read(1) >= THRESHOLD for year in stack.years])
    rows = []
    for seed in range(draws):
        points = draw_points(windows, stack.ground, pixels, allocation.points, seed)
        reference = judge(points, series, stack.ground, area_ha, allocation.points)
        units = see(reference, mapped[:, points.row, points.col].T)
        adjusted = adjust(stack, figures, tallies, units, 0.95, "map").figures
        years, change = adjusted.of_years(), adjusted.of_changes()[-1]
        rows.append(
            (
                np.mean([f.area.holds(t) for f, t in zip(years, true, strict=True)]),
                change.net.holds(float(true[-1] - true[0])),
                np.mean([(f.area.high - f.area.low) / 2 / t for f, t in zip(years, true, strict=True)]),
                np.mean([f.area.central / t - 1 for f, t in zip(years, true, strict=True)]),
            )
        )
    area, net, width, bias = (float(value) for value in np.mean(np.array(rows, dtype=float), axis=0))
    return Coverage(area, net, width, bias, int(allocation.points.sum()))


def judge(
    points: Points,
    series: SettlementSeries,
    ground: CommonGround,
    area_ha: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> Reference:
    """What a person who never errs says of the points, as it is read from the filled file."""
    x, y = ground.affine @ (points.col + 0.5, points.row + 0.5)
    weight = np.divide(area_ha, counts, out=np.zeros(len(NAMES)), where=counts > 0)[points.stratum]
    return Reference(
        shapely.points(x, y),
        series.masks[:, points.row, points.col].T.astype(np.int8),
        weight / weight.mean(),
        weighted=True,
        stratum=np.array([NAMES[one] for one in points.stratum]),
        strata_area={name: float(area_ha[one]) for one, name in enumerate(NAMES) if counts[one]},
    )


def see(reference: Reference, mapped: NDArray[np.bool_]) -> Units:
    """What ``look_up`` gives for points, from what the map ``(N, Y)`` calls them; all ground is seen."""
    size = reference.weight[:, None, None] * np.stack([~mapped, mapped], axis=2)
    return Units(size, reference.truth, reference.weighted, reference.stratum, reference.strata_area)


if __name__ == "__main__":
    main()
