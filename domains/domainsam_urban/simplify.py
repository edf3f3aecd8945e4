"""Fewer holes and fewer vertices, without tearing neighbours apart."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam_urban.geodesy import GroundFrame
from domainsam_urban.tracing import Traced

LARGEST_CHANGE = 0.05
"""Share of its area that thinning may give or take from a polygon."""


def ground_area(polygons: NDArray[np.object_], frame: GroundFrame) -> Float64:
    """Area ``(N,)`` of polygons in pixel corners, in the frame's equal-area plane: fast, for thresholds."""
    area: Float64 = shapely.area(shapely.transform(polygons, frame.to_ground))
    return area


def close_holes(traced: Traced, frame: GroundFrame, area_m2: float) -> Traced:
    """Fill the holes smaller than ``area_m2``.

    Polygons of the same value that lie in a filled hole are swallowed by it. A
    hole that holds another value stays open: filling it would make two classes
    claim one place.

    Parameters
    ----------
    area_m2
        Square metres on the ground (square pixels in a frame without a CRS).
    """
    holed = np.flatnonzero(shapely.get_num_interior_rings(traced.polygons) > 0)
    if area_m2 <= 0 or not len(holed):
        return traced
    rings, owner = shapely.get_rings(traced.polygons[holed], return_index=True)
    inner = np.r_[False, owner[1:] == owner[:-1]]
    holes, owner = shapely.polygons(rings[inner]), holed[owner[inner]]
    small = ground_area(holes, frame) < area_m2
    hole, island = shapely.STRtree(traced.polygons).query(holes, predicate="covers")
    other = traced.values[island] != traced.values[owner[hole]]
    small[hole[other]] = False
    keep = np.ones(len(traced), dtype=bool)
    keep[island[small[hole]]] = False
    polygons = traced.polygons.copy()
    for index in np.unique(owner[small]):
        open_still = rings[inner][(owner == index) & ~small]
        polygons[index] = shapely.Polygon(polygons[index].exterior, list(open_still))
    return Traced(polygons[keep], traced.values[keep])


def simplify(polygons: NDArray[np.object_], frame: GroundFrame, tolerance_m: float) -> NDArray[np.object_]:
    """Drop vertices whose triangle is smaller than ``tolerance_m`` squared, on shared edges alike.

    This is Visvalingam and Whyatt's measure (1993) on all polygons as one
    coverage: an edge between two neighbours stays one edge, places where three
    meet stay, no edge crosses another. Vertices are only ever dropped, so those
    that remain are still exact pixel corners. A staircase of pixels of size s
    is straight from a tolerance of about s on.

    Parameters
    ----------
    polygons
        ``(N,)`` valid Polygons in pixel corners that do not overlap.
    tolerance_m
        Metres on the ground (pixels in a frame without a CRS).

    Returns
    -------
    NDArray
        ``(N,)`` polygons in the order given. One that is too small for the
        tolerance, so that its area would change by more than
        :data:`LARGEST_CHANGE`, is left as it was.
    """
    if tolerance_m <= 0 or not len(polygons):
        return polygons

    def to_corners(points: Float64) -> Float64:
        return np.rint(frame.to_pixels(points))

    if not shapely.coverage_is_valid(polygons):
        # Where three classes meet, one of them may run straight past: give all the same corners.
        polygons = shapely.transform(shapely.segmentize(polygons, 1.0), np.rint)
    try:
        coverage = shapely.coverage_simplify(shapely.transform(polygons, frame.to_ground), tolerance_m)
    except shapely.GEOSException:
        # GEOS refuses coverages that touch in ways it cannot node; full detail is still right.
        return polygons
    thinned: NDArray[np.object_] = shapely.transform(coverage, to_corners)
    return _restore_small(polygons, thinned)


def _restore_small(polygons: NDArray[np.object_], thinned: NDArray[np.object_]) -> NDArray[np.object_]:
    """Give polygons that thinning made a caricature their outline back, where neighbours allow it.

    A square of a few pixels becomes a triangle of half its area. It is restored
    unless its old outline would now cross or leave a neighbour's new one.
    """
    change = np.abs(shapely.area(thinned) / shapely.area(polygons) - 1)
    spoilt = change > LARGEST_CHANGE
    restored = np.where(spoilt, polygons, thinned)
    clash = ~shapely.is_empty(shapely.coverage_invalid_edges(restored))
    result: NDArray[np.object_] = np.where(spoilt & ~clash, polygons, thinned)
    return result if shapely.coverage_is_valid(result) else thinned
