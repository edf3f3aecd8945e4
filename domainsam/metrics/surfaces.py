"""Distances between the surfaces of two masks, every piece of surface weighed by its area.

The definitions are those of Nikolov et al. (2018, arXiv:1809.04430, section on
the surface Dice coefficient) as their package ``surface-distance`` computes
them. A surface lies between voxels: each cube of 2 x 2 x 2 voxel centres that
are not all inside or all outside holds a piece of it, whose area marching
cubes give (Lorensen and Cline 1987), and whose place is the cube's centre.

The areas are made here from first principles. On a face with two opposite
corners inside, these are kept apart; what separates the corners are polygons
through the midpoints of edges, cut into triangles that lie in as few planes as
can be. More than four corners inside have the pieces of their complement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CORNERS = tuple(product((0, 1), repeat=3))
"""Corners of a cube, in the order of their bits: corner ``n`` counts ``2 ** n``."""
RING = ((0, 0), (0, 1), (1, 1), (1, 0))
"""Corners of a face, one after another around it."""

Corner = tuple[int, ...]
Triangle = tuple[int, int, int]
Mask = NDArray[np.bool_]
Vectors = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From every piece of a mask's surface the distance to the other's, and its area; nearest first.

    ``distances`` in the unit of the spacing, ``areas`` in its square, both ``(n,)``.
    """

    distances: NDArray[np.float64]
    areas: NDArray[np.float64]

    def percentile(self, percent: float) -> float:
        """Distance within which at least ``percent`` of the area lies."""
        share = np.cumsum(self.areas) / self.areas.sum()
        place = int(np.searchsorted(share, percent / 100))
        return float(self.distances[min(place, len(self.distances) - 1)])

    def within(self, tolerance: float) -> float:
        """Area of the surface that is no farther away than ``tolerance``."""
        return float(self.areas[self.distances <= tolerance].sum())


def measure_surfaces(
    one: Mask, other: Mask, spacing: Sequence[float]
) -> tuple[SurfaceDistances, SurfaceDistances]:
    """Distances of the surfaces of two masks ``(X, Y, Z)``, there and back.

    What lies outside the array is outside the mask.

    Parameters
    ----------
    one, other
        Masks of one shape, neither of them empty.
    spacing
        Distance of voxel centres along the three axes.

    Raises
    ------
    ValueError
        If shapes differ or a mask is empty.
    """
    if one.shape != other.shape or not (one.any() and other.any()):
        raise ValueError(f"masks of {one.shape} and {other.shape}: expected two of one shape, none empty")
    areas = compute_areas(spacing)
    box = ndimage.find_objects((one | other).astype(np.uint8))[0]
    codes = [encode_cubes(mask[box]) for mask in (one, other)]
    lines = [(code > 0) & (code < 255) for code in codes]
    away = [ndimage.distance_transform_edt(~line, sampling=spacing) for line in lines]
    return (
        _sort(away[1][lines[0]], areas[codes[0][lines[0]]]),
        _sort(away[0][lines[1]], areas[codes[1][lines[1]]]),
    )


def compute_surface_dice(there: SurfaceDistances, back: SurfaceDistances, tolerance: float) -> float:
    """Share of both surfaces' area that lies within ``tolerance`` of the other, 0 to 1."""
    return (there.within(tolerance) + back.within(tolerance)) / float(there.areas.sum() + back.areas.sum())


def compute_robust_hausdorff(there: SurfaceDistances, back: SurfaceDistances, percent: float) -> float:
    """The larger of both directions' distances within which ``percent`` of the area lies."""
    return max(there.percentile(percent), back.percentile(percent))


def _sort(distances: Any, areas: Any) -> SurfaceDistances:
    order = np.lexsort((areas, distances))
    return SurfaceDistances(distances[order], areas[order])


def encode_cubes(mask: Mask) -> NDArray[np.uint8]:
    """Which corners of every cube of 2 x 2 x 2 voxels are inside, ``(X + 1, Y + 1, Z + 1)``; see CORNERS."""
    padded = np.pad(mask, 1)
    sizes = [size + 1 for size in mask.shape]
    codes = np.zeros(sizes, np.uint8)
    for bit, (x, y, z) in enumerate(CORNERS):
        part = padded[x : x + sizes[0], y : y + sizes[1], z : z + sizes[2]]
        codes |= part.astype(np.uint8) << np.uint8(bit)
    return codes


