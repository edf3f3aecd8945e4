"""How much every cell of a scene looks like a target, standardised over the whole scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.prompter.descriptors import (
    CELL,
    cells_of,
    count_cells,
    describe_features,
    lay_windows,
    measure_centrality,
    read_valid_cells,
)
from domainsam.prompter.target import Target, compare
from domainsam.protocols import View, Window


@dataclass(eq=False)
class SimilarityMap:
    """Similarity of every cell (8 pixels) of every frame to a target.

    Parameters
    ----------
    values
        ``(frames, h/8, w/8)`` float32; -inf where nothing was seen.
    mean, spread
        Over all cells that were seen.
    side
        Side of the windows that they were computed in, in pixels.
    """

    values: NDArray[np.float32]
    mean: float
    spread: float
    side: int

    def standardise(self, window: Window) -> NDArray[np.float32]:
        """Similarity ``(h/8, w/8)`` float32 of a window, less the scene's mean, in the scene's spread.

        Unseen cells are at the least of the scene: nothing is looked for there.
        """
        part = self.values[window.frame][cells_of(window)]
        seen = np.isfinite(part)
        least = float(part[seen].min()) if seen.any() else self.mean
        return ((np.where(seen, part, least) - self.mean) / self.spread).astype(np.float32)


def map_similarity(view: View, target: Target, side: int) -> SimilarityMap:
    """Compare every window of every frame with a target; where windows overlap the more central one counts.

    Memory follows the number of cells: 4 bytes for 64 pixels.
    """
    rows, cols = count_cells(view.shape, side)
    values = np.full((view.frames, rows, cols), -np.inf, np.float32)
    for frame in range(view.frames):
        weights = np.zeros((rows, cols), np.float32)
        for window in lay_windows(view.shape, side, frame):
            valid = read_valid_cells(view, window)
            if not valid.any():
                continue
            with torch.inference_mode():
                descriptors = describe_features(view.features(window))
            similarity = compare(descriptors, target.wanted, target.unwanted, target.centre)
            place, own = cells_of(window), measure_centrality(valid.shape)
            better = valid & (own > weights[place])
            values[frame][place][better] = similarity[better]
            weights[place][better] = own[better]
    seen = values[np.isfinite(values)]
    mean = float(seen.mean()) if seen.size else 0.0
    spread = float(seen.std()) if seen.size else 1.0
    return SimilarityMap(values, mean, spread or 1.0, side)


def place_cell(row: int, col: int) -> tuple[float, float]:
    """The x and y of a cell's centre in pixels of what it is a cell of."""
    return (col + 0.5) * CELL, (row + 0.5) * CELL
