"""Areas on WGS 84 in closed form, to check others by."""

from __future__ import annotations

import math

WGS84_A, WGS84_F = 6378137.0, 1 / 298.257223563


def zone_area(south: float, north: float, width: float) -> float:
    """Area in m2 between two parallels, ``width`` degrees of longitude wide, on WGS 84.

    Closed form of the ellipsoid's authalic integral (Snyder 1987, equation 3-12).
    """
    e = math.sqrt(WGS84_F * (2 - WGS84_F))

    def q(lat: float) -> float:
        s = math.sin(math.radians(lat))
        return (1 - e**2) * (s / (1 - (e * s) ** 2) - math.log((1 - e * s) / (1 + e * s)) / (2 * e))

    return WGS84_A**2 * math.radians(width) / 2 * (q(north) - q(south))
