"""The grid on which a scene is looked at, and the facts about a scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from domainsam_urban.radiometry import Radiometry

RESAMPLE_FACTOR = 1.25
"""A scene whose ground pixel is within this factor of the asked-for resolution is read as it is:
networks are trained with at least that much change of scale."""


@dataclass(frozen=True)
class SceneProfile:
    """Facts about a scene, for people and for run metadata.

    ``ground_pixel`` is the native pixel's height and width in metres at the
    scene's centre, None without a CRS; ``work_pixel`` that of the work grid.
    """

    path: str
    driver: str
    shape: tuple[int, int]
    band_count: int
    dtype: str
    bands: tuple[int, ...]
    nodata: float | None
    crs: str | None
    ground_pixel: tuple[float, float] | None
    work_shape: tuple[int, int]
    work_pixel: tuple[float, float] | None
    resampled: bool
    radiometry: Radiometry
    tags: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


def work_shape(
    native: tuple[int, int], ground: tuple[float, float] | None, resolution: float | None
) -> tuple[int, int]:
    """Rows and columns of the work grid: the native ones where the ground pixel is near ``resolution``."""
    if resolution is None or ground is None:
        return native
    ratios = [metres / resolution for metres in ground]
    if all(1 / RESAMPLE_FACTOR <= ratio <= RESAMPLE_FACTOR for ratio in ratios):
        return native
    return max(1, round(native[0] * ratios[0])), max(1, round(native[1] * ratios[1]))


def centre_affine(transform: Affine) -> NDArray[np.float64]:
    """A :class:`Grid`'s matrix from an affine of pixel corners: axes row, column; pixel centres."""
    x, y = transform @ (0.5, 0.5)
    return np.array(
        [[transform.b, transform.a, x], [transform.e, transform.d, y], [0, 0, 1]], dtype=np.float64
    )
