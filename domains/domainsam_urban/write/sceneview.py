"""Read a raster decimated for a picture, with its place on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from domainsam.errors import InputError
from domainsam.grid import Float64
from domainsam.io.rasters import open_raster
from domainsam.protocols import Window
from domainsam_urban.read.geodesy import apply_affine, find_geographic_crs, parse_crs
from domainsam_urban.write.polygons import PROBABILITY_STEPS

LARGEST_ZOOM = 4.0
PERCENTILES = (1.0, 99.0)
INVALID = 0.93
"""Grey of pixels that are not there."""


@dataclass(frozen=True, eq=False)
class View:
    """How the scene lies on the picture.

    ``size`` is ``(width, height)`` in picture pixels, stretched so that both
    axes show the same metres; ``to_picture`` maps CRS coordinates to picture
    pixels; ``metre`` is metres a picture pixel, None without a CRS; ``north``
    points ``(right, down)`` there.
    """

    size: tuple[int, int]
    to_picture: Affine
    metre: float | None
    pixel: float
    north: tuple[float, float] | None


def fit_view(shape: tuple[int, int], affine: Affine, crs: Any | None, room: tuple[float, float]) -> View:
    """The largest view of a raster of ``shape`` that fits into ``room``, width and height in picture pixels.

    Small rasters are enlarged no more than :data:`LARGEST_ZOOM` times.
    """
    rows, columns = shape
    metre = _ground_pixel(shape, affine, crs)
    wide, high = columns * metre[0], rows * metre[1]
    scale = min(room[0] / wide, room[1] / high)
    scale = min(scale, LARGEST_ZOOM / min(metre))
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    to_picture = Affine.scale(size[0] / columns, size[1] / rows) @ ~affine
    north = None if crs is None else _north(shape, affine, crs, to_picture)
    return View(size, to_picture, None if crs is None else wide / size[0], columns / size[0], north)


def _ground_pixel(shape: tuple[int, int], affine: Affine, crs: Any | None) -> tuple[float, float]:
    """Width and height in metres of the pixel in the middle; 1 and 1 without a CRS."""
    if crs is None:
        return 1.0, 1.0
    middle = np.array([shape[1] / 2, shape[0] / 2])
    lon, lat = _degrees(apply_affine(affine, middle + np.array([(0, 0), (1, 0), (0, 1)])), crs)
    _, _, length = parse_crs(crs).get_geod().inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
    return float(length[0]), float(length[1])


def _north(shape: tuple[int, int], affine: Affine, crs: Any, to_picture: Affine) -> tuple[float, float]:
    """Direction of true north on the picture, of length 1."""
    base, degrees = find_geographic_crs(crs)
    middle = np.array([affine @ (shape[1] / 2, shape[0] / 2)])
    lon, lat = _degrees(middle, crs)
    # A hundredth of a degree, towards the south and turned round where there is no more north.
    step = 0.01 if lat[0] < 89 else -0.01
    x, y = Transformer.from_crs(base, parse_crs(crs), always_xy=True).transform(
        lon / degrees, (lat + step) / degrees
    )
    here, there = (apply_affine(to_picture, point)[0] for point in (middle, np.column_stack((x, y))))
    arrow = (there - here) * math.copysign(1, step)
    length = math.hypot(*arrow)
    return float(arrow[0] / length), float(arrow[1] / length)


def _degrees(points: Float64, crs: Any) -> tuple[Float64, Float64]:
    base, degrees = find_geographic_crs(crs)
    lon, lat = Transformer.from_crs(parse_crs(crs), base, always_xy=True).transform(
        points[:, 0], points[:, 1]
    )
    return np.asarray(lon) * degrees, np.asarray(lat) * degrees


def read_scene_picture(
    dataset: Any, bands: tuple[int, ...] | None, size: tuple[int, int], window: Window | None = None
) -> Float64:
    """A window of the scene, or all of it, ``(height, width, 3)`` in 0..1, stretched between percentiles."""
    chosen = bands or ((1, 2, 3) if dataset.count >= 3 else (1,))
    if not set(chosen) <= set(range(1, dataset.count + 1)):
        raise InputError(f"bands {chosen} of '{dataset.name}': it has bands 1 to {dataset.count}")
    chosen = tuple(chosen[:3]) if len(chosen) >= 3 else (chosen[0],) * 3
    # A scene smaller than the picture is enlarged by the drawing, not by the reading.
    window = window or Window(0, 0, *dataset.shape)
    shape = min(size[1], window.height), min(size[0], window.width)
    part = RasterWindow(window.col, window.row, window.width, window.height)
    try:
        values = dataset.read(
            list(chosen),
            window=part,
            out_shape=(3, *shape),
            resampling=Resampling.average,
            out_dtype="float32",
        )
        valid = dataset.dataset_mask(out_shape=shape, window=part) > 0
    except RasterioError as error:
        raise InputError(f"'{dataset.name}' is damaged: {error}; fetch it again") from error
    valid &= np.isfinite(values).all(axis=0)
    # 8-bit scenes come colour-balanced, and one range for all bands keeps them so.
    joint = np.dtype(dataset.dtypes[0]) == np.uint8
    shown = np.full((*shape, 3), INVALID)
    for channel, band in enumerate(values):
        if valid.any():
            low, high = np.percentile(values[:, valid] if joint else band[valid], PERCENTILES)
            stretched = (band[valid] - low) / max(high - low, 1e-6)
            shown[valid, channel] = np.clip(stretched, 0, 1)
    return shown


def read_probability_picture(path: Path | str, size: tuple[int, int]) -> Any:
    """Probability ``(height, width)`` in 0..1, masked where there is none."""
    with open_raster(path) as dataset:
        shape = min(size[1], dataset.height), min(size[0], dataset.width)
        try:
            raw = dataset.read(1, out_shape=shape, resampling=Resampling.average, masked=True)
        except RasterioError as error:
            raise InputError(f"probability '{path}' is damaged: {error}; make it again") from error
    if raw.dtype != np.uint8:
        return np.ma.masked_invalid(raw)
    return np.ma.masked_equal(raw, 255) / PROBABILITY_STEPS
