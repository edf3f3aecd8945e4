"""Points of a box that a model is asked about: a grid, or a pattern whose points keep their distance.

The published notebook asks about the first 15 of 30 points of a fixed blue-noise pattern, the paper's text
tells of a grid of 5 x 5. The pattern here is our own: the best of many candidates, one after another
(Mitchell 1991, "Spectrally optimal sampling for distribution ray tracing"), so that the first few of it are
well spread too.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from domainsam.errors import ConfigError

PATTERNS = ("spread", "grid")
"""Kinds of patterns, the default first."""
MOST = 100
CANDIDATES = 64
"""Candidates for each point that there is already."""


def make_points(kind: str = PATTERNS[0], count: int = 15) -> tuple[tuple[float, float], ...]:
    """Points x, y of the unit square; of a grid as many along each side as make at least ``count``.

    Raises
    ------
    ConfigError
        If there is no such pattern, or the count is not 1 to :data:`MOST`.
    """
    if kind not in PATTERNS:
        raise ConfigError(f"the pattern is {kind!r}, expected one of: {', '.join(PATTERNS)}")
    if not 1 <= count <= MOST:
        raise ConfigError(f"points of a box are {count}; expected 1 to {MOST}")
    if kind == "grid":
        side = int(np.ceil(np.sqrt(count)))
        steps = [(number + 0.5) / side for number in range(side)]
        return tuple((x, y) for y in steps for x in steps)
    return _spread(count)


@cache
def _spread(count: int) -> tuple[tuple[float, float], ...]:
    """So many points; each is the candidate that lies farthest from all before and from the edges."""
    generator = np.random.default_rng(0)
    points = np.array([[0.5, 0.5]])
    while len(points) < count:
        candidates = generator.random((CANDIDATES * len(points), 2))
        away = np.linalg.norm(candidates[:, None] - points[None], axis=2).min(axis=1)
        # An edge counts as another point twice as far: points on a box's edge lie beside most objects.
        edge = np.minimum(candidates, 1 - candidates).min(axis=1) * 2
        best = candidates[int(np.minimum(away, edge).argmax())]
        points = np.vstack([points, best])
    return tuple((round(float(x), 6), round(float(y), 6)) for x, y in points)