def compute_areas(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Area of the surface within a cube, by the code of :func:`encode_cubes`, ``(256,)``."""
    x, y, z = spacing
    # A vector area shrinks along an axis with the steps of the two others.
    scale = np.array([y * z, x * z, x * y])
    return np.array([np.linalg.norm(vectors * scale, axis=1).sum() for vectors in list_pieces()])


@cache
def list_pieces() -> tuple[Vectors, ...]:
    """Vector areas ``(n, 3)`` of the triangles within a unit cube, by code."""
    pieces: list[Vectors] = []
    for code in range(256):
        inside = frozenset(corner for bit, corner in enumerate(CORNERS) if code >> bit & 1)
        few = inside if len(inside) <= 4 else frozenset(CORNERS) - inside
        found = [vector for polygon in _trace(few) for vector in _cut(polygon)]
        pieces.append(np.array(found).reshape(-1, 3))
    return tuple(pieces)


def _trace(inside: frozenset[Corner]) -> Iterator[list[Corner]]:
    """Polygons that part the corners inside from those outside, their points in half edges."""
    joined: dict[Corner, list[Corner]] = {}
    for axis, side in product(range(3), (0, 1)):
        ring = [_on_face(axis, side, place) for place in RING]
        for one, other in _part_face([corner in inside for corner in ring]):
            # Twice the midpoint of an edge, so that it stays whole.
            ends = [tuple(np.add(ring[n], ring[(n + 1) % 4]).tolist()) for n in (one, other)]
            joined.setdefault(ends[0], []).append(ends[1])
            joined.setdefault(ends[1], []).append(ends[0])
    while joined:
        start = min(joined)
        line = [start]
        while True:
            following = [point for point in joined[line[-1]] if point not in line]
            if not following:
                break
            line.append(following[0])
        for point in line:
            del joined[point]
        yield line


def _on_face(axis: int, side: int, place: tuple[int, int]) -> Corner:
    rest = iter(place)
    return tuple(side if n == axis else next(rest) for n in range(3))


def _part_face(inside: list[bool]) -> list[tuple[int, int]]:
    """Pairs of a face's edges, by number, that a line joins; corners inside are kept apart."""
    crossed = [n for n in range(4) if inside[n] != inside[(n + 1) % 4]]
    if len(crossed) == 4:
        return [((n - 1) % 4, n) for n in range(4) if inside[n]]
    return [(crossed[0], crossed[1])] if crossed else []


def _cut(polygon: list[Corner]) -> list[tuple[float, ...]]:
    """Vector areas ``(3,)`` of the triangles of a polygon, in as few planes as can be."""
    ways = []
    for triangles in _triangulate(0, len(polygon) - 1):
        crossed = [_cross(*(polygon[n] for n in triangle)) for triangle in triangles]
        planes = {
            _name_plane(vector, polygon[triangle[0]])
            for vector, triangle in zip(crossed, triangles, strict=True)
            if any(vector)
        }
        ways.append((len(planes), crossed))
    _, best = min(ways, key=lambda way: way[0])
    # Half the cross product, and a quarter because points are in half edges.
    return [tuple(part / 8 for part in vector) for vector in best]


def _cross(a: Corner, b: Corner, c: Corner) -> Corner:
    (ux, uy, uz), (vx, vy, vz) = ([n - m for n, m in zip(end, a, strict=True)] for end in (b, c))
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


def _name_plane(vector: Corner, point: Corner) -> tuple[int, ...]:
    """The plane across a vector through a point, in whole numbers without a common part."""
    part = math.gcd(*vector) * (1 if vector > (0, 0, 0) else -1)
    normal = [n // part for n in vector]
    return (*normal, sum(n * m for n, m in zip(normal, point, strict=True)))


def _triangulate(first: int, last: int) -> Iterator[list[Triangle]]:
    """All ways to cut the corners ``first`` to ``last`` of a polygon into triangles."""
    if last - first < 2:
        yield []
        return
    for middle in range(first + 1, last):
        for left, right in product(_triangulate(first, middle), _triangulate(middle, last)):
            yield [*left, *right, (first, middle, last)]
