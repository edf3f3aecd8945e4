"""Dice, HD95 and surface Dice of one organ.

By default surfaces lie between voxels and every piece of them counts by its
area, as Nikolov et al. defined the surface Dice and their package
``surface-distance`` computes it; see :mod:`domainsam.metrics.surfaces`. With
``voxels`` the scores are MONAI's: surfaces are the voxels of a mask that have a
face neighbour outside it, and each counts as one. Both are in millimetres.

The definitions under ``paper`` are those that TransUNet, SAMed and SAM-LST
published figures with (medpy's, without the voxels' spacing): they are in
voxels, take the percentile over both directions together, and score empty
masks in their own way.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.metrics.surfaces import compute_robust_hausdorff, compute_surface_dice, measure_surfaces
from domainsam_ct.settings import PERCENTILE

AREA, VOXELS = "area", "voxels"
SURFACES = (AREA, VOXELS)
DEFINITIONS = {
    AREA: "surfaces by area, as Nikolov et al. 2018 (surface-distance)",
    VOXELS: "surfaces by voxels, as MONAI",
    "paper": "in voxels, as TransUNet, SAMed and SAM-LST",
}
"""What a score is by, in a few words."""
LEAVE_OUT, WORST = "leave-out", "worst"
EMPTY_POLICIES = (LEAVE_OUT, WORST)
POLICY_TEXT = {
    LEAVE_OUT: (
        "An organ in neither mask is left out. In one mask only: Dice and surface Dice are 0, "
        "and there is no distance."
    ),
    WORST: (
        "An organ in neither mask counts as perfect (Dice 1, distance 0). In one mask only: Dice and "
        "surface Dice are 0, and the distance is the scan's diagonal."
    ),
    "paper": (
        "As published: predicted but not in the labels counts as Dice 1 and distance 0; any other empty "
        "mask as Dice 0 and distance 0."
    ),
}
ROUNDING_MM = 1e-4
"""Added to the tolerance of the surface Dice, so that rounding does not decide about whole rows of voxels."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ScoreOptions:
    """How masks are compared.

    Parameters
    ----------
    tolerance_mm
        Distance of surfaces that still agree, for the surface Dice.
    empty
        What is done with organs that one or both masks lack: one of :data:`EMPTY_POLICIES`.
    paper
        The papers' definitions instead; the other options have no say then.
    surfaces
        What a surface is: one of :data:`SURFACES`.
    """

    tolerance_mm: float = 3.0
    empty: str = LEAVE_OUT
    paper: bool = False
    surfaces: str = AREA

    @property
    def definition(self) -> str:
        """What HD95 and surface Dice are by, in a few words."""
        return DEFINITIONS["paper" if self.paper else self.surfaces]

    @property
    def policy(self) -> str:
        """What is done with empty masks, as a sentence."""
        return POLICY_TEXT["paper" if self.paper else self.empty]


@dataclass(frozen=True)
class OrganScores:
    """Agreement on one organ; NaN where a score is not defined.

    ``hd95`` is in millimetres (``paper``: in voxels), ``surface_dice`` is 0 to 1.
    """

    dice: float
    hd95: float
    surface_dice: float
    truth_voxels: int
    predicted_voxels: int


def score_organ(
    predicted: Mask, truth: Mask, spacing: tuple[float, float, float], options: ScoreOptions
) -> OrganScores:
    """Compare two masks ``(X, Y, Z)`` of one organ.

    Parameters
    ----------
    spacing
        Millimetres between voxel centres along the three axes.
    """
    counts = int(truth.sum()), int(predicted.sum())
    if options.paper:
        return OrganScores(*_paper_scores(predicted, truth), math.nan, *counts)
    if 0 in counts:
        diagonal = math.hypot(*(size * step for size, step in zip(truth.shape, spacing, strict=True)))
        return OrganScores(*_empty_scores(counts, options.empty, diagonal), *counts)
    box = _common_box(predicted, truth)
    compute = _area_scores if options.surfaces == AREA else _monai_scores
    return OrganScores(*compute(predicted[box], truth[box], spacing, options.tolerance_mm), *counts)


def _area_scores(
    predicted: Mask, truth: Mask, spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float, float]:
    """Dice, HD95 and surface Dice of two masks that are not empty, surfaces by area."""
    there, back = measure_surfaces(predicted, truth, spacing)
    return (
        2 * int((predicted & truth).sum()) / (int(predicted.sum()) + int(truth.sum())),
        compute_robust_hausdorff(there, back, PERCENTILE),
        compute_surface_dice(there, back, tolerance + ROUNDING_MM),
    )


def _monai_scores(
    predicted: Mask, truth: Mask, spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float, float]:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    pair = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (predicted, truth)]
    steps = [float(step) for step in spacing]
    with warnings.catch_warnings():
        # MONAI calls this function of its own with an argument that it has deprecated.
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        dice = compute_dice(*pair, include_background=True)
        distance = compute_hausdorff_distance(
            *pair, include_background=True, percentile=PERCENTILE, spacing=steps
        )
        surface = compute_surface_dice(
            *pair, class_thresholds=[tolerance + ROUNDING_MM], include_background=True, spacing=steps
        )
    return float(dice), float(distance), float(surface)


def _empty_scores(counts: tuple[int, int], policy: str, diagonal: float) -> tuple[float, float, float]:
    """Dice, distance and surface Dice where at least one mask is empty."""
    neither = counts == (0, 0)
    if policy == WORST:
        return (1.0, 0.0, 1.0) if neither else (0.0, diagonal, 0.0)
    return (math.nan, math.nan, math.nan) if neither else (0.0, math.nan, 0.0)


def _paper_scores(predicted: Mask, truth: Mask) -> tuple[float, float]:
    """Dice and HD95 in voxels, as ``calculate_metric_percase`` of TransUNet's ``utils.py`` defines them."""
    if not truth.any() or not predicted.any():
        return (1.0, 0.0) if predicted.any() else (0.0, 0.0)
    box = _common_box(predicted, truth)
    predicted, truth = predicted[box], truth[box]
    overlap = int((predicted & truth).sum())
    dice = 2 * overlap / (int(predicted.sum()) + int(truth.sum()))
    lines = [np.pad(mask, 1) for mask in (predicted, truth)]
    lines = [mask & ~ndimage.binary_erosion(mask) for mask in lines]
    distances = [
        ndimage.distance_transform_edt(~other)[line]
        for line, other in ((lines[0], lines[1]), (lines[1], lines[0]))
    ]
    return dice, float(np.percentile(np.concatenate(distances), PERCENTILE))


def _common_box(one: Mask, other: Mask) -> tuple[slice, ...]:
    """The smallest box that holds both masks, at least one of which is not empty."""
    both = one | other
    box = []
    for axis in range(3):
        along = np.flatnonzero(both.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)
