"""Where a scene has data, as the outline that its STAC item states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from rasterio import features

from domainsam.infer.blend import NODATA
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam_urban.read.geodesy import parse_crs

CELLS = 512
"""Cells along the longer side of a scene that an outline of its data is drawn with."""
ALL = 0.999
"""A scene that has data on this share of its outline has it everywhere: the rest is the raster's edge."""
_SIMPLER = 0.75
"""Cells by which an outline may be simplified: steps of one cell become slopes."""


def outline_data(staged: Path, shape: tuple[int, int], affine: Affine, crs: Any, outline: Any) -> Any:
    """The part of ``outline`` that holds data, as longitude and latitude.

    Parameters
    ----------
    staged
        Bytes of the scene's answer, 255 where there is no data.
    shape, affine, crs
        Of that file: rows and columns, corners of pixels to the CRS.
    outline
        Polygon of the whole raster, in WGS 84 longitude and latitude.

    Returns
    -------
    ``outline`` itself where there is data throughout, or nowhere; otherwise a polygon or several. A cell
    (:data:`CELLS`) counts as data if one of its pixels is.
    """
    side = max(1, -(-max(shape) // CELLS))
    rows, cols = (-(-length // side) for length in shape)
    seen = np.zeros((rows, cols), dtype=np.uint8)
    with RawRaster.open(staged, shape) as raster:
        for row in range(rows):
            band = raster.read(Window(row * side, 0, side, cols * side)) != NODATA
            seen[row] = band.reshape(band.shape[0], cols, side).any(axis=(0, 2))
    if seen.all() or not seen.any():
        return outline
    found = features.shapes(seen, mask=seen, transform=affine @ Affine.scale(side), connectivity=4)
    cells = [_from_geojson(shape) for shape, _ in found]
    step = side * abs(affine.determinant) ** 0.5
    drawn = shapely.simplify(shapely.union_all(cells), _SIMPLER * step)
    part = shapely.intersection(_to_degrees(drawn, crs), outline)
    if shapely.area(part) >= ALL * shapely.area(outline):
        return outline
    polygons = [one for one in shapely.get_parts(part) if shapely.area(one) > 0]
    whole = polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
    return shapely.orient_polygons(whole, exterior_cw=False) if polygons else outline


def _from_geojson(shape: dict[str, Any]) -> Any:
    outer, *holes = shape["coordinates"]
    return shapely.Polygon(outer, holes)


def _to_degrees(polygons: Any, crs: Any) -> Any:
    from pyproj import Transformer

    there = Transformer.from_crs(parse_crs(crs), "EPSG:4326", always_xy=True)
    bent = shapely.segmentize(polygons, max(shapely.length(polygons) / 256, 1e-9))
    moved = shapely.transform(bent, lambda xy: np.round(np.column_stack(there.transform(*xy.T)), 7))
    return moved if shapely.is_valid(moved) else shapely.make_valid(moved, method="structure")
