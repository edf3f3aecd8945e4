"""Find and outline the settlements of one year."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam.infer.blend import NODATA
from domainsam.infer.components import Components, find_components, label_bands
from domainsam.infer.tiling import Lattice, round_up
from domainsam.io.rasters import GDAL_OPTIONS
from domainsam.protocols import Window
from domainsam_urban.read.geodesy import apply_affine
from domainsam_urban.trend.stack import YearStack, to_rasterio_window
from domainsam_urban.write.outlines import trace

STRIP_ROWS = 64
"""Rows of a strip of the temporary raster of object numbers."""


class YearScene:
    """One year of a stack as the engine's object finder reads it; nothing outside the common area."""

    def __init__(self, year: Any, valid: Any) -> None:
        self._year, self._valid = year, valid

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the ground."""
        return int(self._year.height), int(self._year.width)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Stored values ``(h, w)``, 255 where not all years have data."""
        bounds = to_rasterio_window(window)
        values: NDArray[np.uint8] = self._year.read(1, window=bounds)
        values[self._valid.read(1, window=bounds) != 1] = NODATA
        return values


@contextmanager
def open_year(stack: YearStack, year: int) -> Iterator[YearScene]:
    """A year of a stack by its index."""
    with ExitStack() as files:
        files.enter_context(rasterio.Env(**GDAL_OPTIONS))
        own = files.enter_context(rasterio.open(stack.years[year].probability))
        yield YearScene(own, files.enter_context(rasterio.open(stack.common_valid)))


def find_objects(stack: YearStack, year: int, level: int, min_area_m2: float) -> Components:
    """Settlements of a year: connected areas, also at corners, of at least ``min_area_m2`` on the ground."""
    pixels = max(1, int(np.ceil(min_area_m2 / (stack.ground.pixel_ha * 1e4) - 1e-9)))
    with open_year(stack, year) as scene:
        # One quarter of the lattice holds the whole ground: objects are not cut.
        field = 4 * round_up(max(scene.shape))
        return find_components(scene, level, Lattice.cover(scene.shape, field), pixels)


@dataclass(frozen=True, eq=False)
class YearObjects:
    """Settlements of one year; object ``i`` of the components is row ``i - 1``.

    Parameters
    ----------
    area_px
        ``(N,)`` pixels.
    mean
        ``(N,)`` mean probability inside.
    polygons
        ``(N,)`` Polygons and MultiPolygons in the ground's CRS, along pixel edges, so that their area is
        that of their pixels.
    lookup
        Object of every label that sweeps over this year give, 0 for none.
    """

    area_px: NDArray[np.int64]
    mean: Float64
    polygons: NDArray[np.object_]
    lookup: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.area_px)


def outline_objects(stack: YearStack, year: int, found: Components, folder: Path) -> YearObjects:
    """Trace the settlements of a year by streaming; ``folder`` takes a temporary raster."""
    polygons = np.empty(len(found.items), dtype=object)
    if len(polygons):
        numbers = folder / f"objects_{year}.tif"
        try:
            _write_numbers(stack, year, found, numbers)
            traced = trace(numbers, range(1, len(polygons) + 1))
        finally:
            numbers.unlink(missing_ok=True)
        world = shapely.transform(traced.polygons, lambda points: apply_affine(stack.ground.affine, points))
        _gather(polygons, shapely.orient_polygons(world), traced.values - 1)
    return YearObjects(
        np.array([item.area for item in found.items], dtype=np.int64),
        np.array([item.mean_probability for item in found.items], dtype=np.float64),
        polygons,
        found.lookup,
    )


def count_overlaps(
    stack: YearStack, pair: tuple[int, int], objects: tuple[YearObjects, YearObjects]
) -> NDArray[np.int64]:
    """Shared pixels of the settlements of two years, in one pass over both.

    Returns
    -------
    NDArray
        ``(L, 3)``: row in the earlier year, row in the later year, pixels.
    """
    early, late = objects
    if not len(early) or not len(late):
        return np.empty((0, 3), dtype=np.int64)
    keys, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    with open_year(stack, pair[0]) as one, open_year(stack, pair[1]) as other:
        bands = zip(label_bands(one, stack.threshold), label_bands(other, stack.threshold), strict=True)
        for (_, _, first), (_, _, second) in bands:
            former, latter = early.lookup[first], late.lookup[second]
            both = (former > 0) & (latter > 0)
            key, count = np.unique((former[both] - 1) * len(late) + latter[both] - 1, return_counts=True)
            keys.append(key)
            counts.append(count)
    key, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(place, np.concatenate(counts), len(key)).astype(np.int64)
    return np.column_stack([key // len(late), key % len(late), total])


def _write_numbers(stack: YearStack, year: int, found: Components, path: Path) -> None:
    rows, columns = stack.ground.shape
    profile = {"driver": "GTiff", "count": 1, "dtype": "int32", "height": rows, "width": columns}
    layout = {"compress": "deflate", "zlevel": 1, "blockysize": STRIP_ROWS, "bigtiff": "if_safer"}
    # Georeferenced, because outlines come back through the geotransform.
    place = {"crs": stack.ground.crs, "transform": stack.ground.affine}
    with open_year(stack, year) as scene, rasterio.open(path, "w", **profile, **layout, **place) as out:
        for row, _, labels in label_bands(scene, stack.threshold):
            window = Window(row, 0, labels.shape[0], columns)
            out.write(found.lookup[labels].astype(np.int32), 1, window=to_rasterio_window(window))


def _gather(polygons: NDArray[np.object_], parts: NDArray[np.object_], owner: NDArray[np.int64]) -> None:
    """Put the parts of each object together: those that only touch at a corner are parts of one."""
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(polygons) + 1))
    for index in range(len(polygons)):
        own = parts[order[starts[index] : starts[index + 1]]]
        polygons[index] = own[0] if len(own) == 1 else shapely.multipolygons(own)
