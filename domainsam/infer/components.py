"""Find connected objects of a whole scene by streaming its rows.

Each band of rows is labelled by itself; labels that touch across a band's
edge are joined (union-find). What is kept of an object are sums and bounding
boxes for every quarter crop of the lattice it enters, never its pixels, so
memory follows the number of objects and not the size of the scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.tiling import Lattice
from domainsam.protocols import Window

EIGHT = np.ones((3, 3), dtype=bool)
"""Pixels that touch at a corner belong together, as in the contours of UV-SAM."""
BAND_PIXELS = 1 << 21
"""Pixels labelled at a time: about 60 MB of working memory."""

Ints = NDArray[np.int64]
Pieces = NDArray[np.void]
"""A 1-d array of :data:`PIECE`, sorted by id and quarter."""


class StoredScene(Protocol):
    """Stored probabilities that are read by windows, as :class:`domainsam.infer.store.RawRaster` is."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Bytes ``(h, w)`` of a window, 255 without data."""
        ...


@dataclass(frozen=True)
class Component:
    """One connected object of the scene.

    ``id`` counts from 1 in the order of the objects' first pixels, row by row.
    ``bounds`` is its bounding box in scene pixels, ``first`` the row and column
    of its first pixel, ``area`` its pixels, ``mean_probability`` theirs, 0 to 1.
    ``confidence`` is the mean probability times the IoU that the foundation
    expects of its outline: how sure we are that this is such an object, times
    how much of the outline to believe. Without a foundation it is the mean
    probability alone.
    """

    id: int
    bounds: Window
    first: tuple[int, int]
    area: int
    mean_probability: float
    touches_border: bool
    confidence: float


PIECE = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("id", "quarter_row", "quarter_col"),
            *("top", "left", "bottom", "right"),
            *("area", "total", "first_col"),
        )
    ]
)
"""An object within one quarter of the lattice: its id, the quarter, its box there in scene pixels
(exclusive ends), its pixels there, the sum of their stored probabilities, and the column of the first
pixel (in row ``top``)."""


@dataclass(frozen=True)
class Components:
    """All objects of a scene that are large enough.

    ``pieces`` holds an entry for each object and quarter that it enters.
    ``found`` counts the objects before the size filter. ``lookup`` gives the
    object id, or 0, of every label that :func:`label_bands` hands out.
    """

    items: tuple[Component, ...]
    pieces: Pieces
    found: int
    lookup: Ints


def find_components(store: StoredScene, level: int, lattice: Lattice, min_pixels: int = 1) -> Components:
    """Objects of a staged probability scene.

    Parameters
    ----------
    store
        Stored probabilities, 255 without data.
    level
        Smallest stored value that counts as foreground.
    lattice
        The crops whose quarters the objects are cut along.
    min_pixels
        Objects with fewer pixels are left out.
    """
    joins = UnionFind()
    parts: list[Pieces] = []
    edge: NDArray[np.int64] | None = None
    for row, values, labels in label_bands(store, level):
        joins.grow(int(labels.max(initial=0)))
        if edge is not None:
            for upper, lower in _touching(edge, labels[0]):
                joins.join(upper, lower)
        parts.append(_cut(row, values, labels, lattice))
        edge = labels[-1]
    roots = joins.roots()
    pieces = np.concatenate(parts)
    pieces["id"] = roots[pieces["id"]]
    return _table(_group(pieces), roots, store.shape, min_pixels)


