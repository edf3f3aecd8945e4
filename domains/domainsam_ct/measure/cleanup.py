"""Clean organ masks: remove stray parts and fill holes, slice by slice.

Every organ is judged by itself. Left and right of a pair are different
organs here, so neither is ever measured against the other, and nothing is
filled that two organs enclose together.

A part of an organ is stray if the network was hardly sure of it, if it is small
beside the organ's largest part, or far from it: what the model of a few
subjects finds at the body's edge, or in a bladder that it takes for a liver.

The volume is read slice by slice, twice for each step: parts of single slices
are joined to parts in space by what overlaps from slice to slice, and looked
up on the second reading. Voxels of an organ are connected over edges and
corners inside a slice and over faces between slices; background is connected
over faces, so that no cavity leaks through a corner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from domainsam_ct.read.staged import StagedVolume

Ids = NDArray[np.int32]
Vector = tuple[float, float, float]
Plane = tuple[NDArray[np.uint8], Ids]
"""A slice ``(X, Y)`` and the numbers of its parts; 0 where there is no part to number."""
USUAL_SHARE, THIN_SHARE = 0.2, 0.02
"""Least share of an organ's largest part that stays: of compact organs, and of those found in pieces.

The second was chosen on six subjects of BTCV that their model had not seen (the models' cards have figures).
"""
_EDGES_AND_CORNERS = np.ones((3, 3), int)
_FACES = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class CleanUp:
    """What is done to which values.

    Parameters
    ----------
    parts
        Values whose stray parts are removed.
    holes
        Values whose cavities are filled.
    keep_share
        A part stays if it has at least this share of the voxels of the organ's
        largest part; 1 keeps the largest alone. None is :data:`USUAL_SHARE`, and
        :data:`THIN_SHARE` of ``thin`` ones.
    keep_within_mm
        A part stays if its box is so near to the largest part's; organs are of one piece.
    keep_confidence
        A part stays if the network gave the organ at least this probability, on average.
    thin
        Values of organs so thin, as vessels are, that they are found in pieces.
    """

    parts: frozenset[int] = frozenset()
    holes: frozenset[int] = frozenset()
    keep_share: float | None = None
    keep_within_mm: float = 30.0
    keep_confidence: float = 0.6
    thin: frozenset[int] = frozenset()

    def share(self, value: int) -> float:
        """The least share of an organ's largest part that stays."""
        if self.keep_share is not None:
            return self.keep_share
        return THIN_SHARE if value in self.thin else USUAL_SHARE


@dataclass(frozen=True)
class Cleaned:
    """Voxels removed and filled, by value; values where nothing was done are absent."""

    removed: Mapping[int, int] = field(default_factory=dict)
    filled: Mapping[int, int] = field(default_factory=dict)


def clean_up(
    mask: StagedVolume,
    options: CleanUp,
    spacing_mm: Vector,
    confidence: StagedVolume | None = None,
) -> Cleaned:
    """Clean a mask in place.

    Parameters
    ----------
    spacing_mm
        Between voxels: right, anterior, superior.
    confidence
        255 times the network's probability at each voxel; without it, parts are not judged by that.
    """
    removed = remove_parts(mask, options, spacing_mm, confidence) if options.parts else {}
    filled = fill_holes(mask, options.holes) if options.holes else {}
    return Cleaned(removed, filled)


def remove_parts(
    mask: StagedVolume, options: CleanUp, spacing_mm: Vector, confidence: StagedVolume | None = None
) -> dict[int, int]:
    """Set stray parts of organs to background; returns voxels removed by value."""
    parts = _Parts()
    before: Plane | None = None
    for index, labels, ids in _organ_parts(mask, options.parts):
        parts.count(ids, labels)
        parts.place(ids, index)
        if confidence is not None:
            parts.weigh(ids, confidence.read(index, index + 1)[0])
        if before is not None:
            same = (ids > 0) & (before[1] > 0) & (labels == before[0])
            parts.join(before[1][same], ids[same])
        before = labels, ids
    sizes, value_of, root = parts.solve()
    if not len(sizes):
        return {}
    gone = np.zeros(len(sizes), bool)
    if confidence is not None:
        gone = parts.weights(root, len(sizes)) < options.keep_confidence * 255 * sizes
    gone |= _astray(sizes, value_of, parts.boxes(root, len(sizes)) * np.array(spacing_mm), gone, options)
    removed = np.bincount(value_of[gone], sizes[gone], minlength=256).astype(np.int64)
    if gone.any():
        lost = gone[root]
        for index, labels, ids in _organ_parts(mask, options.parts):
            stray = lost[ids] & (ids > 0)
            if stray.any():
                labels[stray] = 0
                mask.write(index, labels[None])
    return {int(value): int(removed[value]) for value in np.flatnonzero(removed)}


def _astray(
    sizes: NDArray[np.int64],
    value_of: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    gone: NDArray[np.bool_],
    options: CleanUp,
) -> NDArray[np.bool_]:
    """Which parts are too small beside the largest of those that are not ``gone``, or too far from it."""
    astray = np.zeros(len(sizes), bool)
    for value in np.unique(value_of[~gone]):
        own = np.flatnonzero((value_of == value) & ~gone)
        first = own[sizes[own].argmax()]
        apart = np.maximum(boxes[0, own] - boxes[1, first], boxes[0, first] - boxes[1, own]).clip(min=0)
        far = np.linalg.norm(apart, axis=1) > options.keep_within_mm
        astray[own] = far | (sizes[own] < options.share(int(value)) * sizes[first])
    return astray


def fill_holes(mask: StagedVolume, values: frozenset[int]) -> dict[int, int]:
    """Fill background that one of the given values alone encloses; returns voxels filled by value.

    What reaches the volume's border is no cavity.
    """
    parts = _Parts()
    before: Plane | None = None
    for index, labels, ids in _background_parts(mask):
        parts.count(ids, labels)
        parts.meet_plane(ids, labels)
        if index in (0, mask.depth - 1):
            parts.open(ids)
        if before is not None:
            parts.join_planes(before, (labels, ids))
        before = labels, ids
    sizes, _, root = parts.solve()
    if not len(sizes):
        return {}
    enclosing = parts.enclosing(root, len(sizes))
    enclosing[~np.isin(enclosing, list(values))] = 0
    filled = np.bincount(enclosing, sizes, minlength=256).astype(np.int64)
    filled[0] = 0
    if filled.any():
        fill = enclosing[root]
        for index, labels, ids in _background_parts(mask):
            new = fill[ids]
            new[ids == 0] = 0
            if new.any():
                mask.write(index, np.where(new > 0, new, labels).astype(np.uint8)[None])
    return {int(value): int(filled[value]) for value in np.flatnonzero(filled)}


class _Parts:
    """Parts of single slices, gathered until they can be joined; numbers grow from slice to slice."""

    def __init__(self) -> None:
        self._sizes: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.uint8]] = []
        self._pairs: list[NDArray[np.int64]] = []
        self._met: list[NDArray[np.int64]] = []
        self._open: list[NDArray[np.int32]] = []
        self._boxes: list[NDArray[np.int64]] = []
        self._weights: list[NDArray[np.float64]] = []
        self._seen = 0

    def count(self, ids: Ids, labels: NDArray[np.uint8]) -> None:
        """Take note of a slice's parts, whose numbers begin after the last slice's."""
        last = int(ids.max())
        if last <= self._seen:
            return
        inside = ids > 0
        local = ids[inside] - self._seen - 1
        self._sizes.append(np.bincount(local, minlength=last - self._seen))
        values = np.zeros(last - self._seen, np.uint8)
        values[local] = labels[inside]
        self._values.append(values)
        self._seen = last

    def place(self, ids: Ids, index: int) -> None:
        """Take note of where the parts of slice ``index`` lie, after :meth:`count`."""
        found = [box for box in ndimage.find_objects(self._local(ids)) if box is not None]
        ends = [[[box[0].start, box[1].start, index], [box[0].stop, box[1].stop, index + 1]] for box in found]
        self._boxes.append(np.array(ends, np.int64).reshape(-1, 2, 3))

    def weigh(self, ids: Ids, weights: NDArray[np.uint8]) -> None:
        """Take note of the sum of a slice's weights over its parts, after :meth:`count`."""
        self._weights.append(np.bincount(self._local(ids).ravel(), weights.ravel())[1:].astype(np.float64))

    def _local(self, ids: Ids) -> Ids:
        """The last slice's numbers, from 1 on."""
        first = self._seen - (len(self._sizes[-1]) if ids.any() else 0)
        return np.where(ids > 0, ids - first, 0).astype(np.int32)

    def join(self, one: Ids, other: Ids) -> None:
        """Say that these parts are one, pair by pair."""
        if one.size:
            self._pairs.append(_unique_pairs(one, other))

    def open(self, ids: Ids) -> None:
        """Say that these parts reach the volume's border."""
        self._open.append(np.unique(ids))

    def meet(self, ids: Ids, neighbours: NDArray[np.uint8]) -> None:
        """Take note of the organs that lie next to parts."""
        touching = (ids > 0) & (neighbours > 0)
        if touching.any():
            self._met.append(_unique_pairs(ids[touching], neighbours[touching]))

    def meet_plane(self, ids: Ids, labels: NDArray[np.uint8]) -> None:
        """The same for neighbours inside the slice."""
        self.meet(ids[1:], labels[:-1])
        self.meet(ids[:-1], labels[1:])
        self.meet(ids[:, 1:], labels[:, :-1])
        self.meet(ids[:, :-1], labels[:, 1:])

    def join_planes(self, below: Plane, above: Plane) -> None:
        """Join background of two neighbouring slices, where part 0 is all that reaches the slice's edge."""
        both = (above[1] > 0) & (below[1] > 0)
        self.join(below[1][both], above[1][both])
        for (_, ids), (other, others) in ((below, above), (above, below)):
            self.open(ids[(other == 0) & (others == 0)])
            self.meet(ids, other)

    def solve(self) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int32]]:
        """Size and value of every part in space, and for every number its part (at 0: anything)."""
        if not self._seen:
            return np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(1, np.int32)
        pairs = np.concatenate(self._pairs, axis=1) - 1 if self._pairs else np.zeros((2, 0), np.int64)
        graph = coo_array((np.ones(pairs.shape[1], np.int8), pairs), shape=(self._seen, self._seen))
        count, part = connected_components(graph, directed=False)
        sizes = np.bincount(part, np.concatenate(self._sizes), minlength=count).astype(np.int64)
        values = np.zeros(count, np.uint8)
        values[part] = np.concatenate(self._values)
        return sizes, values, np.concatenate([[0], part]).astype(np.int32)

    def weights(self, root: NDArray[np.int32], count: int) -> NDArray[np.float64]:
        """Sum of the weights of every part in space."""
        return np.bincount(root[1:], np.concatenate(self._weights), minlength=count).astype(np.float64)

    def boxes(self, root: NDArray[np.int32], count: int) -> NDArray[np.int64]:
        """Faces of every part in space, ``(2, count, 3)`` voxels: lowest, highest."""
        ends = np.concatenate(self._boxes)
        low = np.full((count, 3), np.iinfo(np.int64).max)
        high = np.zeros((count, 3), np.int64)
        np.minimum.at(low, root[1:], ends[:, 0])
        np.maximum.at(high, root[1:], ends[:, 1])
        return np.stack([low, high])

    def enclosing(self, root: NDArray[np.int32], count: int) -> NDArray[np.uint8]:
        """The value that alone encloses each part; 0 where there are several, none, or the border."""
        least, most = np.full(count, 255, np.uint8), np.zeros(count, np.uint8)
        for ids, values in self._met:
            np.minimum.at(least, root[ids], values.astype(np.uint8))
            np.maximum.at(most, root[ids], values.astype(np.uint8))
        alone = np.where(least == most, most, 0).astype(np.uint8)
        for ids in self._open:
            alone[root[ids[ids > 0]]] = 0
        return alone


