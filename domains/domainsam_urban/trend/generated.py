"""Generate settlements that grow, shrink, split and merge over the years, with their truth.

The ground is laid out in cells; every cell holds one settlement, or a pair,
with a fate of its own, far enough from its neighbours that fates do not mix.
Outlines are wobbly, areas are whole pixels, so every figure has a known truth.
What a map makes of it is drawn separately: :func:`simulate_map` errs the way
classifiers do, :func:`paint_series` gives pictures from real or generated
texture, with season, haze, noise and misregistration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bool = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]

FATES = ("appeared", "expanded", "stable", "shrunk", "vanished", "split", "merged")
CELL = 96
"""Side of a cell in pixels; settlements of neighbouring cells stay a few pixels apart."""
GAP = 12
"""Pixels between the parts of a settlement that split, or will merge."""


@dataclass(frozen=True, eq=False)
class SettlementSeries:
    """The truth of a series.

    Parameters
    ----------
    masks
        ``(Y, H, W)`` settlement in each year.
    fates
        Fate of each cell's settlement, row by row; empty for a cell without one.
    cells
        ``(H, W)`` cell of every pixel, row by row from 0.
    """

    masks: Bool
    fates: tuple[str, ...]
    cells: NDArray[np.int64]


@dataclass(frozen=True)
class Errors:
    """How a map errs.

    Parameters
    ----------
    outline
        Wobble of outlines in pixels (standard deviation); another one each year.
    bias
        Pixels by which all outlines lie too far out (or in, if negative), the same each year.
    missed
        Share of settlements, of those at most ``small`` pixels large, that a year does not show.
    false_alarms
        Settlements seen where there are none, per hundred cells and year.
    softness
        Pixels over which the probability falls from near 1 to near 0.
    shift
        Misregistration in pixels (standard deviation along each axis); another one each year.
    small
        Largest settlement, in pixels, that may be missed.
    """

    outline: float = 1.5
    bias: float = 0.0
    missed: float = 0.0
    false_alarms: float = 0.0
    softness: float = 4.0
    shift: float = 0.0
    small: int = 1500


def make_series(
    years: int = 4, rows: int = 6, cols: int = 6, seed: int = 0, fates: Sequence[str] = FATES
) -> SettlementSeries:
    """A series of ``rows`` x ``cols`` cells, about one in seven of them empty; same arguments, same series.

    Parameters
    ----------
    years
        Number of years, at least 2.
    fates
        What may happen, of :data:`FATES`.
    """
    if years < 2 or not set(fates) <= set(FATES):
        raise ValueError(f"a series needs 2 years or more and fates among {FATES}, not {years} and {fates}")
    rng = np.random.default_rng(seed)
    shape = (rows * CELL, cols * CELL)
    masks = np.zeros((years, *shape), bool)
    drawn = []
    for row in range(rows):
        for col in range(cols):
            fate = "" if rng.random() < 1 / 7 else str(rng.choice(list(fates)))
            drawn.append(fate)
            if fate:
                part = np.s_[:, row * CELL : (row + 1) * CELL, col * CELL : (col + 1) * CELL]
                masks[part] = _cell(fate, years, rng)
    number = np.arange(rows)[:, None] * cols + np.arange(cols)
    cells = number.repeat(CELL, 0).repeat(CELL, 1)
    return SettlementSeries(masks, tuple(drawn), cells)


def simulate_map(series: SettlementSeries, errors: Errors, seed: int = 0) -> Bytes:
    """What a map with such errors stores: ``(Y, H, W)`` bytes, ``round(254 p)``.

    Where nothing is missed or made up, and outlines are without bias, the
    probabilities are calibrated: among pixels of probability p about a share p
    is settlement.
    """
    rng = np.random.default_rng([seed, 1])
    stored = np.empty(series.masks.shape, np.uint8)
    for year, truth in enumerate(series.masks):
        seen = _with_blunders(truth, series.cells, errors, rng)
        distance = ndimage.distance_transform_edt(seen) - ndimage.distance_transform_edt(~seen)
        wobble = _noise(truth.shape, 12, rng) * errors.outline
        if errors.shift:
            distance = ndimage.shift(distance, rng.normal(0, errors.shift, 2), order=1, mode="nearest")
        logit = (distance + wobble + errors.bias) * 4 / max(errors.softness, 1e-3)
        stored[year] = np.rint(254 / (1 + np.exp(-np.clip(logit, -30, 30))))
    return stored


def paint_series(
    series: SettlementSeries, inside: Bytes, outside: Bytes, seed: int = 0, shift: float = 0.0
) -> Bytes:
    """Pictures ``(Y, H, W, 3)`` of a series: one texture within settlements, another around them.

    Parameters
    ----------
    inside, outside
        ``(h, w, 3)`` textures, of a real tile or a generated one; mirrored where they are too small.
    seed
        Of season (tint and brightness), haze and noise, which differ each year.
    shift
        Misregistration in pixels, standard deviation along each axis; the first year has none.
    """
    rng = np.random.default_rng([seed, 2])
    years, height, width = series.masks.shape
    textures = [_tiled(texture, height, width) for texture in (inside, outside)]
    pictures = np.empty((years, height, width, 3), np.uint8)
    for year, mask in enumerate(series.masks):
        soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.7)[..., None]
        picture = soft * textures[0] + (1 - soft) * textures[1]
        season = rng.normal(1, 0.06, 3) * rng.normal(1, 0.05)
        haze = rng.uniform(0, 0.15)
        picture = (picture * season) * (1 - haze) + 200 * haze
        if shift and year:
            picture = ndimage.shift(picture, (*rng.normal(0, shift, 2), 0), order=1, mode="nearest")
        picture += rng.normal(0, 3, picture.shape)
        pictures[year] = np.clip(np.rint(picture), 0, 255)
    return pictures


def _cell(fate: str, years: int, rng: np.random.Generator) -> Bool:
    """Masks ``(Y, CELL, CELL)`` of one cell."""
    outline = _Outline(rng)
    turn = int(rng.integers(1, years))
    later = np.arange(years) >= turn
    if fate in ("split", "merged"):
        apart = later if fate == "split" else ~later
        return np.stack([outline.within(34) & ~(outline.bar & now) for now in apart])
    if fate in ("appeared", "vanished"):
        there = later if fate == "appeared" else ~later
        mask = outline.within(rng.uniform(12, 34))
        return np.stack([mask & now for now in there])
    small, large = rng.uniform(14, 22), rng.uniform(30, 36)
    if fate == "stable":
        return np.stack([outline.within((small + large) / 2)] * years)
    radii = np.linspace(small, large, years)
    return np.stack([outline.within(radius) for radius in (radii if fate == "expanded" else radii[::-1])])


class _Outline:
    """A wobbly closed outline in the middle of a cell, and a bar across it."""

    def __init__(self, rng: np.random.Generator) -> None:
        y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2
        angle = np.arctan2(y, x)
        waves = [rng.uniform(0, 0.16 / n) * np.cos(n * angle + rng.uniform(0, 2 * np.pi)) for n in (2, 3, 5)]
        # At most 36 pixels times the largest stretch stays within three quarters of the cell.
        self._radius = np.hypot(x, y) / (1 + np.sum(waves, axis=0)) * 1.05
        direction, off = rng.uniform(0, np.pi), rng.uniform(-6, 6)
        self.bar: Bool = np.abs(x * np.cos(direction) + y * np.sin(direction) - off) < GAP / 2

    def within(self, radius: float) -> Bool:
        """The settlement at a size, about this many pixels from its middle to its outline."""
        return np.asarray(self._radius < radius)


def _with_blunders(truth: Bool, cells: NDArray[np.int64], errors: Errors, rng: np.random.Generator) -> Bool:
    """The truth without the settlements that are missed, and with those that are made up."""
    seen = truth.copy()
    labels, count = ndimage.label(truth)
    if count and errors.missed:
        sizes = np.bincount(labels.ravel())
        missed = (rng.random(count + 1) < errors.missed) & (sizes <= errors.small)
        missed[0] = False
        seen &= ~missed[labels]
    for cell in np.flatnonzero(rng.random(cells.max() + 1) < errors.false_alarms / 100):
        here = cells == cell
        if not truth[here].any():
            row, col = (int(index.mean()) for index in np.nonzero(here))
            radius = int(rng.integers(8, 18))
            y, x = np.ogrid[: truth.shape[0], : truth.shape[1]]
            seen |= (y - row) ** 2 + (x - col) ** 2 < radius**2
    return seen


def _noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> Float32:
    """Smooth noise of unit variance whose features are about ``scale`` pixels wide."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), scale / 2, mode="wrap")
    return np.asarray(noise / noise.std(), np.float32)


def _tiled(texture: Bytes, height: int, width: int) -> Float32:
    """A texture repeated by mirroring until it fills the ground."""
    more = ((0, max(0, height - texture.shape[0])), (0, max(0, width - texture.shape[1])), (0, 0))
    return np.pad(texture, more, mode="symmetric")[:height, :width].astype(np.float32)
