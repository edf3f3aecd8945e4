"""One georeferenced sensor on the grid of another: any resolution, any CRS, read by windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.infer.blend import clip_window, slice_within
from domainsam.infer.tiling import TileGrid
from domainsam.io.rasters import (
    open_quietly,
    overview_size,
    reading_raster,
    to_centre_affine,
)
from domainsam.protocols import Block, Window
from domainsam.versions import content_digest, file_facts
from domainsam_scene.read.modalities import CHANNELS, SPARSE, Plane
from domainsam_scene.settings import Range

TAILS = (1.0, 99.0)
"""Percentiles of the scene that become 0 and 1 where nobody says otherwise."""
FINER = 1.5
"""A sensor whose pixels are smaller than those of the map by more than this is averaged."""
CACHE_BYTES = 256 * 2**20
"""GDAL's block cache: rasters of several sensors are read, and warped, side by side."""
STRIP = 512
"""Rows that are looked at together."""
TOLERANCE_PX = 1e-4
"""Error in pixels that GDAL may make when it places them; 0 is refused by rasterio."""


@dataclass(frozen=True)
class MapGrid:
    """The pixels of a map: ``shape`` (rows, columns), affine of pixel corners, and CRS."""

    shape: tuple[int, int]
    transform: Affine
    crs: CRS

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of all corners."""
        rows, cols = self.shape
        corners = [self.transform @ point for point in ((0, 0), (cols, 0), (0, rows), (cols, rows))]
        across, up = zip(*corners, strict=True)
        return min(across), min(up), max(across), max(up)


class SensorRaster:
    """A raster as one sensor of a stack.

    Parameters
    ----------
    name
        The sensor.
    path
        Anything that GDAL opens.
    bands
        Up to three band numbers, from 1; by default the first three.
    limits
        Values that become 0 and 1. By default bytes fill 0 to 255 and
        everything else is stretched between percentiles of the whole scene.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged, has no CRS, lacks a band, or holds no data.
    """

    def __init__(
        self,
        name: str,
        path: Path | str,
        bands: Sequence[int] | None = None,
        limits: Range | None = None,
    ) -> None:
        self.name, self.path = name, str(path)
        with self._reading("its header"):
            if "://" not in self.path and not self.path.startswith("/vsi") and not Path(self.path).exists():
                raise MissingInputError(f"{self.path}: no such file; check the path")
            self._dataset: Any = open_quietly(self.path)
            self.grid = self._own_grid()
            self.bands = self._choose_bands(bands)
            self.nodata = self._declared_nodata()
            self.limits = limits or self._natural_limits()
        self._warped: Any = None

    def _own_grid(self) -> MapGrid:
        dataset = self._dataset
        if dataset.crs is None or dataset.transform.is_identity:
            what = "coordinate reference system (CRS)" if dataset.crs is None else "geotransform"
            raise InputError(
                f"{self.path}: has no {what}, so it cannot be laid on other sensors; georeference it, "
                f"or give pictures of one view without --geotiff (--modality {self.name}=...)"
            )
        return MapGrid((int(dataset.height), int(dataset.width)), dataset.transform, dataset.crs)

    def _choose_bands(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        count = self._dataset.count
        colours = [
            index
            for index, kind in enumerate(self._dataset.colorinterp, start=1)
            if kind != ColorInterp.alpha
        ]
        bands = tuple(wanted) if wanted else tuple(colours[:CHANNELS])
        outside = [band for band in bands if not 1 <= band <= count]
        if outside or not 1 <= len(bands) <= CHANNELS:
            raise InputError(
                f"{self.path}: --bands {self.name}={','.join(map(str, bands))} does not fit: it has bands "
                f"1 to {count}, and one to three of them are taken"
            )
        return bands

    def _declared_nodata(self) -> float | None:
        declared = self._dataset.nodata
        if declared is None and np.dtype(self._dataset.dtypes[self.bands[0] - 1]).kind == "f":
            return float("nan")
        return None if declared is None else float(declared)

    def _natural_limits(self) -> Range:
        if self._dataset.dtypes[self.bands[0] - 1] == "uint8":
            return 0.0, 255.0
        size = (len(self.bands), *overview_size(self.grid.shape))
        values = self._dataset.read(list(self.bands), out_shape=size).astype(np.float64)
        known = values[np.isfinite(values) & (values != self.nodata)]
        if not known.size:
            raise InputError(f"{self.path}: holds no data, all of {self.name} is nodata; check the file")
        low, high = (float(value) for value in np.percentile(known, TAILS))
        return (low, high) if high > low else (low, low + 1.0)

    def lay_on(self, grid: MapGrid) -> None:
        """Read from now on as pixels of ``grid``.

        Raises
        ------
        InputError
            If it does not lie on the same ground, or its CRS cannot be changed into the map's.
        """
        self.close_warped()
        if self.grid == grid:
            return
        try:
            left, bottom, right, top = transform_bounds(self.grid.crs, grid.crs, *self.grid.bounds)
        except (CRSError, CPLE_BaseError) as error:
            raise InputError(
                f"{self.path}: CRS of {self.name} cannot be changed into that of the map ({error})"
            ) from error
        west, south, east, north = grid.bounds
        if not (left < east and right > west and bottom < north and top > south):
            raise InputError(
                f"{self.path}: {self.name} does not lie on the ground of the map: it reaches from "
                f"({left:.6g}, {bottom:.6g}) to ({right:.6g}, {top:.6g}), the map from "
                f"({west:.6g}, {south:.6g}) to ({east:.6g}, {north:.6g})"
            )
        with self._reading("its grid"):
            self._warped = WarpedVRT(
                self._dataset,
                crs=grid.crs,
                transform=grid.transform,
                height=grid.shape[0],
                width=grid.shape[1],
                src_nodata=self.nodata,
                nodata=self.nodata,
                resampling=self._resampling(grid, (left, bottom, right, top)),
                add_alpha=ColorInterp.alpha not in self._dataset.colorinterp,
                # Without the usual shortcut of an eighth of a pixel, windows agree bit for bit.
                tolerance=TOLERANCE_PX,
                warp_mem_limit=64,
            )

    def _resampling(self, grid: MapGrid, laid: tuple[float, float, float, float]) -> Resampling:
        if self.name in SPARSE:
            return Resampling.nearest
        rows, cols = self.grid.shape
        area = (laid[2] - laid[0]) * (laid[3] - laid[1]) / (rows * cols)
        own = abs(grid.transform.determinant)
        return Resampling.average if area * FINER**2 < own else Resampling.bilinear

    def is_blank(self) -> bool:
        """Whether it delivered nothing: no valid pixel, or one value everywhere, in the bands that are read.

        An overview answers for most rasters; only where that is of one value is the file read to its end.

        Raises
        ------
        InputError
            If the file turns out to be damaged.
        """
        with self._reading("its values"):
            values, known = self._own_values(None, overview_size(self.grid.shape))
            if known.any() and _differs(values[:, known], None):
                return False
            first: NDArray[Any] | None = None
            for row in range(0, self.grid.shape[0], STRIP):
                rows = (row, min(row + STRIP, self.grid.shape[0]))
                values, known = self._own_values((rows, (0, self.grid.shape[1])), None)
                if not known.any():
                    continue
                inside = values[:, known]
                if _differs(inside, first):
                    return False
                first = inside[:, :1]
        return True

    def read(self, window: Window, grid: MapGrid) -> Plane:
        """A window of the map's grid; outside of the map, and where there is no data, it is not valid.

        Raises
        ------
        InputError
            If the file turns out to be damaged there.
        """
        image = np.zeros((CHANNELS, window.height, window.width), np.float32)
        valid = np.zeros((window.height, window.width), bool)
        part = clip_window(window, (0, grid.shape[0]), (0, grid.shape[1]))
        if part.height and part.width:
            rows, cols = (part.row, part.row + part.height), (part.col, part.col + part.width)
            with self._reading(f"rows {rows[0]} to {rows[1]}, columns {cols[0]} to {cols[1]}"):
                values, known = self._values((rows, cols), None)
            inside = slice_within(part, (window.row, window.col))
            image[:, *inside], valid[inside] = self._scaled(values, known), known
        return Plane(image, valid)

    def overview(self, size: tuple[int, int]) -> Plane:
        """All of the map's ground, decimated to ``size``, for a picture."""
        with self._reading("an overview"):
            values, known = self._values(None, size)
        return Plane(self._scaled(values, known), known)

    def _values(self, window: Any, size: tuple[int, int] | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        return self._read_from(self._dataset if self._warped is None else self._warped, window, size)

    def _own_values(
        self, window: Any, size: tuple[int, int] | None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values on its own grid, wherever it is laid."""
        return self._read_from(self._dataset, window, size)

    def _read_from(
        self, source: Any, window: Any, size: tuple[int, int] | None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        shape = None if size is None else (len(self.bands), *size)
        values = source.read(list(self.bands), window=window, out_shape=shape)
        alpha = [n for n, kind in enumerate(source.colorinterp, start=1) if kind == ColorInterp.alpha]
        known = np.ones(values.shape[1:], bool)
        if alpha:
            known = source.read(alpha[-1], window=window, out_shape=size) > 0
        if self.nodata is not None and not np.isnan(self.nodata):
            known &= ~(values == self.nodata).all(axis=0)
        if values.dtype.kind == "f":
            known &= np.isfinite(values).all(axis=0)
        return values, known

    def _scaled(self, values: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float32]:
        low, high = self.limits
        scaled = np.clip((np.where(known, values, low).astype(np.float32) - low) / (high - low), 0, 1)
        scaled = np.where(known, scaled, 0).astype(np.float32)
        if len(scaled) == 1:
            return np.repeat(scaled, CHANNELS, axis=0)
        if len(scaled) == 2:
            return np.concatenate([scaled, np.zeros_like(scaled[:1])])
        return scaled

    def _reading(self, what: str) -> AbstractContextManager[None]:
        return reading_raster(
            self.path, f"{what} of {self.name}", "it is damaged, truncated or no raster", CACHE_BYTES
        )

    def close_warped(self) -> None:
        """Forget the grid that it was laid on."""
        if self._warped is not None:
            self._warped.close()
            self._warped = None

    def close(self) -> None:
        """Close the file."""
        self.close_warped()
        self._dataset.close()


def _differs(values: NDArray[Any], first: NDArray[Any] | None) -> bool:
    """Whether values ``(C, N)`` of a band are not all one, namely ``first`` ``(C, 1)``."""
    return bool((values != (values[:, :1] if first is None else first)).any())


class SceneSource:
    """Sensors of one ground, on the grid of the first.

    The map has the first raster's extent and pixels; all others are laid on
    it, whatever their resolution and CRS, and are not valid beyond their edge.

    Parameters
    ----------
    paths
        Rasters by sensor, the one whose grid counts first.
    bands
        By sensor, up to three band numbers from 1.
    ranges
        By sensor, the values that become 0 and 1.

    Raises
    ------
    InputError
        If a raster cannot be read, has no place, or lies elsewhere.
    """

    def __init__(
        self,
        paths: Mapping[str, Path | str],
        bands: Mapping[str, Sequence[int]] | None = None,
        ranges: Mapping[str, Range] | None = None,
    ) -> None:
        if not paths:
            raise InputError("no raster was given; expected for example optical=o.tif sar=s.tif")
        self.sensors: dict[str, SensorRaster] = {}
        try:
            for name, path in paths.items():
                self.sensors[name] = SensorRaster(
                    name, path, (bands or {}).get(name), (ranges or {}).get(name)
                )
            self.map_grid: MapGrid = next(iter(self.sensors.values())).grid
            for sensor in self.sensors.values():
                sensor.lay_on(self.map_grid)
        except BaseException:
            self.close()
            raise

    @property
    def grid(self) -> Grid:
        """The map's grid, pixel centres; its frame is the CRS as WKT."""
        return Grid(
            self.map_grid.shape, to_centre_affine(self.map_grid.transform), self.map_grid.crs.to_wkt()
        )

    def read_sensors(self, window: Window) -> dict[str, Plane]:
        """Every sensor's part of a window; outside of the map nothing is valid."""
        return {name: sensor.read(window, self.map_grid) for name, sensor in self.sensors.items()}

    def read(self, window: Window) -> Block:
        """All sensors' channels one after another, valid where any sensor is."""
        planes = self.read_sensors(window).values()
        return Block(
            window,
            np.concatenate([plane.image for plane in planes]),
            np.logical_or.reduce([plane.valid for plane in planes]),
        )

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover the map, row by row, neighbours sharing ``overlap`` pixels."""
        for window in TileGrid.cover(self.map_grid.shape, size, overlap).windows():
            yield self.read(window)

    def overview(self, size: tuple[int, int]) -> dict[str, Plane]:
        """Every sensor, decimated to ``size``, for a picture."""
        return {name: sensor.overview(size) for name, sensor in self.sensors.items()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this stack, read in this way, from any other: for a journal."""
        return {
            "rasters": {name: _identity(sensor.path) for name, sensor in self.sensors.items()},
            "reading": {
                name: {"bands": list(sensor.bands), "range": list(sensor.limits)}
                for name, sensor in self.sensors.items()
            },
            "order": list(self.sensors),
        }

    def close(self) -> None:
        """Close all files."""
        for sensor in self.sensors.values():
            sensor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _identity(name: str) -> list[Any]:
    """Name, size, time and a digest of a file's content; the name alone of what is none."""
    path = Path(name)
    if not path.is_file():
        return [name]
    return [*file_facts(path), content_digest([path])]
