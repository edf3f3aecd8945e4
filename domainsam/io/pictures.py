"""Pictures of one channel with more than eight bits, as the bytes that networks and people see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDE = ("I;16", "I;16B", "I;16L", "I", "F")
"""Pillow's modes of such pictures; its own conversion to RGB cuts them off at 255."""


def stretch_grey(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """One channel ``(H, W)`` of any range as grey bytes ``(H, W, 3)``, stretched between its ends."""
    known = np.where(np.isfinite(values), values, np.nan)
    low, high = (float(np.nanmin(known)), float(np.nanmax(known))) if np.isfinite(known).any() else (0, 1)
    grey = np.nan_to_num((known - low) / max(high - low, 1e-12)) * 255
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
