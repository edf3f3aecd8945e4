"""Overlapping scenes whose labels contradict each other: nobody knows what is right there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from domainsam.grid import Float64
from domainsam.protocols import Window
from domainsam.train.losses import IGNORE
from domainsam_urban.geodesy import apply_affine, as_crs
from domainsam_urban.labels import BAND_PIXELS, LabelledScene

DOUBT = 250
"""Added to a contradicted label until all scenes are compared, so that their order does not matter."""
RIM_PARTS = 32
"""Pieces of a scene's side, which bends in another scene's CRS."""


def hide_contradictions(scenes: Sequence[LabelledScene]) -> tuple[str, ...]:
    """Make the ground unknown on which two scenes' labels differ; returns a note if there is any.

    A pixel is compared with the pixel of the other scene that its centre lies
    in, where both are known. Scenes without CRS have no place to compare.
    """
    placed = [scene for scene in scenes if scene.source.crs is not None]
    shared = contradicted = 0
    worst, names = 0.0, ""
    for one, other in combinations(placed, 2):
        counts = _compare(one, other) + _compare(other, one)
        shared, contradicted = shared + int(counts[0]), contradicted + int(counts[1])
        if counts[0] and counts[1] / counts[0] > worst:
            worst, names = (
                counts[1] / counts[0],
                f"{Path(one.source.path).name} and {Path(other.source.path).name}",
            )
    if not contradicted:
        return ()
    for scene in placed:
        scene.truth[(scene.truth >= DOUBT) & (scene.truth < IGNORE)] = IGNORE
        scene.share_out(scene.sides)
    return (
        f"labels of overlapping scenes contradict each other on {100 * contradicted / shared:.1f} % of their "
        f"common ground, which is treated as unknown; most ({100 * worst:.1f} %) between {names}",
    )


def _compare(one: LabelledScene, other: LabelledScene) -> NDArray[np.int64]:
    """Mark the labels of one scene that the other contradicts; pixels that both know, and those marked."""
    forth = _points(one, other)
    window = _common_window(one, other)
    counts = np.zeros(2, np.int64)
    step = max(1, BAND_PIXELS // max(1, window.width))
    for first in range(window.row, window.row + window.height, step):
        end = min(first + step, window.row + window.height)
        rows, cols = np.mgrid[first:end, window.col : window.col + window.width]
        spots = np.floor(forth(np.stack([cols.ravel(), rows.ravel()], axis=1) + 0.5))
        col, row = spots.T
        inside = (row >= 0) & (row < other.shape[0]) & (col >= 0) & (col < other.shape[1])
        theirs: NDArray[np.uint8] = np.full(len(spots), IGNORE, np.uint8)
        theirs[inside] = _first(other.truth[row[inside].astype(np.int64), col[inside].astype(np.int64)])
        part = one.truth[first:end, window.col : window.col + window.width]
        theirs, ours = theirs.reshape(part.shape), _first(part)
        known = (ours <= 1) & (theirs <= 1)
        wrong = known & (ours != theirs)
        part[wrong] = ours[wrong] + DOUBT
        counts += (known.sum(), wrong.sum())
    return counts


def _first(truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels as they were before any was marked."""
    return np.where((truth >= DOUBT) & (truth < IGNORE), truth - np.uint8(DOUBT), truth)


def _points(one: LabelledScene, other: LabelledScene) -> Callable[[Float64], Float64]:
    """A function from pixel corners ``(N, 2)`` of one scene, column and row, to those of another."""
    first, second = one.source, other.source
    start, end = as_crs(first.crs), as_crs(second.crs)
    transformer = None if start == end else Transformer.from_crs(start, end, always_xy=True)

    def forth(points: Float64) -> Float64:
        ground = apply_affine(first.transform, points)
        if transformer is not None:
            ground = np.stack(transformer.transform(ground[:, 0], ground[:, 1]), axis=1)
        return apply_affine(~second.transform, ground)

    return forth


def _common_window(one: LabelledScene, other: LabelledScene) -> Window:
    """The pixels of one scene within the box around the other."""
    height, width = other.shape
    rim = shapely.segmentize(shapely.box(0, 0, width, height).exterior, max(height, width) / RIM_PARTS)
    points = _points(other, one)(shapely.get_coordinates(rim))
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return Window(0, 0, 0, 0)
    (left, top), (right, bottom) = (
        np.floor(points.min(0)).astype(int) - 1,
        np.ceil(points.max(0)).astype(int) + 1,
    )
    rows = max(0, int(top)), min(one.shape[0], int(bottom))
    cols = max(0, int(left)), min(one.shape[1], int(right))
    return Window(rows[0], cols[0], max(0, rows[1] - rows[0]), max(0, cols[1] - cols[0]))
