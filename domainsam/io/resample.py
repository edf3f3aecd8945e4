"""Resample images by windows: area mean or interpolation that leaves missing pixels out.

A window's values do not depend on where the window lies, bit for bit, because
every weight follows from positions in the whole scene. (Resampled reads of a
raster library do not promise that, nor that a nodata value given by the user
is left out of means.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

SPLINE_BELOW = 2.0
"""Source pixels in one output pixel; from there on means over areas are sharp enough."""
SPLINE_REACH = 6
"""Pixels to either side that have a say in a spline's coefficient; farther ones would have 0.04 % of one."""
REACH = SPLINE_REACH + 2
LEAST_COVER = 0.5
"""A resampled pixel is valid if at least this share of its weight is."""


@dataclass(frozen=True)
class AxisWeights:
    """How a stretch of source pixels makes a stretch of output pixels along one axis.

    ``matrix`` is ``(outputs, sources)``; its rows sum to 1, or are empty
    outside the scene. ``first`` is the first source pixel.
    """

    first: int
    matrix: csr_matrix

    @property
    def end(self) -> int:
        """Past the last source pixel."""
        return self.first + int(self.matrix.shape[1])


def compute_axis_weights(
    first: int, count: int, scale: float, length: int, offset: float = 0.0, spline: bool = False
) -> AxisWeights:
    """Weights of output pixels ``first`` to ``first + count`` along an axis.

    Parameters
    ----------
    first, count
        Output pixels wanted; they may lie outside the scene.
    scale
        Source pixels in one output pixel. From 1 on, an output pixel is the
        mean over the area it covers; below 1 it is interpolated linearly.
    length
        Source pixels of the whole axis.
    offset
        Where output pixel 0 begins, in source pixels from the first one's edge.
    spline
        Below a scale of :data:`SPLINE_BELOW` interpolate by a cubic spline instead, which hardly blurs a
        picture, and no more between its pixels than on them; it may leave the range of the values a little.
    """
    index = np.arange(first, first + count, dtype=np.float64)
    start, end = index * scale + offset, (index + 1) * scale + offset
    centre = (start + end) / 2
    if scale >= (SPLINE_BELOW if spline else 1):
        sources = np.floor(start)[:, None] + np.arange(int(np.ceil(scale)) + 1)
        weights = np.minimum(sources + 1, end[:, None]) - np.maximum(sources, start[:, None])
        weights = np.maximum(weights, 0)
    else:
        base = np.floor(centre - 0.5)[:, None]
        sources = base + (np.arange(-REACH, REACH + 2) if spline else np.arange(2))
        away = sources + 0.5 - centre[:, None]
        # Without a spline, a triangle as wide as a source pixel on either side of the output pixel's centre.
        weights = weigh_spline(away, scale) if spline else 1 - np.abs(away)
        # At the rim the missing neighbour's weight goes to the pixel that is there.
        sources = np.clip(sources, 0, length - 1)
    within = (centre > 0) & (centre < length)
    inside = within[:, None] & (sources >= 0) & (sources < length) & (weights != 0)
    rows = np.nonzero(inside)[0]
    columns, values = sources[inside].astype(np.int64), weights[inside]
    if not columns.size:
        return AxisWeights(0, csr_matrix((count, 0), dtype=np.float32))
    offset = int(columns.min())
    width = int(columns.max()) + 1 - offset
    total = np.bincount(rows, weights=values, minlength=count)[rows]
    matrix = csr_matrix((values / total, (rows, columns - offset)), shape=(count, width), dtype=np.float32)
    return AxisWeights(offset, matrix)


def find_spline() -> NDArray[np.float64]:
    """Weights of pixels in a coefficient of the cubic spline through them (Unser et al. 1993, part II)."""
    weights = (np.sqrt(3) - 2) ** np.abs(np.arange(1 - SPLINE_REACH, SPLINE_REACH))
    return np.asarray(weights / weights.sum())


def find_spread(scale: float) -> NDArray[np.float64]:
    """A kernel of three that makes up for pixels ``scale`` times as wide, or of one where they are no wider.

    After it a value is as spread as a mean over the pixel's area is: ``(s^2 - 1) / 12`` more, in variance.
    """
    side = max(0.0, scale**2 - 1) / 24
    return np.array([side, 1 - 2 * side, side]) if side else np.ones(1)


def weigh_spline(away: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Weights of source pixels at signed distances ``away`` from an output pixel ``scale`` times as wide."""
    taps = np.convolve(find_spread(scale), find_spline())
    first = -(len(taps) // 2)
    return np.asarray(sum(tap * _bell(away - first - index) for index, tap in enumerate(taps)))


def _bell(away: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cubic B-spline."""
    away = np.abs(away)
    near, far = 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6
    return np.where(away < 1, near, far)


def resample(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rows: csr_matrix,
    cols: csr_matrix,
    least_cover: float = LEAST_COVER,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample an image ``(C, h, w)`` whose invalid pixels are 0.

    Returns the image ``(C, H, W)``, each value a mean over valid source
    pixels only, and its validity ``(H, W)``: whether valid pixels have at
    least ``least_cover`` of its weight.
    """
    planes = np.concatenate([image, valid[None].astype(np.float32)])
    count, height, width = planes.shape
    tall = rows @ planes.transpose(1, 0, 2).reshape(height, count * width)
    tall = tall.reshape(-1, count, width).transpose(1, 0, 2).reshape(-1, width)
    wide = (cols @ tall.T).T.reshape(count, rows.shape[0], cols.shape[0])
    cover = wide[-1]
    # A hair of tolerance, for weights are rounded to float32.
    kept = cover >= least_cover - 1e-6
    values = np.divide(wide[:-1], cover, out=np.zeros_like(wide[:-1]), where=kept)
    return np.clip(values, 0, 1), kept
