"""An object known again by how it looked and where it lay, beside what a decoder makes of its points.

A small foundation's decoder leaks from a few points into whatever resembles them. Three things together say
more: its logits, the log-odds of what parts the object's cells from those around it where it was marked
(:mod:`domainsam.prompter.contrast`), and how deep inside the object's outline a place lies once the outline
is moved with the points. For an object that bends a fourth is asked, what the most similar cells of earlier
pictures were (:mod:`domainsam.prompter.carried`). How much each counts was fitted on generated films
(``benchmarks/films.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from domainsam.prompter.carried import Carried, learn_carried
from domainsam.prompter.contrast import Contrast, learn_contrast
from domainsam.prompter.dense import CELL, describe_cells
from domainsam.prompter.query import Points
from domainsam.protocols import Features, Window

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """What counts how much, in log-odds: logistic regression on cells of twelve films.

    Parameters
    ----------
    plain
        Of decoder, look and depth, and what is added.
    bending
        Of decoder, look, depth and what is carried, and what is added: the outline counts for less then.
    """

    plain: tuple[float, float, float, float]
    bending: tuple[float, float, float, float, float]


FITTED = {
    "embedded": Weights((0.137, 0.801, 0.35, -0.783), (0.1, 0.494, 0.058, 0.856, -0.213)),
    "embedded_lite": Weights((0.093, 0.661, 0.976, -0.285), (0.096, 0.503, 0.579, 0.441, -0.143)),
}
"""By foundation, as its logits suit it; others are trusted alone unless likeness is asked for."""
DEFAULT_WEIGHTS = FITTED["embedded"]
"""Of those others."""
MOST_LOGIT, MOST_DEPTH = 8.0, 12.0
"""What the decoder's logits and the log-odds, and the depth in cells, are cut at before they are weighed."""
LEAST_SHARE = 0.02
"""What is carried is taken as between this and its rest to 1, before it becomes log-odds."""
FARTHEST = 15.0
"""Cells beyond the moved outline that may still be the object; farther only what is carried there may."""
BEYOND = -5.0
"""Logit farther away."""
SMOOTHED = 0.7
DEEPEST = 40.0
LEAST_POINTS = 3
STIFF = 200.0
"""Square pixels that outweigh points' distances from their middle: a few hardly turn or scale."""
OFF = 4.0
"""Pixels from where the rest would have it at which a point counts half."""
ROUNDS = 15


@dataclass(frozen=True, eq=False)
class Likeness:
    """What an object looked like where its points were set, and where it lay.

    Parameters
    ----------
    contrast
        What parts its cells from those around it.
    depth
        ``(h/4, w/4)`` float32, signed distance in cells to the outline in ``window``, above 0 inside.
    points
        ``(P, 2)`` where its points were set.
    carried
        What was the object in earlier pictures, if it bends; :meth:`judge` adds to it.
    weights
        How much each of these counts.
    """

    contrast: Contrast
    depth: Float32
    window: Window
    points: Points
    carried: Carried | None = None
    weights: Weights = DEFAULT_WEIGHTS

    def moved(self, depth: Float32, window: Window, points: Points) -> Likeness:
        """The same look with another outline, of another picture, and the points on it."""
        return Likeness(self.contrast, depth, window, points, self.carried, self.weights)

    def judge(
        self,
        logits: Float32,
        features: Features,
        image: Float32,
        window: Window,
        points: Points,
        seen: NDArray[np.bool_],
    ) -> Float32:
        """Logits ``(h/4, w/4)`` of a picture by the decoder and by likeness; given as to :meth:`compare`.

        The picture is remembered where labels are carried from it to the next ones.
        """
        cells = describe_cells(features, image)
        if self.carried is None:
            terms, near = self.compare(logits, cells, None, window, points, seen)
            *weights, bias = self.weights.plain
        else:
            places = self.carried.describe(cells)
            share = self.carried.carry(places, window)
            terms, near = self.compare(logits, cells, share, window, points, seen)
            *weights, bias = self.weights.bending
        told = np.tensordot(np.array(weights), terms, 1) + bias
        judged: Float32 = np.where(near, told, BEYOND).astype(np.float32)
        # A picture where it is hidden tells nothing of what it looks like afterwards.
        if self.carried is not None and (judged > 0).any():
            self.carried.keep(places, judged > 0, window)
        return judged

    def compare(
        self,
        logits: Float32,
        cells: Float32,
        share: Float32 | None,
        window: Window,
        points: Points,
        seen: NDArray[np.bool_],
    ) -> tuple[Float32, NDArray[np.bool_]]:
        """What speaks for it: decoder, look, depth ``(3, h/4, w/4)``, carried; and where it may be at all.

        Parameters
        ----------
        logits
            ``(h/4, w/4)`` as decoded.
        cells
            ``(C, h/4, w/4)``, what ``window`` looks like.
        share
            ``(h/4, w/4)``, what is carried there from earlier pictures; None for three terms.
        points, seen
            ``(P, 2)`` where its points are now, and ``(P,)`` which are seen.
        """
        turn, shift = fit_motion(self.points[seen], points[seen])
        depth = move_map(self.depth, self.window, turn, shift, window, (logits.shape[0], logits.shape[1]))
        odds = np.clip(self.contrast.score(cells), -MOST_LOGIT, MOST_LOGIT)
        terms: list[NDArray[np.floating[Any]]] = [
            np.clip(logits, -MOST_LOGIT, MOST_LOGIT),
            ndimage.gaussian_filter(odds, SMOOTHED),
            np.clip(depth, -MOST_DEPTH, MOST_DEPTH),
        ]
        near = depth > -FARTHEST
        if share is not None:
            sure = np.clip(share, LEAST_SHARE, 1 - LEAST_SHARE)
            terms.append(np.log(sure / (1 - sure)))
            near = near | (share > 0.5)
        return np.stack(terms).astype(np.float32), near


