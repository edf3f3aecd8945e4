"""How often do the intervals of a trend hold the truth, and are the fates of settlements told rightly?

Generated series (``domainsam_urban.trend.generated``) have a known area in every
year. Maps of them err as classifiers do: outlines wobble, lie too far out,
settlements are missed or made up, years lie a pixel off. Each run draws a new
series, new errors and, where the case has one, a new reference sample of
points stratified by the map of the first and last year.

    python benchmarks/urban_trend_coverage.py --runs 200
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

from domainsam_urban.trend.generated import Errors, SettlementSeries, make_series, simulate_map
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.measure.adjusted import adjust
from domainsam_urban.trend.measure.areas import Figures, make_bounded_figures
from domainsam_urban.trend.measure.objects import ChangeObjects, find_change_objects
from domainsam_urban.trend.measure.olofsson import compute_z_value
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.measure.tallies import Blocks, tally
from domainsam_urban.trend.read.reference import Reference, look_up
from domainsam_urban.trend.read.zones import make_whole
from domainsam_urban.trend.settings import ObjectOptions, UncertaintyOptions
from domainsam_urban.trend.stack import YearLayer, YearStack

THRESHOLD = 127
PIXEL_M = 2.0
CELLS = 4
YEARS = 3


@dataclass(frozen=True)
class Case:
    """A kind of map; ``points`` is the size of the reference sample, 0 for none."""

    name: str
    errors: Errors
    points: int = 0


CASES = (
    Case("wobbling outlines", Errors(outline=1.5)),
    Case("outlines 1 px too far out", Errors(outline=1.5, bias=1.0)),
    Case("years off by 1 px", Errors(outline=1.5, shift=1.0)),
    Case("missed and made up", Errors(outline=1.5, missed=0.3, false_alarms=40)),
    Case("all of it", Errors(outline=1.5, bias=1.0, missed=0.3, false_alarms=40, shift=1.0)),
    Case("all of it, 200 points", Errors(1.5, 1.0, 0.3, 40, shift=1.0), 200),
    Case("all of it, 600 points", Errors(1.5, 1.0, 0.3, 40, shift=1.0), 600),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--status-runs", type=int, default=20)
    arguments = parser.parse_args()
    print(
        f"{arguments.runs} runs a case, {YEARS} years, {CELLS * CELLS} cells; intervals that hold the truth"
    )
    print("| map | year's area | net change | half width, share of area | Wald interval |")
    print("|---|---|---|---|---|")
    for case in CASES:
        rows = np.array([measure(case, seed) for seed in range(arguments.runs)])
        area, net, width, wald = (
            np.nanmean(rows, axis=0) if case.points else (*rows[:, :3].mean(axis=0), np.nan)
        )
        plain = "–" if np.isnan(wald) else f"{wald:.1%}"
        print(f"| {case.name} | {area:.1%} | {net:.1%} | {width:.1%} | {plain} |", flush=True)
    print(f"\nfates told rightly, {arguments.status_runs} series of {CELLS * CELLS} cells")
    print("| map | right | of |")
    print("|---|---|---|")
    for name, errors in {
        "the truth": None,
        "wobbling outlines": Errors(1.0),
        "years off by 1 px": Errors(1.0, shift=1.0),
    }.items():
        right = np.array([fates_right(errors, seed) for seed in range(arguments.status_runs)]).sum(axis=0)
        print(f"| {name} | {right[0] / right[1]:.1%} | {right[1]} |", flush=True)


def measure(case: Case, seed: int) -> tuple[float, float, float, float]:
    """Shares of years and of pairs whose interval holds the truth; mean half width; years held by Wald's."""
    series = make_series(YEARS, CELLS, CELLS, seed)
    options = UncertaintyOptions(seed=seed, block_m=200)
    with tempfile.TemporaryDirectory() as folder:
        stack = stage(Path(folder), simulate_map(series, case.errors, seed))
        thresholds = Thresholds.around(THRESHOLD, options.spread)
        tallies = tally(
            stack, [make_whole(stack.ground)], thresholds, Blocks.of(stack.ground, options.block_m)
        )
        figures = make_bounded_figures(stack, tallies, options, "map", {})
        wald = np.nan
        if case.points:
            reference = draw_sample(stack, series, case.points, seed)
            adjusted = adjust(stack, figures, tallies, look_up(stack, reference), options.level, "map")
            figures = adjusted.figures
            z = compute_z_value(options.level)
            true = areas(series, stack.ground)
            wald = float(
                np.mean(
                    [
                        abs(a.accuracy.proportion[1] * a.total_ha - true[stack.labels.index(a.year)])
                        <= z * a.standard_error_ha
                        for a in adjusted.accuracies
                    ]
                )
            )
    return (*held(figures, series, stack), wald)


