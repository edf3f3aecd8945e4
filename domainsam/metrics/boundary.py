"""Boundary F-score: how much of each outline lies near the other.

The definition is that of the DAVIS benchmark (Perazzi et al., CVPR 2016):
outlines one pixel wide, a pixel counts as met when the other outline passes
within the tolerance, and F is the harmonic mean of the two shares.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from domainsam.metrics.overlap import divide

DAVIS_TOLERANCE = 0.008
"""Share of the image diagonal (DAVIS evaluation code, ``bound_th``)."""


def compute_tolerance(shape: tuple[int, int]) -> int:
    """DAVIS's tolerance in pixels for an image of ``(rows, columns)``: ``ceil(0.008 * diagonal)``."""
    return math.ceil(DAVIS_TOLERANCE * math.hypot(*shape))


def find_outline(mask: ArrayLike) -> NDArray[np.bool_]:
    """Pixels of a mask ``(H, W)`` that differ from their right, lower or lower right neighbour.

    The picture's edge is no outline: beyond it the mask is taken to go on.
    """
    mask = np.asarray(mask, bool)
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, corner = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return np.asarray((mask != right) | (mask != below) | (mask != corner))


def count_boundary(
    truth: ArrayLike,
    predicted: ArrayLike,
    tolerance: float,
    valid: ArrayLike | None = None,
    core: tuple[slice, slice] | None = None,
) -> NDArray[np.int64]:
    """Outline pixels of both masks, and how many of each the other one meets.

    Parameters
    ----------
    truth, predicted
        Boolean masks ``(H, W)``.
    tolerance
        Largest distance between pixel centres, in pixels, that still counts as met.
    valid
        Boolean ``(H, W)``; no outline is sought on, or next to, pixels where it is false.
    core
        The part of the masks to count, everything by default. The rest is a
        margin; with one of ``ceil(tolerance) + 1`` pixels the counts of windows
        that tile a scene add up to the counts of the scene.

    Returns
    -------
    ``(4,)`` int64: true outline, true outline met, predicted outline, predicted outline met.

    Raises
    ------
    ValueError
        If the shapes differ or the tolerance is negative.
    """
    truth, predicted = np.asarray(truth, bool), np.asarray(predicted, bool)
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(f"masks of shape {truth.shape} and {predicted.shape}: expected (H, W) alike")
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance} pixels, expected 0 or more")
    lines = [find_outline(truth), find_outline(predicted)]
    if valid is not None:
        inside = np.asarray(valid, bool)
        # The same neighbours as in outline(): an edge of the valid area is no outline.
        settled = ~(find_outline(inside) | ~inside)
        lines = [line & settled for line in lines]
    part = core if core is not None else (slice(None), slice(None))
    true_line, predicted_line = lines
    return np.array(
        [
            *_met(true_line, predicted_line, tolerance, part),
            *_met(predicted_line, true_line, tolerance, part),
        ],
        np.int64,
    )


def _met(
    line: NDArray[np.bool_], other: NDArray[np.bool_], tolerance: float, part: tuple[slice, slice]
) -> tuple[int, int]:
    """Pixels of a line within ``part``, and how many have the other line within the tolerance."""
    total = int(line[part].sum())
    if total == 0 or not other.any():
        return total, 0
    distance = ndimage.distance_transform_edt(~other)
    return total, int((line & (distance <= tolerance))[part].sum())


def compute_boundary_f(counts: ArrayLike) -> NDArray[np.float64]:
    """Boundary F-score of counts ``(..., 4)``, as from :func:`count_boundary`, pooled if summed before.

    0 where only one of the masks has an outline, NaN where neither has (for
    such an image DAVIS gives 1, which would reward empty scenes).
    """
    true, true_met, predicted, predicted_met = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    recall = np.where((true == 0) & (predicted > 0), 0.0, divide(true_met, true))
    precision = np.where((predicted == 0) & (true > 0), 0.0, divide(predicted_met, predicted))
    both = precision + recall
    return np.where(both == 0, 0.0, divide(2 * precision * recall, both))
