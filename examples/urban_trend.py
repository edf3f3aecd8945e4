"""Follow settlements through four generated years, and see whether the intervals hold the truth.

Run: python examples/urban_trend.py [FOLDER]
The maps err on purpose: outlines wobble and lie too far out, small settlements
are missed, others made up. A reference sample of 600 points puts that right.
"""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from affine import Affine

from domainsam_urban.trend.generated import Errors, make_series, simulate_map
from domainsam_urban.trend.settings import ProductOptions, TrendOptions, UncertaintyOptions, ZoneOptions
from domainsam_urban.trend.trend import run_trend

YEARS = (2016, 2018, 2020, 2022)
PIXEL_M = 2.0
PLACE = Affine.translation(443_200, 4_412_300) @ Affine.scale(PIXEL_M, -PIXEL_M)
CRS = "EPSG:32650"


def write_map(path: Path, stored: np.ndarray) -> None:
    """A year's probability, float32; any tool's would do."""
    rows, columns = stored.shape
    with rasterio.open(path, "w", "GTiff", columns, rows, 1, CRS, PLACE, "float32") as dataset:
        dataset.write(stored.astype(np.float32) / 254, 1)


def write_sample(path: Path, truth: np.ndarray, points: int) -> None:
    """Random points with a column for every year: 1 where there truly was settlement."""
    rng = np.random.default_rng(0)
    row, column = (rng.integers(0, length, points) for length in truth.shape[1:])
    x, y = PLACE @ (column + 0.5, row + 0.5)
    columns = {str(year): mask[row, column].astype(int) for year, mask in zip(YEARS, truth, strict=True)}
    places = geopandas.points_from_xy(x, y, crs=CRS)
    geopandas.GeoDataFrame(columns, geometry=places).to_file(path)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    series = make_series(len(YEARS), 5, 5, seed=1)
    seen = simulate_map(series, Errors(outline=1.5, bias=1.5, missed=0.3, false_alarms=30), seed=1)
    inputs = []
    for year, stored in zip(YEARS, seen, strict=True):
        write_map(folder / f"map_{year}.tif", stored)
        inputs.append(f"{year}={folder / f'map_{year}.tif'}")
    write_sample(folder / "sample.gpkg", series.masks, 600)
    products = ProductOptions(
        zones=ZoneOptions(centre=(116.339, 39.855), rings_km=(0.2, 0.4, 0.6)),
        uncertainty=UncertaintyOptions(reference=folder / "sample.gpkg"),
        title="Four generated years",
    )
    options = TrendOptions(folder / "trend", masks=True, products=products, overwrite=True, quiet=True)
    result = run_trend(inputs, options)
    print("year   truth, ha   estimate, ha (95 % interval)")
    for figure, mask in zip(result.products.figures.of_years(), series.masks, strict=True):
        area, true = figure.area, mask.sum() * PIXEL_M**2 / 1e4
        print(f"{figure.year} {true:11.2f} {area.central:14.2f} ({area.low:.2f} to {area.high:.2f})")
    settlements = geopandas.read_file(folder / "trend" / "settlements.gpkg", layer="change")
    print(settlements["status"].value_counts().to_string())
    print(f"report: {result.products.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "domainsam-example"))
