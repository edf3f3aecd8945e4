"""Marks from tables of text and from JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.errors import InputError
from domainsam.io.marks.places import Place, PlacedBox
from domainsam.io.marks.plain import KEYS
from domainsam.io.marks.rows import Mark, as_numbers, as_slice, as_text, as_truth, stated_frame
from domainsam.limits import require_memory
from domainsam.protocols import Click

TEXT_COPIES = 12
"""Bytes in memory for one of a table's text, which is held whole and split into cells."""


def csv_marks(path: Path, place: Place, given: str | None) -> Iterator[Mark]:
    """The rows of a table with commas, semicolons or tabs; ``given`` is the frame of its coordinates.

    Raises
    ------
    InputError
        If a column is missing, or a value is not what its column asks for.
    """
    try:
        require_memory(path, TEXT_COPIES * path.stat().st_size, "a table of that size")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8; expected a table with commas") from error
    first = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=first.count))
    columns = [(name or "").strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    points, boxes = {"x", "y"} <= set(columns), {"left", "top", "right", "bottom"} <= set(columns)
    if not points and not boxes:
        raise InputError(
            f"{path}: columns are {', '.join(columns) or 'none'}; expected x, y or left, top, right, bottom"
        )
    frame = stated_frame(path, place, None, given)
    for row in rows:
        name = f"{path}, line {rows.line_num}"
        if any(row.values()):
            yield _csv_mark(name, row, place, frame)


def _csv_mark(name: str, row: Mapping[str, Any], place: Place, frame: str) -> Mark:
    number = as_slice(name, row.get("slice"))
    box: PlacedBox | None = None
    points: tuple[tuple[int, Click], ...] = ()
    if as_text(row.get("left")):
        edges = as_numbers(name, [row.get(side) for side in ("left", "top", "right", "bottom")], "the box")
        box = place.box(name, frame, edges, number)
    if as_text(row.get("x")):
        values = [row.get("x"), row.get("y")]
        if as_text(row.get("z")):
            values.append(row["z"])
        at = np.array([as_numbers(name, values, "the point")])
        positive = row.get("positive") if row.get("positive") is not None else row.get("inside")
        points = place.clicks(name, frame, at, [as_truth(name, positive)], number)
    if box is None and not points:
        raise InputError(f"{name}: has neither x, y nor left, top, right, bottom")
    return Mark(name, as_text(row.get("object")), as_text(row.get("label")), points, box)


def json_marks(path: Path, content: Mapping[str, Any], place: Place, given: str | None) -> Iterator[Mark]:
    """The objects of :func:`~domainsam.io.marks.plain.find_objects`.

    ``given`` is the frame of the coordinates if the file does not say so itself.

    Raises
    ------
    InputError
        If a key is unknown, or a value is not what its key asks for.
    """
    frame = stated_frame(path, place, content.get("frame"), given)
    for number, one in enumerate(content["objects"], 1):
        name = f"{path}, object {number}"
        if not isinstance(one, dict):
            raise InputError(f"{name}: is {one!r}; expected an object with {', '.join(KEYS)}")
        if unknown := sorted(set(one) - set(KEYS)):
            raise InputError(f"{name}: unknown key {unknown[0]!r}; expected {', '.join(KEYS)}")
        yield _json_mark(name, str(number), one, place, frame)


def _json_mark(name: str, key: str, one: Mapping[str, Any], place: Place, frame: str) -> Mark:
    number = as_slice(name, one.get("slice"))
    given = one.get("points") or []
    if not isinstance(given, list):
        raise InputError(f"{name}: points are {given!r}; expected a list of [x, y] or [x, y, z]")
    rows = [as_numbers(name, point, "a point") for point in given]
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"{name}: some points have z and some have not; give all of one kind")
    positive = one.get("positive", [True] * len(rows))
    if not isinstance(positive, list) or len(positive) != len(rows):
        raise InputError(f"{name}: {len(rows)} points, but positive is {positive!r}; expected one each")
    inside = [as_truth(name, value) for value in positive]
    points = place.clicks(name, frame, np.array(rows), inside, number) if rows else ()
    box = None
    if one.get("box") is not None:
        box = place.box(name, frame, as_numbers(name, one["box"], "the box"), number)
    if box is None and not points:
        raise InputError(f"{name}: has neither points nor a box")
    return Mark(name, key, as_text(one.get("label")), points, box, None, as_text(one.get("text")))
