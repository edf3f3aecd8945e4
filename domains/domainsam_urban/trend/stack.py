"""Stack of all years on the common ground, read and written by windows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from domainsam.infer.blend import NODATA
from domainsam.infer.store import sync_folder
from domainsam.io.rasters import GDAL_OPTIONS, writing_raster
from domainsam.protocols import Window
from domainsam_urban.read.place import Place
from domainsam_urban.trend.ground import CommonGround

LEAST_PLACES = 3
"""So many places have to be measured before a displacement is believed."""
BLOCK = 512
"""Side of the tiles of staged rasters; windows that are multiples of it read every tile once."""
WINDOW = 2048
"""Largest side of the windows that a sweep over the stack reads."""
SWEEP_BYTES = 1 << 25
"""What a sweep over the stack holds at a time, all years together."""


@dataclass(frozen=True)
class Registration:
    """How far a year lies from the reference year.

    ``east_m`` and ``north_m`` are the median over ``windows`` places of what
    was measured, ``spread_m`` the normalised median absolute deviation of the
    two; ``windows`` is 0 where nothing could be matched. ``corrected`` says
    that the year was moved back by as much.
    """

    east_m: float = 0.0
    north_m: float = 0.0
    spread_m: float = 0.0
    windows: int = 0
    corrected: bool = False

    @property
    def distance_m(self) -> float:
        """How far the year lies off."""
        return math.hypot(self.east_m, self.north_m)

    @property
    def in_words(self) -> str:
        """Where it lies: ``3.0 m east and 4.0 m south``."""
        across, along = "east" if self.east_m >= 0 else "west", "north" if self.north_m >= 0 else "south"
        return f"{abs(self.east_m):.1f} m {across} and {abs(self.north_m):.1f} m {along}"

    @property
    def error_m(self) -> float:
        """Standard error of the medians, for normal errors; infinite where too few places were measured."""
        if self.windows < LEAST_PLACES:
            return math.inf
        return math.sqrt(math.pi / 2) * self.spread_m / math.sqrt(self.windows)

    @property
    def is_off(self) -> bool:
        """Whether the year lies off by more than chance explains: twice the standard error."""
        return self.distance_m > 2 * self.error_m


@dataclass(frozen=True)
class YearLayer:
    """One year on the common ground.

    Parameters
    ----------
    label
        What the user calls it, ``2016`` or ``2016-05``.
    moment
        When the scene was taken, if known.
    source
        What the year was made from, as given.
    probability
        Tiled GeoTIFF of bytes on the common ground: ``round(254 p)``, 255 without data.
    smoothed
        The same after smoothing over the years, None where that was not asked for.
    scene
        The picture behind it, None where the year was given as a mask.
    registration
        Its place against the reference year; None for the reference itself, and where it was not measured.
    """

    label: str
    moment: datetime | None
    source: str
    probability: Path
    smoothed: Path | None = None
    scene: str | None = None
    registration: Registration | None = None


@dataclass(frozen=True)
class YearStack:
    """Years in order of time, and the area that all of them saw.

    Parameters
    ----------
    common_valid
        Tiled GeoTIFF of bytes on the common ground: 1 where every year has data, else 0.
    threshold
        Smallest stored value that is settlement.
    warnings
        What the reader of the results ought to know, in sentences.
    """

    ground: CommonGround
    years: tuple[YearLayer, ...]
    common_valid: Path
    threshold: int
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the years, in order."""
        return tuple(year.label for year in self.years)

    @property
    def has_smoothed(self) -> bool:
        """Whether every year has a smoothed layer beside its own."""
        return all(year.smoothed is not None for year in self.years)

    def as_smoothed(self) -> YearStack:
        """The same stack with smoothed probabilities in place of each year's own."""
        years = tuple(
            replace(year, probability=year.smoothed, smoothed=None) if year.smoothed else year
            for year in self.years
        )
        return replace(self, years=years)

    def windows(
        self, size: int | None = None
    ) -> Iterator[tuple[Window, Mapping[str, NDArray[np.uint8]], NDArray[np.bool_]]]:
        """Sweep over the ground, row by row of windows.

        Parameters
        ----------
        size
            Side of the windows; by default as large as :data:`SWEEP_BYTES` allows, at most :data:`WINDOW`.

        Yields
        ------
        tuple
            The window; each year's stored values ``(h, w)`` by label, 255 where that year has no data;
            and which pixels ``(h, w)`` all years saw.
        """
        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(**GDAL_OPTIONS))
            years = {year.label: stack.enter_context(rasterio.open(year.probability)) for year in self.years}
            valid = stack.enter_context(rasterio.open(self.common_valid))
            for window in tile_ground(self.ground.shape, size or choose_sweep_size(len(self.years))):
                bounds = to_rasterio_window(window)
                values = {label: dataset.read(1, window=bounds) for label, dataset in years.items()}
                yield window, values, valid.read(1, window=bounds) == 1


def choose_sweep_size(layers: int) -> int:
    """Side of windows, a multiple of :data:`BLOCK`, that hold the same memory for any number of layers."""
    side = int((SWEEP_BYTES / max(1, layers)) ** 0.5)
    return min(WINDOW, max(BLOCK, side // BLOCK * BLOCK))


def tile_ground(shape: tuple[int, int], size: int) -> Iterator[Window]:
    """Windows of side ``size`` that tile a grid; those at the far edges are smaller."""
    rows, cols = shape
    for row in range(0, rows, size):
        for col in range(0, cols, size):
            yield Window(row, col, min(size, rows - row), min(size, cols - col))


def to_rasterio_window(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """A window as rasterio's reading and writing take it: row and column ranges."""
    return (window.row, window.row + window.height), (window.col, window.col + window.width)


DESCRIPTION = "probability"
"""Of the band; :func:`domainsam_urban.trend.read.maps.choose_mask_rule` knows stored probabilities by it."""
TIFF_OPTIONS = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": BLOCK,
    "blockysize": BLOCK,
    "compress": "deflate",
    "zlevel": 1,
    "bigtiff": "if_safer",
}

STEP = 2048
"""Side of the windows that are warped at a time."""


def write_ground(
    target: Path,
    ground: CommonGround,
    values: Callable[[Window], NDArray[np.uint8]],
    nodata: int | None = NODATA,
) -> None:
    """Write a layer of the ground window by window; it appears under its name when it is complete.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with open_for_writing(target, ground, nodata) as layer:
        for window in tile_ground(ground.shape, STEP):
            layer.write(values(window), 1, window=to_rasterio_window(window))


@contextmanager
def open_for_writing(target: Path, place: CommonGround | Place, nodata: int | None = NODATA) -> Iterator[Any]:
    """A layer of bytes to be written by windows, renamed into place once it is on the disk.

    Raises
    ------
    OutputError
        If the disk refuses it.
    """
    rows, cols = place.shape
    part = target.with_suffix(".part")
    layout = {"crs": place.crs, "transform": place.affine, "height": rows, "width": cols, "nodata": nodata}
    with writing_raster(target):
        with (
            rasterio.Env(**GDAL_OPTIONS),
            rasterio.open(part, "w", count=1, dtype="uint8", **layout, **TIFF_OPTIONS) as dataset,
        ):
            dataset.set_band_description(1, DESCRIPTION)
            yield dataset
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
