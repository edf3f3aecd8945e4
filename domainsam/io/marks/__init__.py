"""Points, boxes and rough masks that a person marked, read from files into scene coordinates.

=========================================  =========================================================
file                                       what it may hold
=========================================  =========================================================
``.gpkg .geojson .fgb .shp .parquet``      points and polygons in any CRS; columns ``label``,
                                           ``positive`` (or ``inside``), ``object``, ``slice``
``.csv``                                   columns ``x y [z]`` or ``left top right bottom``, beside
                                           them ``slice label positive object``
``.json``                                  ``{"frame": "voxel", "objects": [{"label": "liver",
                                           "points": [[x, y, z]], "positive": [true],
                                           "box": [left, top, right, bottom], "slice": 12}]}``, and
                                           plainer forms, see :mod:`domainsam.io.marks.plain`
=========================================  =========================================================

Rows that share ``object`` are marks of one object; a row without it is an
object of its own. See :class:`~domainsam.io.marks.places.Place` for the coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.documents import read_json_value
from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.io.marks.places import Place
from domainsam.io.marks.plain import find_objects
from domainsam.io.marks.rows import Kind, Mark
from domainsam.io.marks.text import csv_marks, json_marks
from domainsam.io.marks.vector import vector_marks
from domainsam.marks import MarkFiles
from domainsam.prompter.clicks import Clicks
from domainsam.protocols import Box, Click, SceneObject, Window
from domainsam.reading import reads

VECTOR_ENDINGS = (".gpkg", ".geojson", ".fgb", ".shp", ".parquet", ".geoparquet")
GEOJSON_TYPES = ("FeatureCollection", "Feature", "GeometryCollection", "Point", "MultiPoint", "Polygon")


def read_mark_files(files: MarkFiles, grid: Grid, voxels: Grid | None = None) -> Clicks:
    """Everything that files mark on a scene or volume; see :func:`read_marks`.

    Raises
    ------
    MissingInputError, InputError
        As :func:`read_marks`.
    """
    objects: list[SceneObject] = []
    if files.points is not None:
        objects += read_marks(files.points, grid, frame=files.frame, voxels=voxels)
    if files.boxes is not None:
        objects += read_marks(files.boxes, grid, kind="boxes", frame=files.frame, voxels=voxels)
    return Clicks(objects, ", ".join(path.name for path in files.paths))


@reads("points, boxes or polygons")
def read_marks(
    path: str | Path,
    grid: Grid,
    *,
    kind: Kind = "marks",
    frame: str | None = None,
    voxels: Grid | None = None,
    frames: int = 1,
    layer: str | None = None,
) -> tuple[SceneObject, ...]:
    """Objects that a file marks on a scene or volume.

    Parameters
    ----------
    path
        See the module's table of files.
    grid
        Where the pictures lie. Two axes ``(row, column)`` for a raster; three,
        ``(frame, row, column)`` in ``"RAS"`` millimetres, for a volume.
    kind
        ``"marks"`` takes polygons as rough masks; ``"boxes"`` takes the boxes
        around them, and refuses points.
    frame
        Frame of the coordinates, where the file does not say it itself; see
        :class:`~domainsam.io.marks.places.Place`.
    voxels
        For a volume: the grid of the file's own axes ``(i, j, k)``, which the
        frame ``"voxel"`` needs.
    frames
        Number of frames that share a two-axis ``grid``: years, pictures of a film.
    layer
        Layer of a file that has several.

    Returns
    -------
    tuple of SceneObject
        In the file's order; at least one. Boxes and masks are cut at the
        scene's edge. A box of a volume yields one object a slice that it crosses.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged, says nothing of where its coordinates lie, names a
        frame that the scene does not have, or marks nothing inside the scene.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; check the path")
    place = Place(grid, voxels, frames)
    ending = path.suffix.lower()
    if ending in VECTOR_ENDINGS:
        marks = vector_marks(path, place, kind, frame, layer)
    elif ending == ".csv":
        marks = list(csv_marks(path, place, frame))
    elif ending == ".json":
        content = read_json_value(path, "a file of marks")
        if isinstance(content, dict) and content.get("type") in GEOJSON_TYPES:
            marks = vector_marks(path, place, kind, frame, layer)
        else:
            marks = list(json_marks(path, find_objects(path, content), place, frame))
    else:
        raise InputError(
            f"{path}: no file of marks by its ending; expected .csv, .json, {', '.join(VECTOR_ENDINGS)}"
        )
    if kind == "boxes":
        marks = [_only_box(mark) for mark in marks]
    if not marks:
        raise InputError(f"{path}: marks nothing; expected at least one point, box or polygon")
    return tuple(_objects(marks))


