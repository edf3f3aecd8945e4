"""Object detection scores: match predicted objects with true ones.

Objects are compared through a table of the pairs that share area, so the
same matching serves label images and polygons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from domainsam.metrics.overlap import divide


@dataclass(frozen=True, eq=False)
class Overlaps:
    """``T`` true objects, ``P`` predicted ones, and the ``E`` pairs that share area.

    Parameters
    ----------
    truth_area, predicted_area
        ``(T,)`` and ``(P,)`` areas, in any one unit.
    truth_index, predicted_index
        ``(E,)`` int64: the two objects of each pair; a pair occurs once.
    shared
        ``(E,)`` area both objects of a pair cover, above 0.
    """

    truth_area: NDArray[np.float64]
    predicted_area: NDArray[np.float64]
    truth_index: NDArray[np.int64]
    predicted_index: NDArray[np.int64]
    shared: NDArray[np.float64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """``(E,)`` intersection over union of each pair."""
        both = self.truth_area[self.truth_index] + self.predicted_area[self.predicted_index]
        return np.asarray(self.shared / (both - self.shared))

    def drop_small_predictions(self, area: float) -> Overlaps:
        """The same without predicted objects below an area; those that stay are numbered anew, in order."""
        kept = self.predicted_area >= area
        pairs = kept[self.predicted_index]
        number = np.cumsum(kept) - 1
        return Overlaps(
            self.truth_area,
            self.predicted_area[kept],
            self.truth_index[pairs],
            number[self.predicted_index[pairs]].astype(np.int64),
            self.shared[pairs],
        )


@dataclass(frozen=True, eq=False)
class Matching:
    """Pairs of true and predicted objects, each object in one pair at most; two ``(M,)`` arrays."""

    truth_index: NDArray[np.int64]
    predicted_index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth_index)


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Precision, recall and F1 of counts ``(..., 3)``; NaN where nothing was predicted or nothing is true."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def score_detection(counts: ArrayLike) -> DetectionScores:
    """Scores of counts ``(..., 3)``: true positives, false positives, false negatives.

    Counts summed over scenes before this call give micro averages.
    """
    found, wrong, missed = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return DetectionScores(
        precision=divide(found, found + wrong),
        recall=divide(found, found + missed),
        f1=divide(2 * found, 2 * found + wrong + missed),
    )


def match_any(overlaps: Overlaps) -> Matching:
    """The matching of the UV-SAM paper: any overlap will do.

    Predictions are taken in their order; each takes, among the true objects
    it overlaps that are still free, the one with the highest IoU (the first
    of equals). UV-SAM's ``inference_seg.py:cal_pr_f1`` does the same on
    contours but fails on an image without truth, and counts the rim of a
    hole as an object of its own; neither is repeated here.
    """
    iou = overlaps.iou
    order = np.lexsort((overlaps.truth_index, -iou, overlaps.predicted_index))
    truth_taken = np.zeros(len(overlaps.truth_area), bool)
    predicted_taken = np.zeros(len(overlaps.predicted_area), bool)
    kept = []
    for pair in order:
        truth, predicted = overlaps.truth_index[pair], overlaps.predicted_index[pair]
        if not truth_taken[truth] and not predicted_taken[predicted]:
            truth_taken[truth] = predicted_taken[predicted] = True
            kept.append(pair)
    return _chosen(overlaps, np.asarray(kept, np.int64))


def match_one_to_one(overlaps: Overlaps, threshold: float = 0.5) -> Matching:
    """The largest one-to-one matching of pairs with ``IoU >= threshold``.

    Among the largest it has the highest total IoU. Objects that do not
    overlap their own kind have at most one partner above an IoU of 0.5
    (Kirillov et al., Panoptic Segmentation, CVPR 2019); the Hungarian method
    is needed only for pairs that compete, at lower thresholds, in ties at
    0.5, or between overlapping polygons.

    Raises
    ------
    ValueError
        If the threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"IoU threshold is {threshold}, expected above 0 and at most 1")
    iou = overlaps.iou
    pairs = np.flatnonzero(iou >= threshold)
    truth, predicted = overlaps.truth_index[pairs], overlaps.predicted_index[pairs]
    truths, predictions = len(overlaps.truth_area), len(overlaps.predicted_area)
    graph = coo_array((np.ones(len(pairs)), (truth, truths + predicted)), shape=(truths + predictions,) * 2)
    _, group = connected_components(graph, directed=False)
    group_of_pair = group[truth]
    sizes = np.bincount(group_of_pair, minlength=1)
    kept = [pairs[sizes[group_of_pair] == 1]]
    competing = pairs[np.argsort(group_of_pair, kind="stable")]
    groups = np.sort(group_of_pair)
    rivalries = np.split(competing, np.flatnonzero(np.diff(groups)) + 1)
    kept.extend(_assign(overlaps, rivals, iou) for rivals in rivalries if len(rivals) > 1)
    return _chosen(overlaps, np.sort(np.concatenate(kept)))


def _assign(overlaps: Overlaps, pairs: NDArray[np.int64], iou: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of competing pairs, those of the largest matching with the highest total IoU."""
    truths, rows = np.unique(overlaps.truth_index[pairs], return_inverse=True)
    predictions, cols = np.unique(overlaps.predicted_index[pairs], return_inverse=True)
    # One more pair must outweigh any gain in IoU, which is at most one a pair.
    bonus = min(len(truths), len(predictions)) + 1.0
    gain = np.zeros((len(truths), len(predictions)))
    gain[rows, cols] = bonus + iou[pairs]
    position = np.full(gain.shape, -1, np.int64)
    position[rows, cols] = pairs
    chosen = position[linear_sum_assignment(gain, maximize=True)]
    return np.asarray(chosen[chosen >= 0])


def _chosen(overlaps: Overlaps, pairs: NDArray[np.int64]) -> Matching:
    return Matching(overlaps.truth_index[pairs], overlaps.predicted_index[pairs])
