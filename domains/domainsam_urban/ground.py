"""Size of a pixel on the ground."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from domainsam.errors import InputError


def ground_pixel(crs: Any, transform: Any, shape: tuple[int, int]) -> tuple[float, float]:
    """Height and width of a scene's central pixel in metres on the ellipsoid.

    Measured along geodesics between the middles of the pixel's sides, so that
    it holds for degrees, feet and Web Mercator's stretched metres alike.

    Parameters
    ----------
    crs
        Anything with ``to_wkt()``.
    transform
        ``affine.Affine`` from (column, row), pixel corners, to the CRS.
    shape
        Rows and columns.

    Raises
    ------
    InputError
        If the CRS has no place on the Earth.
    """
    row, col = shape[0] / 2, shape[1] / 2
    corners = [transform @ (col + dx, row + dy) for dx, dy in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))]
    try:
        system = CRS.from_wkt(crs.to_wkt())
        geodetic = system.geodetic_crs
        if geodetic is None:
            raise ProjError("the CRS is not tied to the Earth")
        to_degrees = Transformer.from_crs(system, geodetic, always_xy=True)
        lon, lat = to_degrees.transform(*zip(*corners, strict=True))
    except ProjError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"the size of a pixel on the ground cannot be told from the CRS ({reason}); "
            "reproject the scene, or use it without a CRS"
        ) from error
    geod = system.get_geod() or Geod(ellps="WGS84")
    _, _, metres = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    width, height = (float(value) for value in metres)
    if not (np.isfinite([width, height]).all() and width > 0 and height > 0):
        raise InputError("the scene's centre lies outside the area of its CRS; check the geotransform")
    return height, width