def place_marks(
    grid: Grid,
    *,
    points: Sequence[Any] | NDArray[Any] = (),
    boxes: Sequence[Any] | NDArray[Any] = (),
    labels: str | Sequence[str] | None = None,
    frame: str | int | None = None,
    voxels: Grid | None = None,
) -> tuple[SceneObject, ...]:
    """Objects that coordinates mark on a scene or volume.

    Parameters
    ----------
    grid, voxels
        As of :func:`read_marks`.
    points
        ``(x, y)`` or ``(x, y, z)``, an object each; or lists of such, clicks on one object.
    boxes
        ``(left, top, right, bottom)`` or ``(x1, y1, z1, x2, y2, z2)``, an object each.
    labels
        The label of each object, points first, or one for all.
    frame
        Frame of the coordinates, by default ``"world"`` where a raster has a CRS; a
        number is a slice, in pixels of whose picture they are.

    Raises
    ------
    InputError
        If coordinates are no numbers, or cannot be placed; if labels are more or fewer than objects.
    """
    objects: list[dict[str, Any]] = [{"points": _as_clicks(item)} for item in _as_list(points)]
    objects += [{"box": box} for box in _as_list(boxes)]
    if labels is not None:
        each = [labels] * len(objects) if isinstance(labels, str) else list(labels)
        if len(each) != len(objects):
            raise InputError(
                f"{len(objects)} objects are marked, but {len(each)} labels given; give one each"
            )
        objects = [{**item, "label": label} for item, label in zip(objects, each, strict=True)]
    place = Place(grid, voxels)
    if isinstance(frame, int):
        objects = [{**item, "slice": frame} for item in objects]
        frame = "pixel"
    elif frame is None and "world" in place.known:
        frame = "world"
    if not objects:
        raise InputError("nothing is marked; expected at least one point or box")
    return tuple(_objects(list(json_marks(Path("marks"), {"objects": objects}, place, frame))))


def _as_list(values: Any) -> list[Any]:
    """Nested lists of plain numbers, whatever sequences or arrays they were."""
    return [_as_list(item) if isinstance(item, list | tuple | np.ndarray) else item for item in values]


def _as_clicks(item: Any) -> list[Any]:
    """The clicks on one object: one, or several in a list."""
    several = isinstance(item, list) and item and isinstance(item[0], list)
    return item if several else [item]


def _only_box(mark: Mark) -> Mark:
    if mark.box is None:
        raise InputError(f"{mark.name}: has no box; give a polygon or left, top, right, bottom")
    return Mark(mark.name, mark.key, mark.label, (), mark.box, None, mark.text)


def _objects(marks: Sequence[Mark]) -> Iterator[SceneObject]:
    """Rows of one object together, an object for every frame that it is marked in."""
    groups: dict[object, list[Mark]] = {}
    for number, mark in enumerate(marks):
        groups.setdefault(number if mark.key is None else mark.key, []).append(mark)
    for group in groups.values():
        labels = {mark.label for mark in group if mark.label is not None}
        if len(labels) > 1:
            raise InputError(
                f"{group[0].name}: object '{group[0].key}' has labels {', '.join(sorted(labels))}; "
                "expected one label an object"
            )
        label = labels.pop() if labels else None
        for frame in sorted({frame for mark in group for frame in _frames_of(mark)}):
            yield _object(group, frame, label)


def _frames_of(mark: Mark) -> Iterator[int]:
    yield from (frame for frame, _ in mark.points)
    if mark.box is not None:
        yield from mark.box.frames
    if mark.mask is not None:
        yield mark.mask[0].frame


def _object(group: Sequence[Mark], frame: int, label: str | None) -> SceneObject:
    """What a group marks in one frame."""
    points = tuple(click for mark in group for at, click in mark.points if at == frame)
    boxes = [mark.box.box for mark in group if mark.box is not None and frame in mark.box.frames]
    masks = [mark.mask for mark in group if mark.mask is not None and mark.mask[0].frame == frame]
    text = next((mark.text for mark in group if mark.text), None)
    name = group[0].name
    if len(boxes) > 1 or len(masks) > 1:
        raise InputError(
            f"{name}: object '{group[0].key}' has {max(len(boxes), len(masks))} boxes or polygons in one "
            "frame; expected one an object: give each an object of its own"
        )
    if not boxes and not masks and not any(point.inside for point in points):
        raise InputError(
            f"{name}: only points beside an object and none on it; give a positive point, or say by "
            "'object' which object they belong to"
        )
    box = boxes[0] if boxes else None
    if not masks:
        return SceneObject.marked(points, box, frame, label, text=text)
    bounds, mask = _widened(*masks[0], points, boxes)
    return SceneObject(bounds, label, 1.0, points, box, mask, text)


def _widened(
    own: Window, mask: NDArray[np.bool_], points: Sequence[Click], boxes: Sequence[Box]
) -> tuple[Window, NDArray[np.bool_]]:
    """A mask's window and the mask, made large enough to hold points and boxes too."""
    edges = np.array([(own.col, own.row, own.col + own.width, own.row + own.height), *boxes], dtype=float)
    (left, top), (right, bottom) = edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)
    bounds = SceneObject.marked(points, (left, top, right, bottom), own.frame).bounds
    whole = np.zeros((bounds.height, bounds.width), bool)
    whole[Window(own.row - bounds.row, own.col - bounds.col, own.height, own.width).slices] = mask
    return bounds, whole