def held(figures: Figures, series: SettlementSeries, stack: YearStack) -> tuple[float, float, float]:
    true = dict(zip(stack.labels, areas(series, stack.ground), strict=True))
    years = figures.of_years()
    in_years = np.mean([figure.area.holds(true[figure.year]) for figure in years])
    in_changes = np.mean([f.net.holds(true[f.late] - true[f.early]) for f in figures.of_changes()])
    width = np.mean([(f.area.high - f.area.low) / 2 / true[f.year] for f in years])
    return float(in_years), float(in_changes), float(width)


def areas(series: SettlementSeries, ground: CommonGround) -> NDArray[np.float64]:
    return series.masks.sum(axis=(1, 2)) * ground.pixel_ha


def stage(folder: Path, stored: NDArray[np.uint8]) -> YearStack:
    """Write stored probabilities ``(Y, H, W)`` as a stack."""
    years, height, width = stored.shape
    wkt = pyproj.CRS.from_proj4("+proj=laea +lat_0=39.91 +lon_0=116.39 +datum=WGS84 +units=m").to_wkt()
    affine = Affine(PIXEL_M, 0, -width * PIXEL_M / 2, 0, -PIXEL_M, height * PIXEL_M / 2)
    ground = CommonGround(wkt, affine, width, height, PIXEL_M)
    layers = []
    for index in range(years):
        path = folder / f"{index}.tif"
        write(path, stored[index], ground)
        layers.append(YearLayer(str(2016 + index), datetime(2016 + index, 7, 1, tzinfo=UTC), path.name, path))
    write(folder / "valid.tif", np.ones((height, width), np.uint8), ground)
    return YearStack(ground, tuple(layers), folder / "valid.tif", THRESHOLD)


def write(path: Path, values: NDArray[np.uint8], ground: CommonGround) -> None:
    profile = {
        "driver": "GTiff",
        "count": 1,
        "dtype": "uint8",
        "height": ground.height,
        "width": ground.width,
    }
    with rasterio.open(path, "w", **profile, crs=ground.crs, transform=ground.affine) as dataset:
        dataset.write(values, 1)


def draw_sample(stack: YearStack, series: SettlementSeries, points: int, seed: int) -> Reference:
    """Points in equal numbers from strata of the first and last year's map, with the truth of every year."""
    rng = np.random.default_rng([seed, 3])
    mapped = [
        rasterio.open(year.probability).read(1) >= THRESHOLD for year in (stack.years[0], stack.years[-1])
    ]
    stratum = (mapped[0] * 2 + mapped[1]).ravel()
    drawn = np.concatenate(
        [rng.choice(np.flatnonzero(stratum == s), points // 4) for s in range(4) if (stratum == s).any()]
    )
    row, col = np.divmod(drawn, stack.ground.width)
    x, y = stack.ground.affine @ (col + 0.5, row + 0.5)
    weight = np.bincount(stratum)[stratum[drawn]].astype(float)
    return Reference(
        shapely.points(x, y), series.masks[:, row, col].T.astype(np.int8), weight / weight.mean()
    )


def fates_right(errors: Errors | None, seed: int) -> tuple[int, int]:
    """Cells whose fate is told rightly, and all cells that have one."""
    series = make_series(YEARS, CELLS, CELLS, seed)
    stored = (
        np.where(series.masks, 254, 0).astype(np.uint8)
        if errors is None
        else simulate_map(series, errors, seed)
    )
    with tempfile.TemporaryDirectory() as folder:
        stack = stage(Path(folder), stored)
        found = find_change_objects(
            stack,
            [make_whole(stack.ground)],
            Thresholds.around(THRESHOLD, 0.2),
            ObjectOptions(),
            Path(folder),
        )
    told = dict(by_cell(stack, series, found))
    return sum(told.get(cell) == {fate} for cell, fate in enumerate(series.fates) if fate), sum(
        map(bool, series.fates)
    )


def by_cell(
    stack: YearStack, series: SettlementSeries, found: ChangeObjects
) -> Iterator[tuple[int, set[str]]]:
    """All statuses of the settlements in each cell."""
    statuses: dict[int, set[str]] = {}
    for settlement, status in zip(found.settlements, found.statuses, strict=True):
        year, row = next(iter(settlement.rows.items()))
        point = found.years[year].polygons[row].point_on_surface()
        col, line = (int(v) for v in ~stack.ground.affine @ (point.x, point.y))
        statuses.setdefault(int(series.cells[line, col]), set()).add(status)
    yield from statuses.items()


if __name__ == "__main__":
    main()