def label_bands(store: StoredScene, level: int) -> Iterator[tuple[int, NDArray[np.uint8], Ints]]:
    """The scene in bands of rows: first row, stored values, and labels.

    Labels are 0 for background and otherwise count up from 1 through the whole
    scene; an object that crosses bands has one label in each. Two sweeps over
    the same scene give the same labels.
    """
    rows, width = store.shape
    height = min(rows, max(16, BAND_PIXELS // width))
    used = 0
    for row in range(0, rows, height):
        values = store.read(Window(row, 0, min(height, rows - row), width))
        labels, count = ndimage.label((values >= level) & (values != NODATA), structure=EIGHT)
        numbered = labels.astype(np.int64)
        numbered[labels > 0] += used
        used += count
        yield row, values, numbered


class UnionFind:
    """Sets of labels that belong to one object; the smallest label stands for its set."""

    def __init__(self) -> None:
        self._parent: list[int] = [0]

    def grow(self, last: int) -> None:
        """Know all labels up to ``last``."""
        self._parent.extend(range(len(self._parent), last + 1))

    def find(self, label: int) -> int:
        """The label that stands for this one's set."""
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def join(self, one: int, other: int) -> None:
        """Unite two sets."""
        one, other = self.find(one), self.find(other)
        self._parent[max(one, other)] = min(one, other)

    def roots(self) -> Ints:
        """For every label, the one that stands for its set."""
        return np.array([self.find(label) for label in range(len(self._parent))], dtype=np.int64)


def _touching(upper: Ints, lower: Ints) -> list[tuple[int, int]]:
    """Pairs of labels that touch, also at corners, between two neighbouring rows."""
    pairs = []
    for shift in (-1, 0, 1):
        above = upper[max(0, shift) : upper.size + min(0, shift)]
        below = lower[max(0, -shift) : lower.size + min(0, -shift)]
        both = (above > 0) & (below > 0)
        pairs.append(np.stack([above[both], below[both]], axis=1))
    return [(int(one), int(other)) for one, other in np.unique(np.concatenate(pairs), axis=0)]


def _cut(row: int, values: NDArray[np.uint8], labels: Ints, lattice: Lattice) -> Pieces:
    """A band's objects cut along the lattice, ids being labels.

    Works on runs (stretches of foreground within a row, split where a quarter
    begins), of which there are far fewer than pixels.
    """
    quarter = lattice.cols.quarter
    inside = labels > 0
    begins = inside.copy()
    begins[:, 1:] &= ~inside[:, :-1]
    begins[:, ::quarter] |= inside[:, ::quarter]
    ends = inside.copy()
    ends[:, :-1] &= ~inside[:, 1:]
    ends[:, quarter - 1 :: quarter] |= inside[:, quarter - 1 :: quarter]
    line, left = np.nonzero(begins)
    right = np.nonzero(ends)[1] + 1
    # Sums over runs are differences of the running sum of each row.
    running = np.zeros((values.shape[0], values.shape[1] + 1), dtype=np.int64)
    np.cumsum(values, axis=1, dtype=np.int64, out=running[:, 1:])
    runs = np.empty(line.size, dtype=PIECE)
    runs["id"] = labels[line, left]
    runs["quarter_row"] = (line + row) // lattice.rows.quarter
    runs["quarter_col"] = left // quarter
    runs["top"], runs["bottom"] = line + row, line + row + 1
    runs["left"], runs["right"] = left, right
    runs["area"] = right - left
    runs["total"] = running[line, right] - running[line, left]
    runs["first_col"] = left
    return _group(runs)


def _group(pieces: Pieces) -> Pieces:
    """Entries with one id and quarter united into one, sorted by id and quarter."""
    if not pieces.size:
        return pieces
    order = ("first_col", "top", "quarter_col", "quarter_row", "id")
    pieces = pieces[np.lexsort(tuple(pieces[name] for name in order))]
    new = np.zeros(pieces.size, dtype=bool)
    new[0] = True
    for name in ("id", "quarter_row", "quarter_col"):
        new[1:] |= pieces[name][1:] != pieces[name][:-1]
    at = np.flatnonzero(new)
    # Sorting has put the first pixel's run at the head of its group, with its top and first column.
    united: Pieces = pieces[at]
    united["left"] = np.minimum.reduceat(pieces["left"], at)
    for name in ("bottom", "right"):
        united[name] = np.maximum.reduceat(pieces[name], at)
    for name in ("area", "total"):
        united[name] = np.add.reduceat(pieces[name], at)
    return united


def _table(pieces: Pieces, roots: Ints, shape: tuple[int, int], min_pixels: int) -> Components:
    """Objects from their pieces, small ones dropped, numbered by first pixel."""
    if not pieces.size:
        return Components((), pieces, 0, np.zeros_like(roots))
    at = np.flatnonzero(np.diff(pieces["id"], prepend=-1))
    area = np.add.reduceat(pieces["area"], at)
    total = np.add.reduceat(pieces["total"], at)
    first = np.minimum.reduceat(pieces["top"] * shape[1] + pieces["first_col"], at)
    kept = np.flatnonzero(area >= min_pixels)
    kept = kept[np.argsort(first[kept])]
    numbers = np.zeros_like(roots)
    numbers[pieces["id"][at[kept]]] = np.arange(1, kept.size + 1)
    top, left = (np.minimum.reduceat(pieces[name], at) for name in ("top", "left"))
    bottom, right = (np.maximum.reduceat(pieces[name], at) for name in ("bottom", "right"))
    items = tuple(
        _component(
            number,
            (int(top[index]), int(left[index]), int(bottom[index]), int(right[index])),
            divmod(int(first[index]), shape[1]),
            int(area[index]),
            int(total[index]) / (LEVELS * int(area[index])),
            shape,
        )
        for number, index in enumerate(kept, start=1)
    )
    lookup = numbers[roots]
    pieces = pieces[numbers[pieces["id"]] > 0]
    pieces["id"] = numbers[pieces["id"]]
    return Components(items, _group(pieces), int(at.size), lookup)


def _component(
    number: int,
    box: tuple[int, int, int, int],
    first: tuple[int, int],
    area: int,
    mean: float,
    shape: tuple[int, int],
) -> Component:
    top, left, bottom, right = box
    border = top == 0 or left == 0 or bottom == shape[0] or right == shape[1]
    return Component(number, Window(top, left, bottom - top, right - left), first, area, mean, border, mean)
