"""Georeferenced results as Cloud-Optimised GeoTIFFs with their colours and class names."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.shutil import copy as gdal_copy

from domainsam.errors import OutputError
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam.staging import into_place, make_scratch
from domainsam_scene.model.predict import NODATA
from domainsam_scene.read.images import open_quietly, quiet_rasterio

BLOCK = 512
COPY_OPTIONS = {"driver": "COG", "blocksize": BLOCK, "compress": "DEFLATE", "bigtiff": "IF_SAFER"}
GDAL_OPTIONS = {"GDAL_CACHEMAX": 128 * 2**20, "GDAL_NUM_THREADS": "ALL_CPUS"}
Colours = Mapping[int, tuple[int, int, int, int]]


@dataclass(frozen=True)
class MapLayout:
    """What a file says about itself beside its pixels.

    ``names`` are those of its bands. ``colours`` by value make it a map of
    classes, whose overviews are made by majority instead of by means.
    """

    transform: Affine
    crs: Any = None
    names: tuple[str, ...] = ("class",)
    colours: Colours | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class MapWriter:
    """A Cloud-Optimised GeoTIFF of bytes, 255 without data, that is written window by window.

    A :class:`domainsam.protocols.Writer`: bytes are staged beside the target
    and converted on leaving; after an exception nothing is left behind.

    Parameters
    ----------
    path
        The file to make.
    shape
        Rows and columns.
    layout
        What it says about itself.
    """

    def __init__(self, path: Path | str, shape: tuple[int, int], layout: MapLayout) -> None:
        self.path, self.shape, self.layout = Path(path), shape, layout

    def __enter__(self) -> Self:
        self._room = make_scratch(self.path)
        self._made = self._room / "plain.tif"
        rows, cols = self.shape
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": len(self.layout.names),
            "height": rows,
            "width": cols,
            "nodata": NODATA,
            "crs": self.layout.crs,
            "transform": self.layout.transform,
            "compress": "zstd",
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "bigtiff": "IF_SAFER",
            "sparse_ok": True,
        }
        try:
            with quiet_rasterio():
                self._dataset: Any = rasterio.open(self._made, "w", **profile)
            if self.layout.colours is not None:
                self._dataset.write_colormap(1, dict(self.layout.colours))
            self._dataset.descriptions = self.layout.names
            self._dataset.update_tags(**self.layout.tags)
        except (RasterioError, CPLE_BaseError, OSError) as error:
            shutil.rmtree(self._room, ignore_errors=True)
            raise _refused(self.path, error) from error
        return self

    def write(self, index: Window, values: NDArray[np.uint8]) -> None:
        """Write ``(h, w)``, or ``(bands, h, w)``; the window lies inside the map.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        window = ((index.row, index.row + index.height), (index.col, index.col + index.width))
        try:
            self._dataset.write(values if values.ndim == 3 else values[None], window=window)
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise _refused(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._dataset.close()
            if kind is None:
                self._convert()
        except (RasterioError, CPLE_BaseError) as refused:
            raise _refused(self.path, refused) from refused
        finally:
            shutil.rmtree(self._room, ignore_errors=True)

    def _convert(self) -> None:
        finished = self._room / "made.tif"
        resampling = "AVERAGE" if self.layout.colours is None else "MODE"
        try:
            with rasterio.Env(**GDAL_OPTIONS), quiet_rasterio():
                gdal_copy(self._made, finished, **COPY_OPTIONS, overview_resampling=resampling)
            into_place(finished, self.path)
        except OSError as error:
            raise _refused(self.path, error) from error


def write_staged(staged: Sequence[RawRaster], path: Path, layout: MapLayout) -> None:
    """Turn staged bytes, one file a band, into a Cloud-Optimised GeoTIFF, and read it back to be sure.

    Raises
    ------
    OutputError
        If it cannot be written; nothing is left behind then.
    """
    shape = staged[0].shape
    with MapWriter(path, shape, layout) as writer:
        for window in _rows(shape):
            writer.write(window, np.stack([band.read(window) for band in staged]))
    with open_quietly(path) as made:
        for window in _rows(shape):
            rows = ((window.row, window.row + window.height), (0, shape[1]))
            for number, band in enumerate(staged, start=1):
                if not np.array_equal(made.read(number, window=rows), band.read(window)):
                    raise OutputError(
                        f"cannot write {path}: rows {rows[0][0]} to {rows[0][1]} did not arrive intact; "
                        "check free space"
                    )


def _rows(shape: tuple[int, int]) -> list[Window]:
    return [Window(row, 0, min(BLOCK, shape[0] - row), shape[1]) for row in range(0, shape[0], BLOCK)]


def _refused(path: Path, error: BaseException) -> OutputError:
    reason = " ".join(str(error.__cause__ or error).split())[:160]
    return OutputError(f"cannot write {path}: {reason}; check free space and permissions")
