"""Warp rasters to the common ground by windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.shutil import copy as gdal_copy
from rasterio.vrt import WarpedVRT
from scipy import ndimage

from domainsam.infer.blend import NODATA, clip_window, slice_within
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
LEAST_COMPARED = 0.5
"""Share of what all layers have seen that has to be left where ground beside their edges is not compared."""


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


@dataclass(frozen=True)
class CommonSeen:
    """How many pixels every layer has data for, and how many of them are compared."""

    seen: int
    compared: int


def write_common_valid(
    layers: tuple[Path, ...], target: Path, ground: CommonGround, reach: int = 0
) -> CommonSeen:
    """Mark the pixels that are compared: every layer has data for them, and its answers saw the same around.

    Where one layer ends and another goes on, an object is cut in one of them
    and whole in the other, and a network answers otherwise for lack of what
    lies beyond. Within ``reach`` of such ground answers are not compared.
    Holes narrower than half of that count as seen around, because they are
    filled from their rims; and where most of the ground would go, none does.

    Parameters
    ----------
    reach
        Pixels of the ground from which an answer takes its context; 0 for masks of other makers.
    """
    found = _write_compared(layers, target, ground, reach)
    if reach and found.compared < LEAST_COMPARED * found.seen:
        return _write_compared(layers, target, ground, 0)
    return found


def _write_compared(layers: tuple[Path, ...], target: Path, ground: CommonGround, reach: int) -> CommonSeen:
    seen = compared = 0

    def mark(window: Window) -> NDArray[np.uint8]:
        nonlocal seen, compared
        whole = clip_window(_grow(window, 2 * reach), (0, ground.height), (0, ground.width))
        inside = slice_within(window, (whole.row, whole.col))
        everywhere, anywhere = _read_seen(layers, whole)
        kept = everywhere & ~find_near(anywhere & ~everywhere, reach) if reach else everywhere
        seen += int(everywhere[inside].sum())
        compared += int(kept[inside].sum())
        return kept[inside].astype(np.uint8)

    write_ground(target, ground, mark, nodata=None)
    return CommonSeen(seen, compared)


def _grow(window: Window, by: int) -> Window:
    return Window(window.row - by, window.col - by, window.height + 2 * by, window.width + 2 * by)


def _read_seen(layers: tuple[Path, ...], window: Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where every layer has data, and where any has."""
    everywhere = np.ones((window.height, window.width), dtype=bool)
    anywhere = np.zeros_like(everywhere)
    for path in layers:
        with rasterio.open(path) as dataset:
            here = dataset.read(1, window=to_rasterio_window(window)) != NODATA
        everywhere &= here
        anywhere |= here
    return everywhere, anywhere


def find_near(places: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Pixels within ``reach`` of places half as wide or more, ``(h, w)``; they go on where the array ends."""
    if not places.any():
        return places
    half = max(1, reach // 4)
    padded = np.pad(places, half, mode="edge")
    core = ndimage.distance_transform_cdt(padded, metric="chessboard") > half
    # What is left of an opening with a square; its distance is half a width more than the place's own.
    core = core[half:-half, half:-half]
    if not core.any():
        return core
    return np.asarray(ndimage.distance_transform_edt(~core) <= reach + half)
