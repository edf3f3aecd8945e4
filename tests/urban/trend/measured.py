"""Peak memory of a trend over generated masks: run as a program, since a peak never falls."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import rasterio
from affine import Affine


def write_scattered(path: Path, side: int, year: int, squares: int = 100) -> None:
    """A mask ``side`` pixels long and wide with so many squares, whatever its size; larger each year."""
    import numpy as np

    places = np.random.default_rng(7).uniform(0.05, 0.9, (squares, 2))
    length = 40 + 2 * year
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": side, "width": side}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    place = {"crs": "EPSG:32650", "transform": Affine(2, 0, 440_000, 0, -2, 4_420_000)}
    with rasterio.open(path, "w", **profile, **tiles, **place) as dataset:
        for row in range(0, side, 512):
            band = np.zeros((min(512, side - row), side), np.uint8)
            for v, u in (places * side).astype(int):
                band[max(0, v - row) : max(0, v + length - row), u : u + length] = 1
            dataset.write(band, 1, window=((row, row + len(band)), (0, side)))


def main() -> int:
    """``measured.py FOLDER SIDE YEARS``: prints the peak in megabytes."""
    from domainsam_urban.trend.settings import SmoothingOptions
    from domainsam_urban.trend.trend import run_trend
    from tests.urban.trend.scenes import options

    folder, side, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir()
    inputs = []
    for year in range(count):
        path = folder / f"m{2000 + year}.tif"
        write_scattered(path, side, year)
        inputs.append(f"{2000 + year}={path}")
    run_trend(inputs, options(folder / "out", masks=True, smoothing=SmoothingOptions()))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # noqa: T201 - what the test reads
    return 0


if __name__ == "__main__":
    sys.exit(main())
