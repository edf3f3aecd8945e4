"""Polygons of scenes as rows of the merged layer: as they are read, and where several became one object."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.io.vectors import read_table
from domainsam_urban.job import ScenePlan
from domainsam_urban.settings import SETTLEMENTS
from domainsam_urban.write.polygons import COLUMNS

SCENES = "scenes"
"""Column that counts the scenes that an object was seen in."""
_TEXT = ("class", "source", "model", "method")


def read_scene(plan: ScenePlan, crs: Any) -> gpd.GeoDataFrame:
    """A scene's polygons in the merged layer's plane.

    Raises
    ------
    InputError
        If they cannot be read, or have no CRS.
    """
    path = plan.vectors[0]
    table = read_table(path, layer=SETTLEMENTS if path.suffix.lower() == ".gpkg" else None)
    if not len(table):
        return make_empty(crs)
    if table.crs is None:
        raise InputError(f"{path}: has no CRS, so it has no place among others: leave out --merge")
    table = table.to_crs(crs)
    shapes = table.geometry.to_numpy()
    wrong = ~shapely.is_valid(shapes)
    if wrong.any():
        shapes[wrong] = shapely.make_valid(shapes[wrong], method="structure", keep_collapsed=False)
        table = table.set_geometry(gpd.GeoSeries(shapes, index=table.index, crs=crs))
    return _with_types(table.assign(**{SCENES: np.int64(1)}))


def make_empty(crs: Any) -> gpd.GeoDataFrame:
    """No rows, with the columns and types of all others."""
    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, SCENES)}
    return _with_types(gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries([], crs=crs)))


def describe_joined(table: gpd.GeoDataFrame, shapes: NDArray[np.object_], scenes: int) -> gpd.GeoDataFrame:
    """Rows for the parts of an object: those of the largest polygon, with all sources and mean confidence."""
    weights = shapely.area(table.geometry.to_numpy())
    rows = table.iloc[[int(weights.argmax())] * len(shapes)].reset_index(drop=True)
    confidence = table["confidence"].to_numpy(dtype=np.float64)
    known = np.isfinite(confidence)
    mean = float(np.average(confidence[known], weights=weights[known])) if known.any() else np.nan
    source = ", ".join(dict.fromkeys(str(name) for name in table["source"]))
    rows = rows.assign(confidence=mean, source=source)
    rows[SCENES] = np.int64(scenes)
    return rows.set_geometry(gpd.GeoSeries(list(shapes), crs=table.crs))


def _with_types(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The columns of a scene's polygons with types that do not depend on whether they hold anything."""
    table = table.reindex(columns=[*COLUMNS, SCENES, "geometry"])
    moments = pd.to_datetime(table["datetime"], utc=True).astype("datetime64[ms, UTC]")
    texts = {name: table[name].astype("str") for name in _TEXT}
    numbers = {
        name: table[name].astype(np.float64) for name in ("confidence", "area_m2", "area_ha", "perimeter_m")
    }
    whole = {name: table[name].astype(np.int64) for name in ("id", SCENES)}
    return table.assign(datetime=moments, **texts, **numbers, **whole)
