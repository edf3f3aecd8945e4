"""Change objects as one GeoPackage: a layer of changes, a layer for each year, and their styles."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam_urban.trend.ground import HECTARE
from domainsam_urban.trend.measure.lineage import PRESENT, Settlement
from domainsam_urban.trend.measure.objects import ChangeObjects, find_place
from domainsam_urban.trend.read.zones import WHOLE, Zoning
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.write.charts import STATUS_COLOURS
from domainsam_urban.write.styles import SETTLEMENT, Fill, make_category_qml, store_default_styles
from domainsam_urban.write.vectors import writing_vectors

CHANGE = "change"
STATUS_FILLS: Mapping[str, Fill] = {
    status: Fill(colour, 0.45, colour, 0.4) for status, colour in STATUS_COLOURS.items()
}


def write_geopackage(
    staged: Path, target: Path, stack: YearStack, found: ChangeObjects, zonings: Sequence[Zoning]
) -> None:
    """Write all layers and their QGIS styles to a file that does not exist yet.

    Raises
    ------
    OutputError
        If the disk refuses it, or holds fewer rows afterwards than it was given.
    """
    layers = {CHANGE: make_change_layer(stack, found, zonings)}
    for index, year in enumerate(stack.years):
        layers[name_year_layer(year.label)] = make_year_layer(stack, found, index, zonings)
    with writing_vectors(target):
        for name, table in layers.items():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="'crs' was not provided")
                table.to_file(
                    staged, layer=name, driver="GPKG", engine="pyogrio", geometry_type="MultiPolygon",
                    promote_to_multi=True, append=staged.exists(),
                )  # fmt: skip
            if pyogrio.read_info(staged, layer=name, force_feature_count=True)["features"] != len(table):
                raise OutputError(f"'{target}' lacks rows of layer {name}: free some space and run again")
        present = make_category_qml("status", {PRESENT: SETTLEMENT, **STATUS_FILLS})
        styles = dict.fromkeys(layers, present) | {CHANGE: make_category_qml("status", STATUS_FILLS)}
        store_default_styles(staged, styles)


def name_year_layer(label: str) -> str:
    """Layer of a year: ``year_2016``, ``year_2016_05``."""
    return "year_" + re.sub(r"\W+", "_", label)


def make_change_layer(stack: YearStack, found: ChangeObjects, zonings: Sequence[Zoning]) -> Any:
    """A row for each settlement (GeoDataFrame), as large as it was in all years together.

    ``delta_ha`` is the last year's area less the first year's, 0 standing for
    a year that lacks it. ``origin`` is the settlement that it split from,
    ``heir`` the one it merged into, 0 for none.
    """
    area = _areas(stack, found)
    shapes = np.empty(len(found.settlements), dtype=object)
    for index, settlement in enumerate(found.settlements):
        shapes[index] = _footprint(found, settlement)
    columns: dict[str, Any] = {
        "id": np.array([s.id for s in found.settlements], dtype=np.int64),
        "status": pd.Series(found.statuses, dtype="str"),
        "first_seen": pd.Series([stack.labels[s.first] for s in found.settlements], dtype="str"),
        "last_seen": pd.Series([stack.labels[s.last] for s in found.settlements], dtype="str"),
    }
    for index, year in enumerate(stack.years):
        columns[f"area_ha_{re.sub(r'[^0-9A-Za-z]+', '_', year.label)}"] = area[:, index]
    columns |= {
        "delta_ha": area[:, -1] - area[:, 0],
        "delta_m2": (area[:, -1] - area[:, 0]) * HECTARE,
        "origin": np.array([s.origin or 0 for s in found.settlements], dtype=np.int64),
        "heir": np.array([s.heir or 0 for s in found.settlements], dtype=np.int64),
        "history": pd.Series([_history(stack, s) for s in found.settlements], dtype="str"),
        **_places(shapes, zonings),
    }
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=pyproj.CRS.from_wkt(stack.ground.wkt))


def make_year_layer(stack: YearStack, found: ChangeObjects, year: int, zonings: Sequence[Zoning]) -> Any:
    """A row for each settlement of a year (GeoDataFrame).

    ``status`` is against the year before, ``present`` in the first;
    ``delta_ha`` likewise, missing in the first.
    """
    objects, owners = found.years[year], found.owners(year)
    area = _areas(stack, found)
    settlements = [found.settlements[owner] for owner in owners]
    before = area[owners, year - 1] if year else np.full(len(owners), np.nan)
    own = stack.years[year]
    columns = {
        "id": np.array([s.id for s in settlements], dtype=np.int64),
        "year": pd.Series([own.label] * len(owners), dtype="str"),
        "status": pd.Series([s.events[year] for s in settlements], dtype="str"),
        "confidence": objects.mean,
        "area_m2": area[owners, year] * HECTARE,
        "area_ha": area[owners, year],
        "delta_ha": area[owners, year] - before,
        "delta_m2": (area[owners, year] - before) * HECTARE,
        "datetime": pd.Series([pd.Timestamp(own.moment)] * len(owners), dtype="datetime64[ms, UTC]"),
        "source": pd.Series([own.source] * len(owners), dtype="str"),
        **_places(objects.polygons, zonings),
    }
    return geopandas.GeoDataFrame(
        columns, geometry=objects.polygons, crs=pyproj.CRS.from_wkt(stack.ground.wkt)
    )


def _areas(stack: YearStack, found: ChangeObjects) -> NDArray[np.float64]:
    """Hectares ``(settlements, years)``; 0 in years without it."""
    area = np.zeros((len(found.settlements), len(found.years)))
    for year, objects in enumerate(found.years):
        area[found.owners(year), year] = objects.area_px * stack.ground.pixel_ha
    return area


def _footprint(found: ChangeObjects, settlement: Settlement) -> Any:
    shapes = [found.years[year].polygons[row] for year, row in settlement.rows.items()]
    return shapes[0] if len(shapes) == 1 else shapely.union_all(shapes)


def _history(stack: YearStack, settlement: Settlement) -> str:
    """``2016 present; 2018 expanded; 2020 merged into 7``."""
    words = []
    for year in sorted(settlement.events):
        event = settlement.events[year]
        if event == "split" and year == settlement.first and settlement.origin is not None:
            event += f" from {settlement.origin}"
        if event == "merged" and year not in settlement.rows:
            event += f" into {settlement.heir}"
        words.append(f"{stack.labels[year]} {event}")
    return "; ".join(words)


def _places(shapes: NDArray[np.object_], zonings: Sequence[Zoning]) -> dict[str, Any]:
    """Zone and ring of each shape, by a point inside it; empty outside of all."""
    columns = {}
    points = shapely.point_on_surface(shapes)
    for zoning in zonings:
        if zoning.kind != WHOLE:
            found = find_place(zoning, points)
            names = ["" if place < 0 else zoning.names[place] for place in found]
            columns[zoning.kind.removesuffix("s")] = pd.Series(names, dtype="str")
    return columns
