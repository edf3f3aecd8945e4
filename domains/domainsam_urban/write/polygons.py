"""Turn a mask on disk into a table of measured polygons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio import features
from rasterio.errors import RasterioError
from rasterio.windows import Window

from domainsam.errors import ConfigError, InputError
from domainsam.grid import Float64
from domainsam.io.rasters import open_raster
from domainsam_urban.read.geodesy import GroundFrame, apply_affine, keep_polygons, measure_polygons, parse_crs
from domainsam_urban.write.outlines import (
    Traced,
    close_holes,
    list_windows,
    measure_ground_area,
    simplify,
    trace,
)
from domainsam_urban.write.provenance import Provenance

COLUMNS = (
    "id",
    "class",
    "confidence",
    "area_m2",
    "area_ha",
    "perimeter_m",
    "datetime",
    "source",
    "model",
    "method",
)
PIXEL_COLUMNS = ("area_px", "perimeter_px")
"""Added, after :data:`COLUMNS`, only to polygons of a scene without a CRS."""


@dataclass(frozen=True)
class PolygonOptions:
    """Which polygons are kept and how they are drawn.

    Parameters
    ----------
    min_area
        Square metres; smaller polygons are left out, as traced and as drawn.
    close_holes
        Square metres; smaller holes are filled.
    simplify
        Metres; see :func:`domainsam_urban.write.outlines.simplify`.
    labels
        Name of each mask value that is traced.
    allow_no_crs
        Accept a mask without a CRS. All three sizes then count in pixels.
    """

    min_area: float = 0.0
    close_holes: float = 0.0
    simplify: float = 0.0
    labels: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({1: "settlement"}))
    allow_no_crs: bool = False

    def __post_init__(self) -> None:
        for name in ("min_area", "close_holes", "simplify"):
            size = getattr(self, name)
            if not (np.isfinite(size) and size >= 0):
                raise ConfigError(f"{name} is {size}: expected a number of metres, 0 (off) or more")
        if not self.labels or 0 in self.labels:
            raise ConfigError(f"labels are {dict(self.labels)}: expected names of mask values other than 0")


def polygonise(
    mask_path: Path | str,
    options: PolygonOptions | None = None,
    *,
    probability_path: Path | str | None = None,
    provenance: Provenance | None = None,
    dropped: list[float] | None = None,
) -> Any:
    """Trace a mask into a table of polygons.

    The steps, in this order: trace, close holes, drop the small, mean
    probability, simplify, drop what became small, measure. Memory follows the
    number of vertices, not the size of the raster.

    Parameters
    ----------
    mask_path
        Single band of integers: a class, 0 outside, 255 nodata.
    probability_path
        Raster of the same grid; gives ``confidence``, the mean probability
        inside each polygon before simplification. Without it confidence is NaN.
    dropped
        Takes the area of every polygon that is left out for being small, in square metres or pixels.

    Returns
    -------
    GeoDataFrame
        :data:`COLUMNS` and ``geometry``, valid Polygons in the mask's CRS, one
        a row, in row-major order of their topmost, then leftmost pixel; ``id``
        counts them from 1. Area and perimeter are of the geometry as drawn, on
        the ellipsoid. Without a CRS these are NaN and :data:`PIXEL_COLUMNS`
        follow. ``datetime`` is UTC, missing where only a year is known.

    Raises
    ------
    InputError
        If a raster cannot be used, or has no CRS and that was not allowed.
    """
    options = options or PolygonOptions()
    provenance = provenance or Provenance()
    with open_raster(mask_path) as dataset:
        shape, affine, crs = dataset.shape, dataset.transform, dataset.crs
    if crs is None and not options.allow_no_crs:
        raise InputError(
            f"'{mask_path}' has no CRS, so nothing can be measured in metres: "
            "assign one (rio edit-info --crs), or accept pixel units with --allow-no-crs"
        )
    frame = GroundFrame.around(shape, affine, crs)

    def enough(area: Float64) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = area >= options.min_area
        if dropped is not None:
            dropped.extend(area[~kept].tolist())
        return kept

    def large(polygons: NDArray[np.object_]) -> NDArray[np.bool_]:
        return enough(measure_ground_area(polygons, frame))

    def large_if_filled(polygons: NDArray[np.object_]) -> NDArray[np.bool_]:
        return large(shapely.polygons(shapely.get_exterior_ring(polygons)))

    traced = trace(mask_path, options.labels, large_if_filled if options.min_area else None)
    traced = close_holes(traced, frame, options.close_holes)
    if options.min_area:
        traced = traced.take(large(traced.polygons))
    confidence = np.full(len(traced), np.nan)
    if probability_path is not None:
        confidence = average_probability(traced.polygons, probability_path, shape)
    drawn, owner = keep_polygons(simplify(traced.polygons, frame, options.simplify))
    area, perimeter = _sizes(drawn, affine, crs)
    kept = enough(area)
    owner = owner[kept]
    return _table(
        Traced(drawn[kept], traced.values[owner]),
        confidence[owner],
        (area[kept], perimeter[kept]),
        (affine, crs),
        options.labels,
        provenance,
    )


def _sizes(polygons: NDArray[np.object_], affine: Affine, crs: Any | None) -> tuple[Float64, Float64]:
    """Area and perimeter on the ground, or in pixels where there is no CRS."""
    if crs is None:
        return shapely.area(polygons), shapely.length(polygons)
    measures = measure_polygons(_placed(polygons, affine), crs)
    return measures.area_m2, measures.perimeter_m


def _placed(polygons: NDArray[np.object_], affine: Affine) -> NDArray[np.object_]:
    """Polygons of pixel corners in the CRS, outer rings counter-clockwise there."""
    world = shapely.transform(polygons, lambda points: apply_affine(affine, points))
    oriented: NDArray[np.object_] = shapely.orient_polygons(world, exterior_cw=False)
    return oriented


def _table(
    drawn: Traced,
    confidence: Float64,
    sizes: tuple[Float64, Float64],
    place: tuple[Affine, Any | None],
    labels: Mapping[int, str],
    provenance: Provenance,
) -> Any:
    count = len(drawn)
    affine, crs = place
    area, perimeter = sizes
    metric = crs is not None
    unknown = np.full(count, np.nan)
    moment = pd.Timestamp(provenance.acquired.instant) if provenance.acquired.instant else pd.NaT
    columns: dict[str, Any] = {
        "id": np.arange(1, count + 1, dtype=np.int64),
        "class": pd.Series([labels[int(value)] for value in drawn.values], dtype="str"),
        "confidence": confidence,
        "area_m2": area if metric else unknown,
        "area_ha": area / 1e4 if metric else unknown,
        "perimeter_m": perimeter if metric else unknown,
        "datetime": pd.Series([moment] * count, dtype="datetime64[ms, UTC]"),
        "source": pd.Series([provenance.source] * count, dtype="str"),
        "model": pd.Series([provenance.model] * count, dtype="str"),
        "method": pd.Series([provenance.method] * count, dtype="str"),
    }
    if not metric:
        columns |= dict(zip(PIXEL_COLUMNS, sizes, strict=True))
    return geopandas.GeoDataFrame(
        columns, geometry=_placed(drawn.polygons, affine), crs=parse_crs(crs) if metric else None
    )


PROBABILITY_STEPS = 254
"""A probability p is stored as p * 254 rounded in uint8; 255 is nodata."""


def average_probability(
    polygons: NDArray[np.object_], probability_path: Path | str, shape: tuple[int, int]
) -> Float64:
    """Mean probability of the pixels whose centre lies in each polygon.

    Parameters
    ----------
    polygons
        ``(N,)`` Polygons in pixel corners of the raster, not overlapping.
    probability_path
        Band 1 is read: uint8 steps of 1/254 with 255 for nodata, or floats in
        0..1 with NaN or the declared nodata.
    shape
        Rows and columns the raster must have.

    Returns
    -------
    Float64
        ``(N,)`` means in 0..1, NaN where a polygon holds no valid pixel.

    Raises
    ------
    InputError
        If the raster has another size, or cannot be read.
    """
    total = np.zeros(len(polygons) + 1)
    count = np.zeros(len(polygons) + 1)
    tree = shapely.STRtree(polygons)
    with open_raster(probability_path) as dataset:
        if dataset.shape != shape:
            raise InputError(
                f"probability '{probability_path}' is {dataset.shape}, its mask {shape}: use one grid"
            )
        for window in list_windows(shape):
            zones = _zones(polygons, tree, window)
            if zones is None:
                continue
            try:
                raw = dataset.read(1, window=window)
            except RasterioError as error:
                raise InputError(
                    f"probability '{probability_path}' is damaged ({error}): make it again"
                ) from error
            inside = zones > 0
            value, valid = _decoded(raw[inside], dataset.nodata)
            zone = zones[inside][valid]
            total += np.bincount(zone, weights=value[valid], minlength=len(total))
            count += np.bincount(zone, minlength=len(count))
    with np.errstate(invalid="ignore"):
        means: Float64 = total[1:] / np.where(count[1:] > 0, count[1:], np.nan)
    return means


def _zones(polygons: NDArray[np.object_], tree: Any, window: Window) -> NDArray[np.int32] | None:
    """Number of the polygon, from 1, that each pixel of a window lies in; None if there is no polygon."""
    column, row, width, height = window.flatten()
    bounds = (column, row, column + width, row + height)
    hits = np.sort(tree.query(shapely.box(*bounds)))
    # Clipped first: an outline of a million points need not be walked for every window.
    pieces = shapely.clip_by_rect(polygons[hits], *bounds)
    # A polygon that only touches the window leaves a piece without area, which would be burnt as a line.
    inside = shapely.area(pieces) > 0
    if not inside.any():
        return None
    zones: NDArray[np.int32] = features.rasterize(
        zip(pieces[inside], hits[inside] + 1, strict=True),
        out_shape=(height, width),
        transform=Affine.translation(column, row),
        dtype="int32",
    )
    return zones


def _decoded(raw: NDArray[Any], nodata: float | None) -> tuple[Float64, NDArray[np.bool_]]:
    if raw.dtype == np.uint8:
        return raw / PROBABILITY_STEPS, raw != 255
    value = raw.astype(np.float64)
    valid = np.isfinite(value)
    if nodata is not None:
        valid &= value != nodata
    return value, valid
