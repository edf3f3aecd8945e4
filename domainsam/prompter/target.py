"""What an example looks like to a foundation: its features, its surroundings', and what similarity means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.prompter.descriptors import (
    centre_window,
    describe_features,
    lay_windows,
    paste_mask,
    read_valid_cells,
    share_cells,
)
from domainsam.protocols import Foundation, SceneObject, View, Window

OWN_SHARE = 0.5
"""A cell belongs to an example from this share on, and to its surroundings below :data:`OTHER_SHARE`."""
OTHER_SHARE = 0.05
CUTS = 128
"""Similarities that are tried as the cut."""
OWN_QUANTILE = 0.75
"""Of an example's own similarities: cells along its edge look half like its surroundings."""
LEAST_CUT, MOST_CUT = 0.25, 0.7
"""Bounds of the cut between surroundings and example: another picture never looks quite like this one."""
DICE_SLACK = 0.01
"""Cuts whose Dice lies this little below the best are as good."""


@dataclass(frozen=True)
class Calibration:
    """What a similarity means: ``low`` is that of surroundings, ``high`` the example's, ``cut`` parts them.

    With several examples each was compared with what the others say, so that ``high`` and ``cut`` are
    those of an object that was not shown.
    """

    low: float
    cut: float
    high: float

    def score(self, similarity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Similarities on a scale from 0 (as surroundings) over 0.5 (the cut) to 1 (as the example)."""
        return np.interp(similarity, [self.low, self.cut, self.high], [0.0, 0.5, 1.0]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Target:
    """What is looked for, learned from examples by :func:`learn_target`.

    Parameters
    ----------
    wanted
        ``(D,)`` float32, length 1: mean descriptor of the examples.
    unwanted
        ``(M, D)`` float32, length 1 each: mean descriptors of the examples' surroundings and of every
        counter-example.
    centre
        ``(D,)`` float32: mean descriptor of the pictures that the examples lie in.
    semantic
        ``(256,)`` float32: the examples' mean image feature, PerSAM's target-semantic prompt.
    area
        Median area of the examples in pixels.
    calibration
        What a similarity means.
    foundation
        SHA-256 of the foundation whose features these are.
    weights
        PerSAM-F's weights of the three readings of a click; None where they were not learned.
    """

    wanted: NDArray[np.float32]
    unwanted: NDArray[np.float32]
    centre: NDArray[np.float32]
    semantic: NDArray[np.float32]
    area: float
    calibration: Calibration
    foundation: str
    weights: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Shown:
    """An example as the foundation sees it: a window's descriptors ``(D, h/8, w/8)`` and mask ``(h, w)``."""

    window: Window
    descriptors: Tensor
    image: Tensor
    mask: NDArray[np.bool_]
    share: NDArray[np.float32]
    valid: NDArray[np.bool_]
    area: int

    @property
    def own(self) -> NDArray[np.bool_]:
        """Cells of the example; for one smaller than a cell, those it covers most."""
        inside = (self.share >= OWN_SHARE) & self.valid
        return inside if inside.any() else (self.share == self.share[self.valid].max()) & self.valid

    @property
    def others(self) -> NDArray[np.bool_]:
        """Cells of its surroundings."""
        return (self.share < OTHER_SHARE) & self.valid


def learn_target(
    examples: Sequence[tuple[View, SceneObject]],
    foundation: Foundation,
    counterexamples: Sequence[tuple[View, SceneObject]] = (),
) -> Target:
    """Learn what examples look like.

    Parameters
    ----------
    examples
        Each an object with a mask, and the view that it lies in; its features come from that view, which
        has to use ``foundation``.
    foundation
        Whose features these are.
    counterexamples
        Objects that look alike and are not wanted, likewise.

    Raises
    ------
    InputError
        If there is no example, one has no mask, lies outside its view, where there is no data, or covers
        everything.
    """
    if not examples:
        raise InputError("no example was given; mark at least one object by its outline or mask")
    side = foundation.image_size
    shown = [
        show_example(view, one, side, f"example {number}") for number, (view, one) in enumerate(examples, 1)
    ]
    against = [
        show_example(view, one, side, f"counter-example {number}", alone=True)
        for number, (view, one) in enumerate(counterexamples, 1)
    ]
    centre = torch.stack([_mean(one, one.valid) for one in shown]).mean(dim=0)
    wanted, unwanted = contrast_shown(shown, against, centre)
    semantic = torch.stack([_image_mean(one) for one in shown]).mean(dim=0)
    return Target(
        wanted.cpu().numpy(),
        unwanted.cpu().numpy(),
        centre.cpu().numpy(),
        semantic.cpu().numpy(),
        float(np.median([one.area for one in shown])),
        calibrate_shown(shown, against, centre),
        foundation.sha256,
    )


def compare(
    descriptors: Tensor,
    wanted: Tensor | NDArray[np.float32],
    unwanted: Tensor | NDArray[np.float32],
    centre: Tensor | NDArray[np.float32],
) -> NDArray[np.float32]:
    """Similarity ``(h, w)`` float32 of descriptors ``(D, h, w)``, -2 to 2.

    The cosine with what is wanted less that with the most similar of what is not, both between
    descriptors from which ``centre`` was taken: features of one network share a direction that says
    nothing. For a local feature the mean of cosines with all features of the example is the cosine with
    their mean (PerSAM, equation 3, up to the mean's length).
    """
    vectors = [torch.as_tensor(part).to(descriptors) for part in (wanted, unwanted, centre)]
    unit = F.normalize(descriptors - vectors[2][:, None, None], dim=0)
    similarity = torch.einsum("d,dhw->hw", vectors[0], unit)
    if len(vectors[1]):
        similarity = similarity - torch.einsum("md,dhw->mhw", vectors[1], unit).amax(dim=0)
    return similarity.float().cpu().numpy()


def compare_shown(one: Shown, target: Target) -> NDArray[np.float32]:
    """Similarity of an example's own window with a target, as :func:`compare`."""
    return compare(one.descriptors, target.wanted, target.unwanted, target.centre)


def contrast_shown(shown: Sequence[Shown], against: Sequence[Shown], centre: Tensor) -> tuple[Tensor, Tensor]:
    """Mean directions of examples ``(D,)``, and of surroundings and counter-examples ``(M, D)``."""
    wanted = F.normalize(torch.stack([_direction(one, one.own, centre) for one in shown]).mean(0), dim=0)
    around = torch.stack([_direction(one, one.others, centre) for one in shown]).mean(dim=0)
    unwanted = [F.normalize(around, dim=0), *(_direction(one, one.own, centre) for one in against)]
    return wanted, torch.stack(unwanted)


def calibrate_shown(shown: Sequence[Shown], against: Sequence[Shown], centre: Tensor) -> Calibration:
    """Similarities of examples and surroundings, each example left out where there are several."""
    lows, cuts, highs = [], [], []
    for left_out in shown:
        rest = [one for one in shown if one is not left_out] or [left_out]
        similarity = compare(left_out.descriptors, *contrast_shown(rest, against, centre), centre)
        own, others = similarity[left_out.own], similarity[left_out.others]
        lows.append(float(others.mean()))
        highs.append(float(np.quantile(own, OWN_QUANTILE)))
        cuts.append(_best_cut(own, others))
    low, cut, high = float(np.mean(lows)), float(np.min(cuts)), float(np.mean(highs))
    wanted, unwanted = contrast_shown(shown, against, centre)
    for other in against:
        likeness = compare(other.descriptors, wanted, unwanted, centre)[other.own]
        low = max(low, min(float(likeness.mean()), high))
    high = max(high, low + 1e-3)
    return Calibration(
        low, min(max(cut, low + LEAST_CUT * (high - low)), low + MOST_CUT * (high - low)), high
    )


def _best_cut(own: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """The similarity above which cells agree best (Dice) with the example; of several, their middle."""
    tried = np.linspace(float(others.mean()), float(own.max()), CUTS)
    hits = (own[None] >= tried[:, None]).sum(axis=1)
    false = (others[None] >= tried[:, None]).sum(axis=1)
    dice = 2 * hits / (hits + false + len(own))
    return float(np.median(tried[dice >= dice.max() - DICE_SLACK]))


def show_example(view: View, one: SceneObject, side: int, name: str, alone: bool = False) -> Shown:
    """An example in the window around it, of ``side`` pixels.

    ``alone`` where its surroundings are not needed; ``name`` is what errors call it.

    Raises
    ------
    InputError
        As of :func:`learn_target`.
    """
    bounds, area = one.bounds, measure_example(view, one, name)
    window = centre_window(view.shape, bounds, side)
    if bounds.height > window.height or bounds.width > window.width:
        window = _fullest(view, one, side)
    mask = paste_mask(one, window)
    valid = read_valid_cells(view, window)
    share = share_cells(mask)
    if not (valid & (share > 0)).any():
        raise InputError(f"{name} lies where the scene has no data; mark one that can be seen")
    features = view.features(window)
    with torch.inference_mode():
        descriptors = describe_features(features)
    shown = Shown(window, descriptors, features.image[0], mask, share, valid, area)
    if not alone and not shown.others.any():
        raise InputError(
            f"{name} covers everything around it; mark one object and leave some of its surroundings out"
        )
    return shown


def measure_example(view: View, one: SceneObject, name: str) -> int:
    """Area of an example's mask in pixels, once it is known to have one inside the view.

    Raises
    ------
    InputError
        If it has no mask, or lies outside; ``name`` is what it is called.
    """
    if one.mask is None:
        raise InputError(f"{name} is marked without its outline; an example needs a mask or a polygon")
    bounds = one.bounds
    rows, cols = view.shape
    fits = 0 <= bounds.row <= rows - bounds.height and 0 <= bounds.col <= cols - bounds.width
    if not fits or not 0 <= bounds.frame < view.frames:
        raise InputError(
            f"{name} lies at rows {bounds.row} to {bounds.row + bounds.height}, columns {bounds.col} to "
            f"{bounds.col + bounds.width} of frame {bounds.frame}; the scene has {rows} rows, {cols} columns "
            f"and {view.frames} frame(s)"
        )
    return int(one.mask.sum())


def _fullest(view: View, one: SceneObject, side: int) -> Window:
    """For an example larger than a window, the one that shows most of it beside some surroundings."""

    def held(window: Window) -> float:
        share = paste_mask(one, window).mean()
        return float(share * (1 - share))

    return max(lay_windows(view.shape, side, one.bounds.frame), key=held)


def _mean(one: Shown, cells: NDArray[np.bool_]) -> Tensor:
    chosen = torch.from_numpy(cells).to(one.descriptors.device)
    return one.descriptors[:, chosen].mean(dim=1)


def _direction(one: Shown, cells: NDArray[np.bool_], centre: Tensor) -> Tensor:
    """Mean of the unit vectors, from the centre, of some cells; itself of length 1."""
    chosen = torch.from_numpy(cells).to(one.descriptors.device)
    unit = F.normalize(one.descriptors[:, chosen] - centre[:, None], dim=0)
    return F.normalize(unit.mean(dim=1), dim=0)


def _image_mean(one: Shown) -> Tensor:
    """Mean of the coarse image features ``(256,)`` under an example, weighted by the share it covers."""
    weight = torch.from_numpy(one.share * one.valid)[None, None].to(one.image)
    weight = F.adaptive_avg_pool2d(weight, (one.image.shape[-2], one.image.shape[-1]))[0, 0]
    return (one.image * weight).sum(dim=(1, 2)) / weight.sum().clamp(min=1e-6)