def _unique_pairs(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    """Distinct pairs, ``(2, n)``; as one number each, which sorts faster than rows."""
    step = int(other.max()) + 1
    code = np.unique(one.astype(np.int64) * step + other)
    return np.stack([code // step, code % step])


def _organ_parts(mask: StagedVolume, values: frozenset[int]) -> Iterator[tuple[int, NDArray[np.uint8], Ids]]:
    """Slice number, slice and numbered parts of the given values, slice by slice."""
    seen = 0
    for index, labels in _slices(mask):
        ids: Ids = np.zeros(labels.shape, np.int32)
        for value, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
            if box is None or value not in values:
                continue
            inside = labels[box] == value
            numbers, count = ndimage.label(inside, _EDGES_AND_CORNERS)
            ids[box][inside] = numbers[inside] + seen
            seen += count
        yield index, labels, ids


def _background_parts(mask: StagedVolume) -> Iterator[tuple[int, NDArray[np.uint8], Ids]]:
    """Slice number, slice and numbered parts of background that do not reach the slice's edge."""
    seen = 0
    for index, labels in _slices(mask):
        numbers, _ = ndimage.label(labels == 0, _FACES)
        edge = np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
        inner = np.setdiff1d(np.unique(numbers), np.append(edge, 0))
        renumber = np.zeros(int(numbers.max()) + 1, np.int32)
        renumber[inner] = np.arange(seen + 1, seen + 1 + len(inner))
        seen += len(inner)
        yield index, labels, renumber[numbers]


def _slices(mask: StagedVolume) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for start, chunk in mask.chunks():
        for offset, labels in enumerate(chunk):
            yield start + offset, labels
