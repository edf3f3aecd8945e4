"""What it costs to look at a scene through a grid that is turned or projected otherwise, beside GDAL.

    pip install -e ".[urban]"
    python benchmarks/reading.py [--size 3000]

A scene of noise in web mercator, in memory, is sampled on its UTM grid of 1.2 m in windows of 512 pixels: by
a spline, as networks see pictures; linearly, as answers are laid back; and by GDAL's warped dataset,
bilinear and cubic, which has neither areas of pixels nor a say for missing ones. CPU seconds a million pixels
of the grid, the best of three rounds, of GDAL one. The last column is how much of waves four pixels wide is
left when the grid's pixels fall half-way between the scene's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject

from domainsam.protocols import Window
from domainsam_urban.read.place import Place, measure_ground_pixel
from domainsam_urban.read.workgrid import lay_on_ground

CORNER, PIXEL, RESOLUTION = (12973503.0, 4886466.0), 1.194, 1.2
SIDE, ROUNDS, BANDS = 512, 3, 3
Look = Callable[[int, int], NDArray[np.float32]]
"""From a window's first row and column to its pixels ``(C, SIDE, SIDE)``."""


def time_windows(look: Look, shape: tuple[int, int], rounds: int = ROUNDS) -> float:
    """CPU seconds a million pixels over the windows that lie within the grid, of the quickest round."""
    starts = [
        (row, col)
        for row in range(0, shape[0] - SIDE + 1, SIDE)
        for col in range(0, shape[1] - SIDE + 1, SIDE)
    ]
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        for row, col in starts:
            look(row, col)
        times.append(time.process_time() - begin)
    return min(times) / len(starts) / SIDE**2 * 1e6


def measure_kept(look: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> float:
    """What is left of waves of four pixels that are looked at half a pixel on."""
    cols = np.arange(128)
    waves = np.broadcast_to(np.sin(np.pi / 2 * (cols + 0.5)), (128, 128)).astype(np.float32)
    middle = look(waves)[48:80, 48:80]
    return float(np.abs(middle).max())


def half_on(values: NDArray[np.float32], pictures: int) -> NDArray[np.float32]:
    """A plane half a pixel on, by the library's warp."""
    from domainsam_urban.read.warp import Knots, Warp

    utm = CRS.from_epsg(32650)
    place = Affine(1, 0, 0, 0, -1, 0)
    warp = Warp(Knots(place @ Affine.translation(0.5, 0), utm, place, utm), (64, 64), values.shape)
    planes = np.stack([values, np.ones_like(values)])
    found = warp.sample(
        Window(0, 0, *values.shape), lambda rows, cols: planes[:, slice(*rows), slice(*cols)], 2, pictures
    )
    return np.asarray(found[0])


def half_on_by_gdal(values: NDArray[np.float32], resampling: Resampling) -> NDArray[np.float32]:
    """The same by GDAL."""
    place, found = Affine(1, 0, 500_000, 0, -1, 4_000_000), np.zeros_like(values)
    reproject(
        values,
        found,
        src_transform=place,
        dst_transform=place @ Affine.translation(0.5, 0),
        src_crs="EPSG:32650",
        dst_crs="EPSG:32650",
        src_nodata=None,
        resampling=resampling,
    )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=3000, help="pixels of a side")
    size = parser.parse_args().size
    transform, crs = Affine(PIXEL, 0, CORNER[0], 0, -PIXEL, CORNER[1]), CRS.from_epsg(3857)
    noise = np.random.default_rng(0).integers(0, 255, (BANDS, size, size), dtype=np.uint8)
    place = Place((size, size), transform, crs)
    work = lay_on_ground(place, place, measure_ground_pixel(crs, transform, (size, size)), RESOLUTION)
    assert work is not None
    warp = work.warp_from(place)
    rows: list[tuple[str, float, float]] = []
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=size, height=size, count=BANDS, dtype="uint8", crs=crs, transform=transform
        ) as dataset:
            dataset.write(noise)
        with memory.open() as dataset:

            def read(rows: tuple[int, int], cols: tuple[int, int]) -> NDArray[np.float32]:
                values = dataset.read(window=(rows, cols)).astype(np.float32)
                return np.concatenate([values, np.ones_like(values[:1])])

            for name, pictures in (("spline", BANDS), ("linear", 0)):

                def look(row: int, col: int, pictures: int = pictures) -> NDArray[np.float32]:
                    return warp.sample(Window(row, col, SIDE, SIDE), read, BANDS + 1, pictures)

                kept = measure_kept(partial(half_on, pictures=min(pictures, 1)))
                rows.append((name, time_windows(look, work.shape), kept))
            for kind in (Resampling.bilinear, Resampling.cubic):
                height, width = work.shape
                grid = {"crs": work.crs, "transform": work.transform, "height": height, "width": width}
                with WarpedVRT(dataset, resampling=kind, **grid) as warped:

                    def look_by_gdal(row: int, col: int) -> NDArray[np.float32]:
                        part = warped.read(window=((row, row + SIDE), (col, col + SIDE)))
                        return np.asarray(part, np.float32)

                    kept = measure_kept(partial(half_on_by_gdal, resampling=kind))
                    # It keeps what it has warped, so that only the first round is work.
                    rows.append((f"GDAL, {kind.name}", time_windows(look_by_gdal, work.shape, 1), kept))
    print("| way | CPU s a million pixels | left of waves of four pixels |")
    print("|---|---|---|")
    for name, seconds, kept in rows:
        print(f"| {name} | {seconds:.2f} | {kept:.2f} |")


if __name__ == "__main__":
    main()
