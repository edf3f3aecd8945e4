"""Small stacks of years with known content."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import ArrayLike

from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.stack import YearLayer, YearStack

BEIJING = (116.39, 39.91)
LEVEL = 127
"""Stored value of probability one half."""


def laea_ground(height: int, width: int, pixel: float = 2.0) -> CommonGround:
    """A ground centred on Beijing."""
    lon, lat = BEIJING
    wkt = pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m").to_wkt()
    corner = Affine.translation(-width * pixel / 2, height * pixel / 2)
    return CommonGround(wkt, corner @ Affine.scale(pixel, -pixel), width, height, pixel)


def write_layer(path: Path, values: ArrayLike, ground: CommonGround, nodata: int | None = 255) -> Path:
    """Bytes ``(rows, columns)`` on a ground as a tiled GeoTIFF."""
    pixels = np.asarray(values, dtype=np.uint8)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        dtype="uint8",
        height=ground.height,
        width=ground.width,
        crs=ground.crs,
        transform=ground.affine,
        nodata=nodata,
        tiled=True,
        blockxsize=512,
        blockysize=512,
    ) as dataset:
        dataset.write(pixels, 1)
    return path


def _shape(values: np.ndarray) -> tuple[int, int]:
    height, width = values.shape
    return height, width


def year_stack(
    folder: Path,
    years: Mapping[int, ArrayLike],
    pixel: float = 2.0,
    smoothed: Mapping[int, ArrayLike] | None = None,
) -> YearStack:
    """A stack from stored values ``(rows, columns)`` by year: 0 to 254, 255 without data."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {year: np.asarray(values, dtype=np.uint8) for year, values in sorted(years.items())}
    ground = laea_ground(*_shape(next(iter(arrays.values()))), pixel)
    layers = []
    for year, values in arrays.items():
        path = write_layer(folder / f"{year}.tif", values, ground)
        other = None
        if smoothed is not None:
            other = write_layer(folder / f"{year}_smoothed.tif", smoothed[year], ground)
        moment = datetime(year, 7, 1, tzinfo=UTC)
        layers.append(YearLayer(str(year), moment, f"{year}.tif", path, smoothed=other))
    valid = np.logical_and.reduce([values != 255 for values in arrays.values()])
    valid_path = write_layer(folder / "valid.tif", valid, ground, nodata=None)
    return YearStack(ground, tuple(layers), valid_path, LEVEL)


def from_masks(folder: Path, years: Mapping[int, ArrayLike], pixel: float = 2.0) -> YearStack:
    """A stack that is sure of itself: true where the masks are."""
    sure = {year: np.where(np.asarray(mask), 254, 0) for year, mask in years.items()}
    return year_stack(folder, sure, pixel)
