"""Read reference points or polygons and look up the map there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

from domainsam.documents import CSV_COPIES
from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.grid import Float64
from domainsam.io.rasters import GDAL_OPTIONS
from domainsam.io.vectors import read_table
from domainsam.limits import require_memory
from domainsam.reading import reading, reads
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.read.zones import compute_pixel_coverage
from domainsam_urban.trend.settings import UncertaintyOptions
from domainsam_urban.trend.stack import YearStack

YEAR_COLUMNS = ("year", "label", "date", "datetime")
CLASS_COLUMNS = ("class", "truth", "reference", "settlement", "label", "value")
YES = {"1", "true", "t", "yes", "y", "settlement", "urban village", "village", "informal", "slum"}
NO = {"0", "false", "f", "no", "n", "other", "none", "background", "not settlement", "formal"}
WEIGHT_COLUMNS = ("weight", "weight_ha", "area_weight")
STRATUM_COLUMNS = ("stratum", "strata")
STRATUM_AREA_COLUMNS = ("stratum_ha", "stratum_area")
EQUAL = 1e-4
"""Weights of one stratum that differ by no more than this share are one weight."""
LONGITUDES, LATITUDES = ("lon", "longitude", "x"), ("lat", "latitude", "y")


@dataclass(frozen=True, eq=False)
class Reference:
    """Places with their truth.

    Parameters
    ----------
    shapes
        ``(N,)`` Points and Polygons in the ground's CRS.
    truth
        ``(N, Y)`` 1 settlement, 0 not, -1 not looked at in that year.
    weight
        ``(N,)`` how much ground each place stands for, in any unit; all alike in a simple random sample.
    notes
        What was left out, in sentences.
    weighted
        Whether the file says the weights.
    stratum
        ``(N,)`` names of the strata that the sample was drawn by, if the file says them.
    strata_area
        Area of each stratum by name, in any unit; None where the file does not tell it: the places of a
        stratum then have different weights, or none.
    """

    shapes: NDArray[np.object_]
    truth: NDArray[np.int8]
    weight: Float64
    notes: tuple[str, ...] = ()
    weighted: bool = False
    stratum: NDArray[np.str_] | None = None
    strata_area: Mapping[str, float] | None = None


@dataclass(frozen=True, eq=False)
class Units:
    """Reference places as the map sees them.

    Parameters
    ----------
    size
        ``(N, Y, 2)`` pixels of each place that the map calls other and settlement, times its weight; a
        point has one.
    truth
        ``(N, Y)`` as in :class:`Reference`.
    weighted, stratum, strata_area
        As in :class:`Reference`.
    """

    size: Float64
    truth: NDArray[np.int8]
    weighted: bool = False
    stratum: NDArray[np.str_] | None = None
    strata_area: Mapping[str, float] | None = None


@reads("a reference sample")
def read_reference(
    path: Path, ground: CommonGround, labels: Sequence[str], options: UncertaintyOptions
) -> Reference:
    """Read a reference sample in any CRS.

    Either each row has a year and a class, and rows of one place in several
    years share their geometry; or each row is a place, with a column for each
    year. Truth is 1, yes or settlement, or 0, no or other; empty is not known.
    A CSV needs columns ``lon`` and ``lat`` in degrees. A sample that is denser in
    some strata than in others needs a column ``weight``, the area that each
    place stands for, and may name them in a column ``stratum`` (Stehman 2014,
    "Estimating area and map accuracy for stratified random sampling when the
    strata are different from the map classes"). Without it, all stand for as
    much, unless the sample itself shows that it was drawn by strata of change,
    see :mod:`domainsam_urban.trend.measure.design`. With weights and strata, as
    ``domainsam urban sample`` writes them, areas are estimated within those strata.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it cannot be read, says of no place and year what was there, or contradicts itself.
    ConfigError
        If a column that was named does not exist.
    """
    table = _table(path)
    shapes = _on_ground(table, path, ground)
    columns = [str(column) for column in table.columns if str(column) != "geometry"]
    for named in (options.year_column, options.class_column):
        if named is not None and named not in columns:
            raise ConfigError(
                f"reference '{path}' has no column '{named}': choose one of {', '.join(columns)}"
            )
    wide = _year_columns(columns, labels) if options.year_column is None else {}
    notes: list[str] = []
    weight, weighted = _weights(table, path)
    stratum = _strata(table)
    # Before rows without truth go: the strata are as large as they were when the sample was drawn.
    strata_area = _strata_area(table, stratum, weight) if weighted and stratum is not None else None
    if wide:
        truth = np.full((len(table), len(labels)), -1, dtype=np.int8)
        for index, column in wide.items():
            truth[:, index] = _truths(table[column], path, column)
        _require_one_truth(shapes, truth, path, labels)
    else:
        rows, truth, foreign = _from_rows(table, shapes, path, labels, options)
        shapes, weight = shapes[rows], weight[rows]
        if strata_area is not None and len(rows) < len(table) and not _tells_area(table):
            strata_area = _sum_weights(stratum[rows], weight) if stratum is not None else None
        stratum = None if stratum is None else stratum[rows]
        if foreign:
            notes.append(f"{foreign} reference rows are of years that are not compared; they were left out")
    usable = ~shapely.is_empty(shapes) & (truth >= 0).any(axis=1)
    if not usable.any():
        raise InputError(
            f"reference '{path}' tells of no place what was there in {', '.join(labels)}: "
            "expected columns year and class, or a column for each year, with 1 and 0"
        )
    named = None if stratum is None else stratum[usable]
    return Reference(
        shapes[usable], truth[usable], weight[usable], tuple(notes), weighted, named, strata_area
    )


def look_up(stack: YearStack, reference: Reference) -> Units:
    """What the map says at every reference place; places that not all years saw have size 0."""
    size = np.zeros((*reference.truth.shape, 2))
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(stack.common_valid) as valid:
        for index, year in enumerate(stack.years):
            with rasterio.open(year.probability) as values:
                for place, shape in enumerate(reference.shapes):
                    if reference.truth[place, index] >= 0:
                        size[place, index] = reference.weight[place] * _sizes(shape, values, valid, stack)
    return Units(size, reference.truth, reference.weighted, reference.stratum, reference.strata_area)


def _sizes(shape: Any, values: Any, valid: Any, stack: YearStack) -> Float64:
    """Pixels of one place by what the map calls them."""
    ground = stack.ground
    left, bottom, right, top = shape.bounds
    first = ~ground.affine @ (left, top)
    last = ~ground.affine @ (right, bottom)
    col, row = max(0, int(np.floor(first[0]))), max(0, int(np.floor(first[1])))
    end_col, end_row = min(ground.width, int(np.ceil(last[0]))), min(ground.height, int(np.ceil(last[1])))
    if shape.geom_type == "Point":
        end_col, end_row = col + 1, row + 1
        if not (0 <= first[0] < ground.width and 0 <= first[1] < ground.height):
            return np.zeros(2)
    if end_col <= col or end_row <= row:
        return np.zeros(2)
    bounds = ((row, end_row), (col, end_col))
    weight = valid.read(1, window=bounds) == 1
    if shape.geom_type != "Point":
        affine = ground.affine @ Affine.translation(col, row)
        weight = weight * compute_pixel_coverage(shape, affine, weight.shape)
    mapped = values.read(1, window=bounds) >= stack.threshold
    return np.array([float((weight * ~mapped).sum()), float((weight * mapped).sum())])


def _table(path: Path) -> Any:
    if not path.exists():
        raise MissingInputError(f"reference '{path}' does not exist: check the path")
    if path.suffix.lower() != ".csv":
        return read_table(path)
    with reading(f"reference '{path}'", "a sample; expected GeoPackage, GeoJSON or CSV"):
        require_memory(path, CSV_COPIES * path.stat().st_size, "a table of that size")
        table = pd.read_csv(path)
        lower = {str(column).lower(): column for column in table.columns}
        x = next((lower[name] for name in LONGITUDES if name in lower), None)
        y = next((lower[name] for name in LATITUDES if name in lower), None)
        if x is None or y is None:
            raise InputError(f"reference '{path}' needs columns lon and lat, in degrees")
        return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(table[x], table[y]), crs="EPSG:4326").drop(
            columns=[x, y]
        )


def _on_ground(table: Any, path: Path, ground: CommonGround) -> NDArray[np.object_]:
    if table.crs is None:
        raise InputError(f"reference '{path}' has no CRS: assign the one it was drawn in")
    shapes = np.asarray(table.geometry.to_crs(pyproj.CRS.from_wkt(ground.wkt)).values, dtype=object)
    shapes = shapely.force_2d(shapes)
    shapes[shapely.is_missing(shapes)] = shapely.Point()
    kinds = set(shapely.get_type_id(shapes).tolist())
    if not kinds <= {0, 3, 6}:
        raise InputError(f"reference '{path}' holds lines or collections: expected points or polygons")
    wrong = ~shapely.is_valid(shapes)
    shapes[wrong] = shapely.make_valid(shapes[wrong], method="structure", keep_collapsed=False)
    return shapes


def _year_columns(columns: Sequence[str], labels: Sequence[str]) -> Mapping[int, str]:
    """Columns named by a year, alone or after a word: ``2016``, ``class_2016``."""
    found = {}
    for index, label in enumerate(labels):
        wanted = re.compile(rf"(?:[A-Za-z]+_?)?{re.escape(label)}")
        column = next(
            (c for c in columns if wanted.fullmatch(c.replace("_", "-") if "-" in label else c)), None
        )
        if column is not None:
            found[index] = column
    return found


def _from_rows(
    table: Any,
    shapes: NDArray[np.object_],
    path: Path,
    labels: Sequence[str],
    options: UncertaintyOptions,
) -> tuple[NDArray[np.int64], NDArray[np.int8], int]:
    """First row and truth of each place, from a row a place and year; how many rows are of other years."""
    year_column = options.year_column or _first(table, YEAR_COLUMNS)
    class_column = options.class_column or _first(table, CLASS_COLUMNS, year_column)
    if year_column is None or class_column is None:
        raise InputError(
            f"reference '{path}' says neither year nor truth: expected columns year and class (1 or 0), "
            f"or a column for each of {', '.join(labels)}; it has "
            f"{', '.join(str(c) for c in table.columns if c != 'geometry') or 'none'}"
        )
    values = _truths(table[class_column], path, class_column)
    order = {label: index for index, label in enumerate(labels)}
    years = [order.get(_label(value, labels), -1) for value in table[year_column]]
    places: dict[bytes, int] = {}
    kept: list[Any] = []
    truth: list[Any] = []
    contradicted: list[str] = []
    for row, (key, year, value) in enumerate(zip(shapely.to_wkb(shapes), years, values, strict=True)):
        if year < 0:
            continue
        if key not in places:
            places[key] = len(kept)
            kept.append(row)
            truth.append(np.full(len(labels), -1, dtype=np.int8))
        before = truth[places[key]][year]
        if value >= 0:
            if before not in (-1, value):
                contradicted.append(labels[year])
            truth[places[key]][year] = value
    _refuse_contradicted(contradicted, path)
    return (
        np.array(kept, dtype=np.int64),
        np.array(truth, dtype=np.int8).reshape(-1, len(labels)),
        years.count(-1),
    )


def _require_one_truth(
    shapes: NDArray[np.object_], truth: NDArray[np.int8], path: Path, labels: Sequence[str]
) -> None:
    """Refuse rows of one place that say different things of a year."""
    said: dict[tuple[bytes, int], int] = {}
    keys = shapely.to_wkb(shapes)
    _refuse_contradicted(
        [
            labels[year]
            for row, year in np.argwhere((truth >= 0) & ~shapely.is_empty(shapes)[:, None])
            if said.setdefault((keys[row], int(year)), int(truth[row, year])) != truth[row, year]
        ],
        path,
    )


def _refuse_contradicted(contradicted: Sequence[str], path: Path) -> None:
    if not contradicted:
        return
    years = ", ".join(sorted(set(contradicted)))
    raise InputError(
        f"reference '{path}' contradicts itself: {len(contradicted)} rows say otherwise than a row before of "
        f"the same place and year ({years}), as if two people had judged it; keep one row a place and year, "
        "or leave out those places"
    )


def _strata(table: Any) -> NDArray[np.str_] | None:
    column = _first(table, STRATUM_COLUMNS)
    return None if column is None else np.asarray(table[column].map(str), dtype=np.str_)


def _tells_area(table: Any) -> bool:
    return _first(table, STRATUM_AREA_COLUMNS) is not None


def _strata_area(table: Any, stratum: NDArray[np.str_], weight: Float64) -> dict[str, float] | None:
    """Area of each stratum: as the file tells it, else the weights of its places together."""
    for name in np.unique(stratum):
        here = weight[stratum == name]
        if np.ptp(here) > EQUAL * here.mean():
            return None
    column = _first(table, STRATUM_AREA_COLUMNS)
    if column is None:
        return _sum_weights(stratum, weight)
    area = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    told = {str(name): area[stratum == name] for name in np.unique(stratum)}
    if any(not (np.isfinite(a) & (a > 0)).all() or np.ptp(a) > EQUAL * a.mean() for a in told.values()):
        return None
    return {name: float(areas[0]) for name, areas in told.items()}


def _sum_weights(stratum: NDArray[np.str_], weight: Float64) -> dict[str, float]:
    return {str(name): float(weight[stratum == name].sum()) for name in np.unique(stratum)}


def _weights(table: Any, path: Path) -> tuple[Float64, bool]:
    """Weights, 1 on average, and whether the file says them."""
    column = _first(table, WEIGHT_COLUMNS)
    if column is None:
        return np.ones(len(table)), False
    weight = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise InputError(f"reference '{path}', column {column}: every weight has to be a number above 0")
    return np.asarray(weight / weight.mean(), dtype=np.float64), True


def _first(table: Any, names: Sequence[str], other_than: str | None = None) -> str | None:
    lower = {str(column).lower(): str(column) for column in table.columns if str(column) != other_than}
    return next((lower[name] for name in names if name in lower), None)


def _label(value: Any, labels: Sequence[str]) -> str:
    """A year as the stack calls it: as written, or the only label that a date begins with."""
    text = str(value).strip().removesuffix(".0")
    if text in labels:
        return text
    begun = [label for label in labels if text.startswith(label)]
    return begun[0] if len(begun) == 1 else text


def _truths(column: Any, path: Path, name: str) -> NDArray[np.int8]:
    truths = np.full(len(column), -1, dtype=np.int8)
    for index, value in enumerate(column):
        text = "" if value is None or value != value else str(value).strip().lower().removesuffix(".0")
        if text in YES:
            truths[index] = 1
        elif text in NO:
            truths[index] = 0
        elif text:
            raise InputError(
                f"reference '{path}', column {name}: '{value}' is neither settlement nor other: "
                "use 1 and 0, yes and no, or settlement and other; leave unknown ones empty"
            )
    return truths
