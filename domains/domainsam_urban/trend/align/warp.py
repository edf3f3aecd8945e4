"""Warp rasters to the common ground by windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.shutil import copy as gdal_copy
from rasterio.vrt import WarpedVRT

from domainsam.infer.blend import NODATA
from domainsam.io.cog import COPY_OPTIONS, KIND_OPTIONS
from domainsam.io.rasters import GDAL_OPTIONS, Handles, writing_raster
from domainsam.protocols import Window
from domainsam_urban.read.place import Place
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.stack import to_rasterio_window, write_ground

AVERAGE_FROM = 1.5
"""Pixels of the source in one of the ground, along a side, from which means are taken over them."""
WARP_PIXELS = 0.02
"""Greatest error of a warped position, in pixels; GDAL's own default is an eighth."""
WARP_MEGABYTES = 64


@contextmanager
def open_on_ground(
    dataset: Any, ground: CommonGround, nodata: float | None, shift: tuple[float, float] = (0.0, 0.0)
) -> Iterator[Any]:
    """An open raster as it looks on the ground; without ``nodata`` its last band is alpha.

    Parameters
    ----------
    shift
        Metres east and north by which the raster's content lies off, and is moved back.
    """
    ratio = ground.pixel_m / Place.of(dataset).pixel_metres()
    with WarpedVRT(
        dataset,
        crs=ground.crs,
        transform=Affine.translation(*shift) @ ground.affine,
        height=ground.height,
        width=ground.width,
        resampling=Resampling.average if ratio >= AVERAGE_FROM else Resampling.bilinear,
        tolerance=WARP_PIXELS,
        warp_mem_limit=WARP_MEGABYTES,
        **({"add_alpha": True} if nodata is None else {"src_nodata": nodata, "nodata": nodata}),
    ) as warped:
        yield warped


def warp_to_ground(
    source: Path, target: Path, ground: CommonGround, shift: tuple[float, float] = (0.0, 0.0)
) -> None:
    """Bring stored probabilities to the ground: means where the source is finer, else bilinear.

    Raises
    ------
    InputError
        If ``source`` cannot be read.
    OutputError
        If ``target`` cannot be written.
    """
    handles = Handles(source)
    try:
        with (
            handles.reading("its pixels") as dataset,
            open_on_ground(dataset, ground, NODATA, shift) as warped,
        ):
            write_ground(
                target,
                ground,
                lambda window: np.asarray(warped.read(1, window=to_rasterio_window(window)), np.uint8),
            )
    finally:
        handles.close()


def copy_as_cog(layer: Path, staged: Path, target: Path) -> None:
    """Write a layer as a Cloud-Optimised GeoTIFF to ``staged``, which will become ``target``.

    Raises
    ------
    OutputError
        If the disk refuses it.
    """
    with writing_raster(target), rasterio.Env(**GDAL_OPTIONS):
        gdal_copy(layer, staged, **COPY_OPTIONS, **KIND_OPTIONS["probability"])


def write_common_valid(layers: tuple[Path, ...], target: Path, ground: CommonGround) -> int:
    """Mark the pixels that every layer has data for; returns how many there are."""
    count = 0

    def seen_by_all(window: Window) -> NDArray[np.uint8]:
        nonlocal count
        seen = np.ones((window.height, window.width), dtype=bool)
        for path in layers:
            with rasterio.open(path) as dataset:
                seen &= dataset.read(1, window=to_rasterio_window(window)) != NODATA
        count += int(seen.sum())
        return seen.astype(np.uint8)

    write_ground(target, ground, seen_by_all, nodata=None)
    return count
