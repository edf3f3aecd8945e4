"""Connected components and overlaps of a pair of masks that arrive in bands of rows.

Memory follows one band and the number of objects, never the scene's height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from domainsam.metrics.objects import Overlaps

EIGHT = np.ones((3, 3), bool)
"""Pixels that touch at a corner belong together."""


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """Objects of both masks: their overlaps, and their centroids ``(T, 2)`` and ``(P, 2)``.

    A centroid is ``row, column`` in pixels, the centre of the first pixel at 0.
    Objects are in reading order of their first pixel.
    """

    overlaps: Overlaps
    truth_centre: NDArray[np.float64]
    predicted_centre: NDArray[np.float64]


class _Pieces:
    """The pieces of objects that bands cut apart, and what joins them."""

    def __init__(self) -> None:
        self.count = 0
        self.links: list[NDArray[np.int64]] = []
        self.moments: list[NDArray[np.float64]] = []
        self.last: NDArray[np.int64] | None = None

    def add(self, mask: NDArray[np.bool_], first_row: int) -> NDArray[np.int64]:
        """Piece numbers of a band, from 1, 0 outside; the first row follows the last one given."""
        labels: NDArray[np.int64] = np.zeros(mask.shape, np.int64)
        found: int = ndimage.label(mask, EIGHT, output=labels)
        rows, cols = np.nonzero(labels)
        pieces = labels[rows, cols] - 1
        sums = [np.bincount(pieces, weight, found) for weight in (None, rows + float(first_row), cols)]
        self.moments.append(np.stack(sums, axis=1).astype(np.float64))
        labels[rows, cols] += self.count
        if self.last is not None:
            self._link(self.last, labels[0])
        self.last = labels[-1].copy()
        self.count += found
        return labels

    def _link(self, above: NDArray[np.int64], below: NDArray[np.int64]) -> None:
        """Note which pieces touch across the seam of two bands, corners included."""
        width = len(above)
        for shift in (-1, 0, 1):
            upper = above[max(0, shift) : width + min(0, shift)]
            lower = below[max(0, -shift) : width + min(0, -shift)]
            touching = (upper > 0) & (lower > 0)
            if touching.any():
                self.links.append(np.unique(np.stack([upper[touching], lower[touching]]), axis=1) - 1)

    def joined(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The object of every piece, and ``(objects, 3)`` area, sum of rows, sum of columns."""
        links = np.concatenate([np.empty((2, 0), np.int64), *self.links], axis=1)
        graph = coo_array(
            (np.ones(links.shape[1], bool), (links[0], links[1])), shape=(self.count, self.count)
        )
        if self.count:
            _, group = connected_components(graph, directed=False)
        else:
            group = np.empty(0, np.int64)
        # Number objects by their first piece, so that the order does not depend on the bands.
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        objects = np.argsort(np.argsort(first))[inverse].astype(np.int64)
        moments = np.zeros((len(first), 3))
        np.add.at(moments, objects, np.concatenate([np.empty((0, 3)), *self.moments]))
        return objects, moments


class ObjectAccumulator:
    """Objects (8-connected) of a true and a predicted mask, given in row bands from the top down."""

    def __init__(self) -> None:
        self._row = 0
        self._truth, self._predicted = _Pieces(), _Pieces()
        self._pairs: list[NDArray[np.int64]] = []

    def add(self, truth: ArrayLike, predicted: ArrayLike) -> Self:
        """Take the next band: two boolean arrays ``(rows, width)``, ignored pixels false in both.

        Raises
        ------
        ValueError
            If the shapes differ from each other, or the width from earlier bands.
        """
        truth, predicted = np.asarray(truth, bool), np.asarray(predicted, bool)
        last = self._truth.last
        if (
            truth.shape != predicted.shape
            or truth.ndim != 2
            or (last is not None and len(last) != truth.shape[1])
        ):
            raise ValueError(
                f"bands of shape {truth.shape} and {predicted.shape}: expected (rows, width) alike"
            )
        if truth.size == 0:
            return self
        true_pieces, pieces = self._truth.add(truth, self._row), self._predicted.add(predicted, self._row)
        both = truth & predicted
        pairs, shared = np.unique(np.stack([true_pieces[both], pieces[both]]), axis=1, return_counts=True)
        self._pairs.append(np.concatenate([pairs - 1, shared[None]]))
        self._row += truth.shape[0]
        return self

    def finish(self) -> ObjectTable:
        """The objects of all bands so far."""
        true_objects, true_moments = self._truth.joined()
        objects, moments = self._predicted.joined()
        truth, predicted, shared = np.concatenate([np.empty((3, 0), np.int64), *self._pairs], axis=1)
        shape = (len(true_moments), len(moments))
        table = coo_array((shared, (true_objects[truth], objects[predicted])), shape=shape)
        table.sum_duplicates()
        rows, cols = table.coords
        overlaps = Overlaps(
            true_moments[:, 0],
            moments[:, 0],
            rows.astype(np.int64),
            cols.astype(np.int64),
            table.data.astype(np.float64),
        )
        return ObjectTable(
            overlaps, true_moments[:, 1:] / true_moments[:, :1], moments[:, 1:] / moments[:, :1]
        )
