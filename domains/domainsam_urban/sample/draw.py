"""Draw points at random within strata, without holding the ground in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam.protocols import Window
from domainsam_urban.sample.strata import NAMES
from domainsam_urban.trend.ground import CommonGround


@dataclass(frozen=True, eq=False)
class Points:
    """A sample, in an order in which the strata are mixed at random.

    Parameters
    ----------
    row, col
        ``(N,)`` pixels of the common ground.
    stratum
        ``(N,)`` index into :data:`~domainsam_urban.sample.strata.NAMES`.
    longitude, latitude
        ``(N,)`` the pixels' centres in degrees, WGS 84.
    """

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    stratum: NDArray[np.int64]
    longitude: Float64
    latitude: Float64

    def __len__(self) -> int:
        return len(self.row)


def draw_points(
    windows: Iterable[tuple[Window, NDArray[np.uint8]]],
    ground: CommonGround,
    pixels: NDArray[np.int64],
    points: NDArray[np.int64],
    seed: int,
) -> Points:
    """Draw pixels of every stratum, each pixel as likely as any other of its stratum and none twice.

    Parameters
    ----------
    windows
        The whole ground, as :func:`~domainsam_urban.sample.strata.sweep_strata` gives it.
    pixels, points
        ``(6,)`` pixels that each stratum has, and how many are drawn.
    """
    rng = np.random.default_rng(seed)
    ranks = [
        np.sort(rng.choice(int(total), int(count), replace=False))
        for total, count in zip(pixels, points, strict=True)
    ]
    passed = np.zeros(len(NAMES), dtype=np.int64)
    rows, cols, strata = [], [], []
    for window, found in windows:
        for stratum, wanted in enumerate(ranks):
            places = np.flatnonzero(found == stratum)
            here = wanted[(wanted >= passed[stratum]) & (wanted < passed[stratum] + len(places))]
            index = places[here - passed[stratum]]
            row, col = np.divmod(index, window.width)
            rows.append(row + window.row)
            cols.append(col + window.col)
            strata.append(np.full(len(index), stratum))
            passed[stratum] += len(places)
    order = rng.permutation(int(points.sum()))
    row, col = np.concatenate(rows)[order], np.concatenate(cols)[order]
    longitude, latitude = locate(ground, row, col)
    return Points(row, col, np.concatenate(strata)[order], longitude, latitude)


def locate(ground: CommonGround, row: NDArray[np.int64], col: NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Longitude and latitude of pixels' centres."""
    x, y = ground.affine @ (col + 0.5, row + 0.5)
    to_degrees = pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(ground.wkt), "EPSG:4326", always_xy=True)
    longitude, latitude = to_degrees.transform(x, y)
    return np.asarray(longitude, np.float64), np.asarray(latitude, np.float64)
