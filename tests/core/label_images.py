"""Objects of whole label images, counted at once: what matching and counting by bands are held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domainsam.metrics.objects import Matching, Overlaps


def label_overlaps(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> Overlaps:
    """Overlaps of two label images of one shape: 0 background, ``1 .. n`` objects."""
    true_labels, truth_area = np.unique(truth[truth > 0], return_counts=True)
    labels, predicted_area = np.unique(predicted[predicted > 0], return_counts=True)
    both = (truth > 0) & (predicted > 0)
    pairs, shared = np.unique(np.stack([truth[both], predicted[both]]), axis=1, return_counts=True)
    return Overlaps(
        truth_area.astype(np.float64),
        predicted_area.astype(np.float64),
        np.searchsorted(true_labels, pairs[0]),
        np.searchsorted(labels, pairs[1]),
        shared.astype(np.float64),
    )


def detection_counts(overlaps: Overlaps, matching: Matching) -> list[int]:
    """True positives, false positives and false negatives of a matching."""
    found = len(matching)
    return [found, len(overlaps.predicted_area) - found, len(overlaps.truth_area) - found]
