"""A stack of georeferenced sensors as blocks of one grid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from domainsam.errors import InputError
from domainsam.grid import Grid
from domainsam.infer.tiling import TileGrid
from domainsam.protocols import Block, Window
from domainsam_scene.modalities import Plane, Range
from domainsam_scene.rasters import MapGrid, SensorRaster


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
        transform = np.array(self.map_grid.transform, np.float64).reshape(3, 3)
        swap = np.array([[0, 1, 0.5], [1, 0, 0.5], [0, 0, 1]])
        return Grid(self.map_grid.shape, transform @ swap, self.map_grid.crs.to_wkt())

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
    """Name, size, time and the first bytes' digest of a file; the name alone of what is none."""
    path = Path(name)
    if not path.is_file():
        return [name]
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(1 << 16)).hexdigest()
    return [path.name, path.stat().st_size, path.stat().st_mtime_ns, digest]
