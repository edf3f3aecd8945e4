"""Scenes as files: drawn rasters and mosaics of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from domainsam.protocols import Window
from domainsam_urban.read.scene import RasterSource

UTM = "EPSG:32633"
PLACE = Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 5_400_000.0)


def save(path: Path, values: NDArray[Any], transform: Affine | None = PLACE, **profile: Any) -> Path:
    colours = profile.pop("colours", None)
    mask = profile.pop("mask", None)
    count, height, width = values.shape
    profile = {"crs": UTM, "driver": "GTiff", **profile}
    if transform is not None:
        profile["transform"] = transform
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=values.dtype, **profile
    ) as dataset:
        if colours:
            dataset.colorinterp = colours
        dataset.write(values)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def ramp(count: int, height: int = 60, width: int = 80, dtype: str = "uint8") -> NDArray[Any]:
    rng = np.random.default_rng(count)
    return rng.integers(1, 200, (count, height, width)).astype(dtype)


def whole(source: RasterSource) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    block = source.read(Window(0, 0, *source.grid.shape))
    return block.image, block.valid


def mosaic(parts: list[Path]) -> str:
    """A VRT over equally sized north-up parts."""
    opened = []
    for part in parts:
        with rasterio.open(part) as dataset:
            opened.append((part, dataset.bounds, dataset.shape, dataset.crs.to_wkt(), dataset.transform))
    pixel = opened[0][4].a
    left, top = min(item[1].left for item in opened), max(item[1].top for item in opened)
    right, bottom = max(item[1].right for item in opened), min(item[1].bottom for item in opened)
    size = round((right - left) / pixel), round((top - bottom) / pixel)
    bands = []
    for band, colour in enumerate(("Red", "Green", "Blue"), start=1):
        sources = "".join(
            f'<ComplexSource><SourceFilename relativeToVRT="0">{part}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{shape[1]}" ySize="{shape[0]}"/>'
            f'<DstRect xOff="{round((bounds.left - left) / pixel)}" '
            f'yOff="{round((top - bounds.top) / pixel)}" '
            f'xSize="{shape[1]}" ySize="{shape[0]}"/></ComplexSource>'
            for part, bounds, shape, _, _ in opened
        )
        bands.append(
            f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>0</NoDataValue>'
            f"<ColorInterp>{colour}</ColorInterp>{sources}</VRTRasterBand>"
        )
    return (
        f'<VRTDataset rasterXSize="{size[0]}" rasterYSize="{size[1]}"><SRS>{opened[0][3]}</SRS>'
        f"<GeoTransform>{left},{pixel},0,{top},0,{-pixel}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
