"""What parts an example from its surroundings, as a weight for every channel of local features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from domainsam.errors import InputError

Float32 = NDArray[np.float32]
PENALTY = 1e-4
"""Of the squared weights, beside a loss whose two sides weigh a half each. So little only keeps the weights
finite where few cells can be parted exactly; that few steps are made keeps them from fitting noise."""
STEPS = 60
TRIED = 64
"""Log-odds that are tried as the cut."""


SHRUNK = 0.05
"""Of the mean variance, added to that of every channel: no channel is trusted because it hardly varies."""
BESIDE = 0.7
"""How much of what an example is parted from lies beside it; the rest is the whole scene."""


@dataclass(frozen=True, eq=False)
class Spread:
    """How the features of a scene vary: mean ``(C,)`` and covariance ``(C, C)``, float64."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Linear log-odds that a place belongs to what was shown.

    Parameters
    ----------
    centre, weights
        ``(C,)`` float32: mean feature of what was learnt from, and the weight of each channel.
    bias
        Log-odds at the centre.
    """

    centre: Float32
    weights: Float32
    bias: float

    def score(self, features: Float32) -> Float32:
        """Log-odds ``(...)`` of features ``(C, ...)``."""
        flat = self.weights @ features.reshape(len(features), -1)
        moved = flat + np.float32(self.bias - float(self.weights @ self.centre))
        return moved.reshape(features.shape[1:]).astype(np.float32)

    def shifted(self, cut: float) -> Contrast:
        """The same with log-odds of 0 where they were ``cut``."""
        return Contrast(self.centre, self.weights, self.bias - cut)


def learn_contrast(features: Float32, share: Float32) -> Contrast:
    """Logistic regression of places on their features, both sides weighing the same.

    The mean of PerSAM's local similarities (Zhang et al. 2023, arXiv:2305.03048, equation 3) asks what a
    place has in common with the example; this asks as well what the example has in common with what lies
    beside it, which on features of one network is most. Balanced: few cells of an organ stand against many.

    Parameters
    ----------
    features
        ``(N, C)``, one row a place.
    share
        ``(N,)`` how much of each place the example covers, 0 to 1.

    Raises
    ------
    InputError
        If nothing is inside, or nothing outside.
    """
    inside, outside = _weigh(share)
    centre = features.mean(axis=0)
    scale = float(np.linalg.norm(features - centre, axis=1).mean()) or 1.0
    table = (features - centre).astype(np.float64) / scale
    own, other = share / (2 * inside), (1 - share) / (2 * outside)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = table @ values[:-1] + values[-1]
        price = own @ np.logaddexp(0, -odds) + other @ np.logaddexp(0, odds)
        slope = other - (own + other) * 0.5 * (1 - np.tanh(odds / 2))
        # The derivative of own log(1 + e^-o) + other log(1 + e^o) is other - (own + other) sigmoid(-o).
        gradient = np.append(table.T @ slope + PENALTY * values[:-1], slope.sum())
        return float(price + PENALTY / 2 * (values[:-1] ** 2).sum()), gradient

    start = np.zeros(table.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    return Contrast(centre.astype(np.float32), (found[:-1] / scale).astype(np.float32), float(found[-1]))


def _weigh(share: Float32) -> tuple[float, float]:
    """How many places an example covers, and how many it leaves, shares summed; both are above 0."""
    inside, outside = float(share.sum()), float((1 - share).sum())
    if inside <= 0 or outside <= 0:
        raise InputError("an example needs something inside and something outside of it")
    return inside, outside


def learn_discriminant(features: Float32, share: Float32, spread: Spread) -> Contrast:
    """Linear discriminant of places from a scene, its cut where they part from their surroundings.

    Few places tell their mean and hardly how they vary: a scene's own covariance stands for that (Hariharan,
    Malik & Ramanan 2012, "Discriminative decorrelation for clustering and classification", section 2). What
    speaks against a place is the mean of the surroundings and of the scene, in the parts :data:`BESIDE` says.

    Parameters
    ----------
    features, share
        As of :func:`learn_contrast`: ``(N, C)`` and ``(N,)``.
    spread
        Of the scene's features.

    Raises
    ------
    InputError
        If nothing is inside, or nothing outside.
    """
    inside, outside = _weigh(share)
    own = share @ features / inside
    other = BESIDE * ((1 - share) @ features / outside) + (1 - BESIDE) * spread.mean
    count = len(spread.mean)
    floor = SHRUNK * max(float(np.trace(spread.covariance)) / count, 1e-12)
    weights = np.linalg.solve(spread.covariance + floor * np.eye(count), own - other)
    along = learn_contrast((features @ weights)[:, None].astype(np.float32), share)
    steep = float(along.weights[0])
    bias = along.bias + steep * (float(spread.mean @ weights) - float(along.centre[0]))
    return Contrast(spread.mean.astype(np.float32), (steep * weights).astype(np.float32), bias)


def find_best_cut(odds: Sequence[Float32], share: Sequence[Float32]) -> tuple[float, float]:
    """The log-odds from which places agree best with what was shown, and Dice there.

    Parameters
    ----------
    odds, share
        Log-odds of places that were not learnt from, and how much of each belongs to the example.
    """
    values = np.concatenate([part.ravel() for part in odds])
    truth = np.concatenate([part.ravel() for part in share])
    tried = np.quantile(values[truth >= 0.5], np.linspace(0, 1, TRIED)) if (truth >= 0.5).any() else [0.0]
    dice = [2 * truth[values >= cut].sum() / ((values >= cut).sum() + truth.sum()) for cut in tried]
    best = int(np.argmax(dice))
    return float(tried[best]), float(dice[best])
