"""Your own georeferenced rasters: one folder a sensor, labels as a raster of class numbers.

::

    root/optical/a.tif  root/sar/a.tif  root/labels/a.tif   and labels.txt, val.txt as in plain folders

Sensors and labels may differ in resolution, extent and CRS: they are laid on
the camera's grid (``rgb``, ``image`` or ``optical``, else the first sensor by
name), labels by the nearest pixel. A raster is as many samples as windows of
the model's own size cover it, so that the network sees the ground at the scale
at which ``scene segment --geotiff`` will show it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from domainsam.errors import InputError
from domainsam.infer.blend import clip_window, slice_within
from domainsam.io.rasters import open_quietly, reading_raster
from domainsam.protocols import Window
from domainsam_scene.read.layouts.base import IGNORE, Labels, SampleRef, check_labels
from domainsam_scene.read.layouts.plain import MOST_CLASSES, PlainLayout
from domainsam_scene.read.modalities import Plane
from domainsam_scene.read.rasters import CACHE_BYTES, TOLERANCE_PX, MapGrid, SensorRaster
from domainsam_scene.read.registration import choose_reference
from domainsam_scene.settings import Range

KEPT = 32
"""Rasters that stay open."""


class GeorasterLayout(PlainLayout):
    """Plain folders of georeferenced rasters, in windows.

    Parameters
    ----------
    side
        Side of a window in pixels of the camera's raster.
    bands
        By sensor, up to three band numbers from 1.
    """

    name = "geotiff"

    def __init__(self, side: int, bands: Mapping[str, tuple[int, ...]] | None = None) -> None:
        super().__init__()
        self.side, self.bands = side, dict(bands or {})
        self._open: OrderedDict[tuple[str, Path, Range | None], SensorRaster] = OrderedDict()
        # Rasters are not to be read by two threads at a time.
        self._lock = threading.Lock()

    def samples(self, root: Path, split: str | None) -> tuple[SampleRef, ...]:
        """Every window of every raster; of labelled ones those that have a label."""
        whole = super().samples(root, split)
        known = {name for ref in whole for name in ref.files}
        if strangers := [name for name in self.bands if name not in known]:
            raise InputError(f"{root}: --bands names {', '.join(strangers)}, which has no folder there")
        return tuple(part for ref in whole for part in self._windows(ref))

    def _windows(self, ref: SampleRef) -> Iterator[SampleRef]:
        grid = self._grid(ref)
        for row in range(0, grid.shape[0], self.side):
            for col in range(0, grid.shape[1], self.side):
                part = replace(
                    ref, name=f"{ref.name}/r{row}c{col}", window=Window(row, col, self.side, self.side)
                )
                if ref.truth is None or (self.read_labels(part) != IGNORE).any():
                    yield part

    def read_plane(self, ref: SampleRef, modality: str, limits: Range | None) -> Plane:
        """One sensor's part of a window, laid on the camera's grid."""
        assert ref.window is not None
        grid = self._grid(ref)
        with self._lock:
            return self._laid(modality, ref.files[modality][0], limits, grid).read(ref.window, grid)

    def read_labels(self, ref: SampleRef) -> Labels:
        """Class numbers of a window, 255 beyond the labels' edge and where they are nodata."""
        assert ref.window is not None
        if ref.truth is None:
            return super().read_labels(ref)
        grid = self._grid(ref)
        found = np.full((ref.window.height, ref.window.width), IGNORE, np.uint8)
        part = clip_window(ref.window, (0, grid.shape[0]), (0, grid.shape[1]))
        rows, cols = (part.row, part.row + part.height), (part.col, part.col + part.width)
        with self._lock, _reading(ref.truth), open_quietly(ref.truth) as dataset:
            if dataset.crs is None or dataset.count != 1 or np.dtype(dataset.dtypes[0]).kind not in "ui":
                raise InputError(
                    f"{ref.truth}: has {dataset.count} bands of {dataset.dtypes[0]} and CRS {dataset.crs}, "
                    "expected one band of whole class numbers with a CRS"
                )
            with WarpedVRT(
                dataset,
                crs=grid.crs,
                transform=grid.transform,
                height=grid.shape[0],
                width=grid.shape[1],
                resampling=Resampling.nearest,
                add_alpha=True,
                tolerance=TOLERANCE_PX,
            ) as laid:
                numbers = laid.read(1, window=(rows, cols)).astype(np.int64)
                known = laid.read(laid.count, window=(rows, cols)) > 0
                if dataset.nodata is not None:
                    known &= numbers != dataset.nodata
        numbers[~known] = IGNORE
        found[slice_within(part, (ref.window.row, ref.window.col))] = check_labels(
            numbers, len(self.labels) or MOST_CLASSES, ref.truth
        )
        return found

    def _grid(self, ref: SampleRef) -> MapGrid:
        """The grid that a raster's samples are on."""
        camera = choose_reference(ref.files)
        with self._lock:
            return self._laid(camera, ref.files[camera][0], (0.0, 1.0), None).grid

    def _laid(self, name: str, path: Path, limits: Range | None, grid: MapGrid | None) -> SensorRaster:
        """A raster that stays open, on a grid; for who holds the lock."""
        key = (name, path, limits)
        raster = self._open.pop(key, None)
        if raster is None:
            bands = self.bands.get(name)
            raster = SensorRaster(name, path, bands, limits)
            if grid is not None:
                if raster.is_blank():
                    raster.close()
                    raise InputError(f"{path}: {name} delivered nothing (one value everywhere)")
                raster.lay_on(grid)
        self._open[key] = raster
        if len(self._open) > KEPT:
            self._open.popitem(last=False)[1].close()
        return raster


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading_raster(str(path), "its labels", "it is damaged, truncated or no raster", CACHE_BYTES)
