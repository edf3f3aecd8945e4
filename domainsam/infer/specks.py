"""Leave specks out of an answer, and say how many there were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domainsam.infer.components import StoredScene, find_components, label_bands
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import Lattice
from domainsam.protocols import Window

FIELD = 1024
"""Cuts objects into pieces while they are searched; it does not change what is found."""


@dataclass(frozen=True)
class Specks:
    """What was left out: connected places, and their pixels in all."""

    count: int = 0
    pixels: int = 0


def drop_specks(answer: StoredScene, target: RawRaster, level: int, min_pixels: int) -> Specks:
    """Write an answer without its specks: connected places of fewer pixels come to lie just below the level.

    Parameters
    ----------
    answer
        Stored probabilities, 255 without data.
    target
        Takes the answer; of the same shape.
    level
        Smallest stored value that counts.
    min_pixels
        Places with fewer pixels, joined at sides or corners, are specks.

    Returns
    -------
    What was left out.
    """
    found = find_components(answer, level, Lattice.cover(answer.shape, FIELD), min_pixels)
    pixels = 0
    for row, values, labels in label_bands(answer, level):
        small = (labels > 0) & (found.lookup[labels] == 0)
        pixels += int(small.sum())
        kept = np.where(small, np.uint8(level - 1), values)
        target.write(Window(row, 0, len(values), answer.shape[1]), kept)
    return Specks(found.found - len(found.items), pixels)
