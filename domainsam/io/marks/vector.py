"""Marks from points and polygons of a vector file, drawn in any CRS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.grid import Float64, Grid
from domainsam.io.marks.places import DECIMALS, Place
from domainsam.io.marks.rows import Kind, Mark, as_slice, as_text, as_truth
from domainsam.io.vectors import PARQUET, list_layers, read_table
from domainsam.protocols import SceneObject, Window

ATTRIBUTES = ("label", "positive", "inside", "object", "slice")
SIDE_PARTS = 32
"""Pieces that a polygon's extent is cut into before it goes to another CRS."""


def vector_marks(path: Path, place: Place, kind: Kind, given: str | None, layer: str | None) -> list[Mark]:
    """The features of a layer; its coordinates are those of its CRS unless ``given`` says ``"pixel"``.

    Raises
    ------
    InputError
        If the file cannot be read, a CRS is missing, or a feature is neither point nor polygon.
    """
    if place.volume:
        raise InputError(
            f"{path}: a vector file cannot mark a volume; give .csv or .json with a stated frame"
        )
    frame = place.check_frame(str(path), "world" if given is None else given)
    table = _read_table(path, layer)
    shapes = _in_pixels(path, table, place, frame)
    columns = {str(name).lower(): name for name in table.columns}
    marks = []
    for number, shape in enumerate(shapes):
        if shape is None or shape.is_empty:
            continue
        row = {key: table[name].iloc[number] for key, name in columns.items() if key in ATTRIBUTES}
        marks.append(_vector_mark(f"{path}, feature {number + 1}", shape, row, place, kind))
    return marks


def _vector_mark(name: str, shape: Any, row: Mapping[str, Any], place: Place, kind: Kind) -> Mark:
    import shapely

    number = as_slice(name, row.get("slice")) or 0
    key, label = as_text(row.get("object")), as_text(row.get("label"))
    if shape.geom_type in ("Point", "MultiPoint"):
        inside = as_truth(name, row.get("positive", row.get("inside")))
        at = shapely.get_coordinates(shape)
        return Mark(name, key, label, place.clicks(name, "pixel", at, [inside] * len(at), number))
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        raise InputError(f"{name}: is a {shape.geom_type}; expected points or polygons")
    box = place.box(name, "pixel", shape.bounds, number)
    if kind == "boxes":
        return Mark(name, key, label, (), box)
    left, top, right, bottom = box.box
    rows, cols = (math.floor(top), math.ceil(bottom)), (math.floor(left), math.ceil(right))
    window = Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0], box.frames[0])
    mask = _burn(shape, window)
    # A polygon too small to hold the centre of a pixel stands as the box around it.
    return Mark(name, key, label, (), None, (window, mask)) if mask.any() else Mark(name, key, label, (), box)


def place_outlines(path: Path, table: Any, grid: Grid) -> list[SceneObject | None]:
    """Outlines of a table as objects of a raster, row by row; None for a row that marks no ground of it.

    Parameters
    ----------
    path
        For messages.
    table
        A GeoDataFrame in any CRS; what is neither polygon nor of several polygons marks nothing.
    grid
        The raster's, in a CRS.

    Raises
    ------
    InputError
        If the table has no CRS.
    """
    import shapely

    shapes = _in_pixels(path, table, Place(grid), "world", strict=False)
    rows, cols = grid.frame_shape
    found: list[SceneObject | None] = []
    for shape in shapes:
        wanted = shape is not None and shape.geom_type in ("Polygon", "MultiPolygon")
        cut = (
            shapely.intersection(shapely.make_valid(shape), shapely.box(0, 0, cols, rows)) if wanted else None
        )
        found.append(None if cut is None or cut.is_empty or not cut.area else _as_object(cut))
    return found


def _as_object(shape: Any) -> SceneObject:
    left, top, right, bottom = shape.bounds
    row, col = math.floor(top), math.floor(left)
    window = Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)
    mask = _burn(shape, window)
    if not mask.any():
        return SceneObject.marked(box=(left, top, right, bottom))
    inside = np.argwhere(mask)
    (first, last) = inside.min(axis=0), inside.max(axis=0) + 1
    part = mask[first[0] : last[0], first[1] : last[1]].copy()
    return SceneObject(Window(row + int(first[0]), col + int(first[1]), *part.shape), mask=part)


def _burn(shape: Any, window: Window) -> NDArray[np.bool_]:
    """Pixels ``(h, w)`` of a window whose centres lie inside a polygon in scene pixels."""
    from affine import Affine
    from rasterio import features

    corner = Affine.translation(window.col, window.row)
    burnt = features.rasterize([shape], (window.height, window.width), transform=corner, dtype="uint8")
    return np.asarray(burnt > 0)


def _read_table(path: Path, layer: str | None) -> Any:
    """A GeoDataFrame of a layer of a file."""
    # Tables without geometry, such as the styles that QGIS stores, are no layers of marks.
    layers = list_layers(path)
    single = path.suffix.lower() in PARQUET
    if layer is None and len(layers) != 1 and not single:
        raise InputError(
            f"{path}: has {len(layers)} layers ({', '.join(layers)}); say which one holds the marks"
        )
    if layer is not None and layer not in layers and not single:
        raise InputError(f"{path}: has no layer {layer!r}; it has {', '.join(layers)}")
    return read_table(path, None if single else layer or layers[0])


def _in_pixels(path: Path, table: Any, place: Place, frame: str, strict: bool = True) -> NDArray[Any]:
    """A table's shapes in scene pixels, x the column, corner frame; see :func:`_reproject` for ``strict``."""
    import shapely
    from pyproj import CRS

    shapes = np.asarray(shapely.force_2d(np.asarray(table.geometry.values, dtype=object)))
    if frame == "pixel":
        return shapes
    if table.crs is None:
        raise InputError(f"{path}: has no CRS, so its place is unknown; assign the one it was drawn in")
    target = CRS.from_user_input(place.grid.frame)
    if table.crs != target:
        shapes = _reproject(path, shapes, table.crs, target, strict)
    return np.asarray(shapely.transform(shapes, lambda points: _pixels(place.grid, points)))


def _reproject(path: Path, shapes: NDArray[Any], source: Any, target: Any, strict: bool) -> NDArray[Any]:
    """Shapes in another CRS; long edges are split first, for they bend on the way.

    What lies where the other CRS is not defined is refused (``strict``), or becomes None.
    """
    import geopandas as gpd
    import shapely

    areas = shapely.get_dimensions(shapes) == 2
    if areas.any():
        extent = shapely.bounds(shapes[areas])
        longest = np.maximum(extent[:, 2] - extent[:, 0], extent[:, 3] - extent[:, 1])
        shapes = shapes.copy()
        shapes[areas] = shapely.segmentize(shapes[areas], np.maximum(longest, 1e-12) / SIDE_PARTS)
    moved = np.asarray(gpd.GeoSeries(shapes, crs=source).to_crs(target).values, dtype=object)
    points, owner = shapely.get_coordinates(moved, return_index=True)
    lost = owner[~np.isfinite(points).all(axis=1)]
    if len(lost) and not strict:
        moved[lost] = None
    elif len(lost):
        raise InputError(f"{path}: lies where the scene's CRS is not defined; check both CRSs")
    return moved


def _pixels(grid: Grid, points: Float64) -> Float64:
    """Corner-frame pixels ``(N, 2)``, x first, of world positions ``(N, 2)``."""
    return np.round(grid.to_index(points)[:, ::-1] + 0.5, DECIMALS)
