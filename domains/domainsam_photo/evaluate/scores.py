"""Scores of one mask against its truth, as the benchmarks of the papers define them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.metrics.boundary import compute_boundary_f, compute_tolerance, count_boundary

BAND = 0.02
"""Width of Boundary IoU's band, in diagonals (Cheng et al. 2021)."""

Mask = NDArray[np.bool_]


def measure_region(truth: Mask, answer: Mask) -> float:
    """DAVIS's region similarity J: the IoU, and 1 where both masks are empty (Perazzi et al. 2016)."""
    union = int((truth | answer).sum())
    return float((truth & answer).sum() / union) if union else 1.0


def measure_contour(truth: Mask, answer: Mask) -> float:
    """DAVIS's contour accuracy F within 0.008 of the diagonal, and 1 where neither mask has an outline."""
    counts = count_boundary(truth, answer, compute_tolerance((truth.shape[0], truth.shape[1])))
    score = float(compute_boundary_f(counts))
    return 1.0 if np.isnan(score) else score


def count_overlap(truth: Mask, answer: Mask) -> tuple[int, int]:
    """Pixels that both masks have, and that either has."""
    return int((truth & answer).sum()), int((truth | answer).sum())


def count_bands(truth: Mask, answer: Mask) -> tuple[int, int]:
    """As :func:`count_overlap`, of the bands along the inner edges: Boundary IoU's counts.

    The picture's edge bounds a mask (Cheng et al. 2021, whose code pads with zeros).
    """
    depth = max(1, round(BAND * float(np.hypot(*truth.shape))))
    return count_overlap(_band(truth, depth), _band(answer, depth))


def _band(mask: Mask, depth: int) -> Mask:
    """Pixels of a mask within ``depth`` steps of its edge, diagonal steps counting as one."""
    inner = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return np.asarray(mask & (inner <= depth))
