"""Scenes in the order in which they are merged, where they have data, and which of them meet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.reading import reading
from domainsam_urban.job import ScenePlan
from domainsam_urban.read.geodesy import convert_edge_length, parse_crs
from domainsam_urban.read.place import Place
from domainsam_urban.write.seams import Ground, make_ground

DEGREES = "EPSG:4326"
WORLD = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Scenes in the order in which they are merged, and where they lie in the plane of the merged layer.

    ``pixel`` is that of the coarsest of them in metres, ``tolerance`` the same in that plane; ``near`` holds
    pairs of scenes, the lower number first, that overlap or touch.
    """

    plans: Sequence[ScenePlan]
    grounds: Sequence[Ground]
    crs: Any
    pixel: float
    tolerance: float
    near: NDArray[np.int64]

    def list_neighbours(self, scene: int) -> list[int]:
        """Numbers of the scenes that overlap or touch one."""
        pairs = self.near[(self.near == scene).any(axis=1)]
        return [int(other) for other in pairs.ravel() if other != scene]


def order_scenes(plans: Sequence[ScenePlan], resolution: float | None) -> Neighbourhood:
    """Scenes along a Hilbert curve, with their ground in one plane: their CRS, or degrees if that differs.

    Raises
    ------
    InputError
        If an item cannot be read, or has no place.
    """
    seen, places = zip(*map(read_footprint, plans), strict=True) if plans else ((), ())
    codes = {parse_crs(place.crs) for place in places}
    crs = codes.pop() if len(codes) == 1 else parse_crs(DEGREES)
    pixel = max([resolution or 0.0, *(place.pixel_metres() for place in places)])
    shapes = gpd.GeoSeries(list(seen), crs=DEGREES)
    order = np.argsort(_along_curve(shapes), kind="stable")
    tolerance = convert_edge_length(crs, pixel)
    grounds = [make_ground(shape) for shape in shapes.iloc[order].to_crs(crs)]
    outlines = np.array([ground.seen for ground in grounds], dtype=object)
    near = np.empty((0, 2), dtype=np.int64)
    if len(outlines):
        near = shapely.STRtree(outlines).query(outlines, predicate="dwithin", distance=2 * tolerance).T
        near = near[near[:, 0] < near[:, 1]]
        near = near[np.lexsort((near[:, 1], near[:, 0]))]
    return Neighbourhood([plans[number] for number in order], grounds, crs, pixel, tolerance, near)


def _along_curve(shapes: gpd.GeoSeries) -> NDArray[Any]:
    distance: NDArray[Any] = shapes.hilbert_distance(total_bounds=WORLD).to_numpy()
    return distance


def read_footprint(plan: ScenePlan) -> tuple[Any, Place]:
    """Where a scene has data, in degrees, and its grid, by its STAC item.

    Raises
    ------
    InputError
        If the item cannot be read, or the scene has no CRS.
    """
    assert plan.stac is not None
    with reading(plan.stac, "a STAC item"):
        item = json.loads(plan.stac.read_text(encoding="utf-8"))
        properties = item["properties"]
        crs = properties["proj:code"] or properties.get("proj:wkt2")
        if item["geometry"] is None or crs is None:
            raise InputError(f"{plan.source}: has no CRS, so it has no place among others: leave out --merge")
        shape = shapely.from_geojson(json.dumps(item["geometry"]))
        rows, cols = properties["proj:shape"]
        return shape, Place((rows, cols), Affine(*properties["proj:transform"][:6]), parse_crs(crs))
