"""Points on a mask that a tracker follows, in the ways of SAM-PT (Rajic et al. 2023, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.errors import ConfigError

Pick = Literal["kmedoids", "random", "shi-tomasi", "mixed"]
MOST_PIXELS = 1800
"""Pixels of a mask that k-medoids looks at, as in SAM-PT's code."""
ROUNDS = 20
EROSIONS = (0.06, 0.02, 0.01)
"""Shares of the mask's diagonal that it is shrunk by before corners are looked for: the first that works."""
CORNER_QUALITY = 0.001
"""Share of the strongest corner's strength that a corner needs."""
CORNER_SIGMA = 1.5

Points = NDArray[np.float64]
"""``(P, 2)`` x, y in pixels, corner frame: a pixel's centre lies at 0.5."""


def pick_points(
    mask: NDArray[np.bool_], count: int, pick: Pick, seed: int = 0, image: NDArray[np.float32] | None = None
) -> Points:
    """Points of a mask, at most ``count``, fewer where it has fewer pixels; the same for the same seed.

    Parameters
    ----------
    mask
        ``(H, W)`` bool.
    count
        Number of points.
    pick
        Medoids of k clusters of places; any pixels; corners; or a mixture of a quarter medoids, a third
        corners and any pixels for the rest.
    image
        ``(3, H, W)`` float32, needed for corners; where it is None or shows none, medoids take their place.

    Raises
    ------
    ConfigError
        If ``pick`` is unknown.
    """
    ways: dict[str, Callable[[], Points]] = {
        "kmedoids": lambda: find_medoids(mask, count, seed),
        "random": lambda: draw_points(mask, count, seed),
        "shi-tomasi": lambda: _corners_or_medoids(mask, count, seed, image),
        "mixed": lambda: _mix(mask, count, seed, image),
    }
    if pick not in ways:
        raise ConfigError(f"points are picked by {', '.join(ways)}; not by {pick!r}")
    if count < 1 or not mask.any():
        return np.zeros((0, 2))
    return ways[pick]()


def draw_points(mask: NDArray[np.bool_], count: int, seed: int) -> Points:
    """Centres of pixels drawn without replacement."""
    rows, cols = np.nonzero(mask)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return np.stack([cols[chosen], rows[chosen]], axis=1) + 0.5


def find_medoids(mask: NDArray[np.bool_], count: int, seed: int) -> Points:
    """Pixels that are nearest to the others of their cluster: k clusters of places, by Voronoi iteration.

    Begins with points that are each farthest from those before, so that thin parts get theirs.
    """
    places = draw_points(mask, MOST_PIXELS, seed)
    if len(places) <= count:
        return places
    medoids = [int(np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1)))]
    nearest = np.full(len(places), np.inf)
    while len(medoids) < count:
        nearest = np.minimum(nearest, ((places - places[medoids[-1]]) ** 2).sum(axis=1))
        medoids.append(int(nearest.argmax()))
    for _ in range(ROUNDS):
        distance = ((places[:, None] - places[medoids][None]) ** 2).sum(axis=2)
        owner = distance.argmin(axis=1)
        moved = [_medoid(places, np.flatnonzero(owner == number)) for number in range(count)]
        if moved == medoids:
            break
        medoids = moved
    return places[medoids]


def _medoid(places: Points, members: NDArray[np.intp]) -> int:
    """The member with the least sum of distances to the others."""
    own = places[members]
    between = np.sqrt(((own[:, None] - own[None]) ** 2).sum(axis=2))
    return int(members[between.sum(axis=1).argmin()])


def find_corners(mask: NDArray[np.bool_], count: int, image: NDArray[np.float32]) -> Points:
    """Corners inside a mask, strongest first (Shi and Tomasi 1994: the smaller eigenvalue of the tensor)."""
    inner = _erode(mask)
    grey = image.mean(axis=0)
    down, right = ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)
    xx, yy, xy = (
        ndimage.gaussian_filter(part, CORNER_SIGMA) for part in (right * right, down * down, right * down)
    )
    strength = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    strength = np.where(inner & (strength == ndimage.maximum_filter(strength, 5)), strength, 0)
    rows, cols = np.nonzero(strength > CORNER_QUALITY * strength.max())
    order = np.argsort(-strength[rows, cols], kind="stable")[:count]
    return np.stack([cols[order], rows[order]], axis=1) + 0.5


def _erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, cols = np.nonzero(mask)
    diagonal = float(np.hypot(np.ptp(rows) + 1, np.ptp(cols) + 1))
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    for share in EROSIONS:
        inner = np.asarray(depth > share * diagonal)
        if inner.any():
            return inner
    return mask


def _corners_or_medoids(
    mask: NDArray[np.bool_], count: int, seed: int, image: NDArray[np.float32] | None
) -> Points:
    corners = np.zeros((0, 2)) if image is None else find_corners(mask, count, image)
    rest = find_medoids(mask, count - len(corners), seed) if len(corners) < count else corners[:0]
    return np.concatenate([corners, rest])


def _mix(mask: NDArray[np.bool_], count: int, seed: int, image: NDArray[np.float32] | None) -> Points:
    medoids, corners = count // 4, count // 3
    parts = [find_medoids(mask, medoids, seed)] if medoids else []
    if corners:
        parts.append(_corners_or_medoids(mask, corners, seed + 1, image))
    left = mask.copy()
    for part in parts:
        left[part[:, 1].astype(int), part[:, 0].astype(int)] = False
    kept = np.unique(np.concatenate([np.zeros((0, 2)), *parts]), axis=0)
    return np.concatenate([kept, draw_points(left, count - len(kept), seed + 2)])
