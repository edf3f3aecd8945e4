"""Marks as people and other tools write them in JSON, brought into the one form that is read.

======================================================  ===========================================
in the file                                             what it marks
======================================================  ===========================================
``{"frame": ..., "objects": [{...}]}``                  the form itself
``[{...}, {...}]``, ``{...}``                           objects, or one, without more around them
``[[x, y], [x, y]]``, ``[[left, top, right, bottom]]``  an object for each point or box
``{"points": [[x, y], ...], "labels": [1, 0]}``         one object, as SAM's predictor takes it
``{"boxes": [[left, top, right, bottom], ...]}``        an object each
``{"annotations": [{"bbox": [x, y, width, height]}]}``  COCO, of one image
======================================================  ===========================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domainsam.documents import expect, shorten
from domainsam.errors import InputError

KEYS = ("label", "points", "positive", "box", "slice", "text")
"""What an object may have."""
SAM_NAMES = {"point_coords": "points", "point": "points", "point_labels": "labels", "bbox": "box"}
"""Keywords of ``SamPredictor.predict``, and what others call a box."""
EXPECTED = (
    'expected {"objects": [{"points": [[x, y]], "box": [left, top, right, bottom]}]}, or a list of points '
    "[x, y] or of boxes [left, top, right, bottom]"
)
POINT, BOX = (2, 3), (4, 6)
"""Numbers of a point and of a box, of a picture and of a volume."""


def find_objects(path: Path, content: object) -> Mapping[str, Any]:
    """A table with the list ``objects``, and ``frame`` where the file says it.

    Raises
    ------
    InputError
        If the content has none of the known forms.
    """
    if isinstance(content, list):
        return {"objects": _list_objects(path, content)}
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {shorten(content)}; {EXPECTED}")
    if "objects" in content:
        expect(content["objects"], list, f"{path}: 'objects'")
        return content
    if "annotations" in content:
        return {"objects": _coco_objects(path, content)}
    frame = {key: content[key] for key in ("frame",) if key in content}
    one = _rename({key: value for key, value in content.items() if key != "frame"})
    if "boxes" in one:
        boxes = expect(one.pop("boxes"), list, f"{path}: 'boxes'")
        names = _label_each(path, one.pop("labels", None), len(boxes))
        if one:
            raise InputError(f"{path}: has {next(iter(one))!r} beside 'boxes'; {EXPECTED}")
        objects = _list_objects(path, boxes)
        return {**frame, "objects": [{**name, **box} for name, box in zip(names, objects, strict=True)]}
    if "points" in one or "box" in one:
        return {**frame, "objects": [_name_keys(one)]}
    raise InputError(f"{path}: has {shorten(list(content))}; {EXPECTED}")


def _list_objects(path: Path, items: Sequence[Any]) -> list[dict[str, Any]]:
    """An object for each entry of a list: tables, or coordinates of points or boxes."""
    if items and all(_is_number(item) for item in items):
        items = [items]
    objects: list[dict[str, Any]] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            objects.append(_name_keys(_rename(item)))
        elif isinstance(item, list) and len(item) in POINT:
            objects.append({"points": [item]})
        elif isinstance(item, list) and len(item) in BOX:
            objects.append({"box": item})
        else:
            raise InputError(f"{path}, entry {number}: is {shorten(item)}; {EXPECTED}")
    return objects


def _rename(table: Mapping[str, Any]) -> dict[str, Any]:
    return {SAM_NAMES.get(key, key): value for key, value in table.items()}


def _name_keys(one: Mapping[str, Any]) -> dict[str, Any]:
    """An object by the names that are read; ``labels`` say of its points whether they are on it."""
    named = dict(one)
    if "labels" in named and "positive" not in named:
        named["positive"] = named.pop("labels")
    points = named.get("points")
    if isinstance(points, list) and points and all(_is_number(value) for value in points):
        named["points"] = [points]
    box = named.get("box")
    if isinstance(box, list) and len(box) == 1 and isinstance(box[0], list):
        (named["box"],) = box
    return named


def _label_each(path: Path, labels: Any, count: int) -> list[dict[str, Any]]:
    """``label`` of each box, where there are any."""
    if labels is None:
        return [{}] * count
    if not isinstance(labels, list) or len(labels) != count:
        raise InputError(f"{path}: {count} boxes, but labels are {shorten(labels)}; expected one each")
    return [{"label": label} for label in labels]


def _coco_objects(path: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Boxes of COCO's annotations of one image, by the names of their categories."""
    rows = expect(content["annotations"], list, f"{path}: 'annotations'")
    images = {row.get("image_id") for row in rows if isinstance(row, dict)}
    if len(images) > 1:
        raise InputError(
            f"{path}: has annotations of {len(images)} images; expected those of the one that is marked"
        )
    names = {
        row.get("id"): row.get("name") for row in content.get("categories") or () if isinstance(row, dict)
    }
    objects = []
    for number, row in enumerate(rows, 1):
        box = row.get("bbox") if isinstance(row, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            raise InputError(f"{path}, annotation {number}: has no bbox; expected [x, y, width, height]")
        left, top, width, height = box
        label = names.get(row.get("category_id"))
        objects.append(
            {"box": [left, top, left + width, top + height], **({"label": label} if label else {})}
        )
    return objects


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
