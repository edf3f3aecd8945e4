"""Cut the wanted part out of a scene: a box or polygons as a window and a mask."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError
from rasterio import features

from domainsam.errors import ConfigError, InputError
from domainsam.io.rasters import silence_rasterio
from domainsam.protocols import Window
from domainsam_urban.read.geodesy import apply_affine, parse_crs
from domainsam_urban.read.layers import read_polygons
from domainsam_urban.read.place import Place, to_extent
from domainsam_urban.settings import ReadOptions

SIDE_PARTS = 32
"""Straight sides of a box bend when they go to another CRS; so many pieces follow the bend."""

EDGE = 1e-4
"""Pixels; an area that ends on the edge of a pixel does not reach into the next one for rounding's sake."""


@dataclass(frozen=True, eq=False)
class PixelArea:
    """Wanted ground in a scene's pixels.

    ``window`` holds all of it; ``shapes`` are polygons in pixel corners, x
    being the column. A pixel is wanted where its centre lies inside one.
    """

    window: Window
    shapes: NDArray[Any]

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.shapes)

    def inside(self, rows: tuple[int, int], cols: tuple[int, int]) -> NDArray[np.bool_]:
        """Wanted pixels ``(h, w)`` among some rows and columns of the scene, first and end."""
        size = (rows[1] - rows[0], cols[1] - cols[0])
        tile = shapely.box(cols[0], rows[0], cols[1], rows[1])
        near = self._tree.query(tile, predicate="intersects")
        if not len(near):
            return np.zeros(size, dtype=bool)
        if shapely.covers(self.shapes[near], tile).any():
            return np.ones(size, dtype=bool)
        corner = Affine.translation(cols[0], rows[0])
        with silence_rasterio():
            burnt = features.rasterize(self.shapes[near], size, transform=corner, dtype="uint8")
        return np.asarray(burnt > 0)

    def meets(self, shape: tuple[int, int]) -> bool:
        """Whether any of it lies on a scene of so many rows and columns."""
        scene = shapely.box(0, 0, shape[1], shape[0])
        return min(self.window.height, self.window.width) > 0 and bool(
            len(self._tree.query(scene, predicate="intersects"))
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the shapes."""
        return hashlib.sha256(b"".join(shapely.to_wkb(self.shapes))).hexdigest()


@dataclass(frozen=True, eq=False)
class WantedArea:
    """Polygons (a GeoSeries) that a person wants mapped; without CRS they are in the scene's own."""

    name: str
    polygons: Any

    def on(self, path: str, place: Place) -> PixelArea:
        """The area in the pixels of a scene.

        Raises
        ------
        InputError
            If it cannot be brought to the scene's CRS, or does not meet the scene.
        """
        shapes = self._in_crs_of(path, place)
        extent = shapely.total_bounds(shapes)
        pixels = shapely.transform(shapes, lambda points: apply_affine(~place.affine, points))
        left, top, right, bottom = shapely.total_bounds(pixels)
        rows = max(0, math.floor(top + EDGE)), min(place.shape[0], math.ceil(bottom - EDGE))
        cols = max(0, math.floor(left + EDGE)), min(place.shape[1], math.ceil(right - EDGE))
        area = PixelArea(Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0]), pixels)
        if not area.meets(place.shape):
            raise InputError(
                f"{path}: {self.name} does not overlap it; in the scene's CRS it covers "
                f"{to_extent(extent)}, the scene {to_extent(place.bounds)}"
            )
        return area

    def _in_crs_of(self, path: str, place: Place) -> NDArray[Any]:
        if self.polygons.crs is None:
            return np.asarray(self.polygons.values, dtype=object)
        if place.crs is None:
            raise InputError(
                f"{path}: has no CRS, so {self.name} cannot be laid on it; give --bbox in its own units"
            )
        shapes = np.asarray(self.polygons.to_crs(parse_crs(place.crs)).values, dtype=object)
        if not np.isfinite(shapely.total_bounds(shapes)).all():
            raise InputError(f"{path}: {self.name} lies where the scene's CRS is not defined; check both")
        return shapes


def find_wanted_area(read: ReadOptions) -> WantedArea | None:
    """The area that options ask for; None for whole scenes.

    Raises
    ------
    ConfigError
        If the box is impossible, or its CRS unknown, or there are both box and layer.
    InputError
        If the layer cannot be read or holds no polygon.
    """
    if read.aoi is not None:
        if read.bbox is not None:
            raise ConfigError("--bbox and --aoi were both given: choose one")
        polygons, _ = read_polygons(read.aoi)
        if not len(polygons):
            raise InputError(f"'{read.aoi}' is empty: expected polygons of the area to map")
        return WantedArea(f"area '{read.aoi.name}'", polygons)
    if read.bbox is None:
        if read.bbox_crs is not None:
            raise ConfigError("--bbox-crs was given without --bbox")
        return None
    west, south, east, north = read.bbox
    words = ",".join(f"{value:g}" for value in read.bbox)
    if not (west < east and south < north and np.isfinite(read.bbox).all()):
        raise ConfigError(
            f"--bbox {words} is no box: expected west,south,east,north with west < east, south < north"
        )
    try:
        crs = None if read.bbox_crs is None else CRS.from_user_input(read.bbox_crs)
    except ProjError as error:
        raise ConfigError(f"--bbox-crs '{read.bbox_crs}' is unknown: give one such as EPSG:4326") from error
    box = shapely.box(west, south, east, north)
    if crs is not None:
        box = shapely.segmentize(box, max(east - west, north - south) / SIDE_PARTS)
    return WantedArea(f"box {words}", gpd.GeoSeries([box], crs=crs))