def learn_likeness(
    mask: NDArray[np.bool_],
    features: Features,
    image: Float32,
    window: Window,
    points: Points,
    bends: bool = False,
    weights: Weights = DEFAULT_WEIGHTS,
) -> Likeness | None:
    """What an object looks like, or None where it has nothing beside it to be told from.

    Parameters
    ----------
    mask
        ``(H, W)`` of the frame.
    features, image
        Of ``window``, and its picture ``(3, h, w)``.
    points
        ``(P, 2)`` on the object.
    bends
        Whether labels are carried as well.
    weights
        How much each part counts.
    """
    share = share_cells(mask, window)
    depth = measure_depth(share)
    # As far around as the object is wide: that is what it is taken for.
    near = depth > -max(3.0, float(np.sqrt((share > 0.5).sum())))
    cells = describe_cells(features, image)
    if not 0 < share[near].sum() < near.sum():
        return None
    contrast = learn_contrast(cells[:, near].T.copy(), share[near])
    carried = learn_carried(cells, share, window) if bends else None
    return Likeness(contrast, depth, window, points.copy(), carried, weights)


def share_cells(mask: NDArray[np.bool_], window: Window) -> Float32:
    """How much ``(h/4, w/4)`` of each cell of a window a mask ``(H, W)`` of the frame covers."""
    part = np.zeros((window.height, window.width), np.float32)
    cut = mask[window.slices]
    part[: cut.shape[0], : cut.shape[1]] = cut
    return np.asarray(F.avg_pool2d(torch.from_numpy(part)[None, None], CELL)[0, 0].numpy(), np.float32)


def measure_depth(share: Float32) -> Float32:
    """Signed distance in cells to the outline of what is covered by more than half, above 0 inside."""
    mask = share > 0.5 if (share > 0.5).any() else share >= share.max()
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.asarray(np.clip(inside - outside, -DEEPEST, DEEPEST), np.float32)


def fit_motion(before: Points, now: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A turn and scale ``(2, 2)`` and a shift ``(2,)`` that bring points to where they are now.

    Least squares (Umeyama 1991, in complex numbers) with weights that fall with the residual, anew a few
    times; drawn towards no turn and no scale by :data:`STIFF`. With fewer than three points only a shift.
    """
    if len(before) < LEAST_POINTS:
        shift = np.median(now - before, axis=0) if len(before) else np.zeros(2)
        return np.eye(2), np.asarray(shift)
    weights = np.ones(len(before))
    factor, middles = 1 + 0j, (before[0], now[0])
    for _ in range(ROUNDS):
        middles = np.average(before, axis=0, weights=weights), np.average(now, axis=0, weights=weights)
        own, other = ((part - middle) @ (1, 1j) for part, middle in zip((before, now), middles, strict=True))
        stiff = STIFF * weights.sum()
        factor = ((weights * own.conj() * other).sum() + stiff) / ((weights * abs(own) ** 2).sum() + stiff)
        weights = 1 / (1 + (abs(factor * own - other) / OFF) ** 2)
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return turn, np.asarray(middles[1] - turn @ middles[0])


def move_map(
    depth: Float32,
    window: Window,
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    target: Window,
    shape: tuple[int, int],
) -> Float32:
    """A map of cells of one window as the cells ``shape`` of another see it after a motion of the frame."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    places = np.stack([cols * CELL + target.col, rows * CELL + target.row], axis=-1).reshape(-1, 2)
    origins = (places - shift) @ np.linalg.inv(turn).T - (window.col, window.row)
    at = (origins / CELL - 0.5).T[::-1].reshape(2, *shape)
    return np.asarray(ndimage.map_coordinates(depth, at, order=1, cval=float(depth.min())), np.float32)
