"""Find fill that a file does not declare: values that stand for no data, and are said nowhere to do so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

KNOWN_FILL = (-9999.0, -99999.0, -32768.0, -32767.0, -999.0, -99.0, -3.4028234663852886e38)
"""Values that software writes where it has none; each is taken for fill as soon as no other value is near."""
LEAST_PIXELS, LEAST_BORDER_PIXELS = 20, 100
"""So many pixels of an overview have to be alike: a single one may be a dead detector."""
LEAST_SHARE = 5e-4
"""Of an overview, fill far from all other values."""
LEAST_BORDER = 0.02
"""Of an overview, a border in one colour."""
FAR = 10.0
"""Spans between the 1st and 99th percentile of all other values; what lies further off is none of them."""


@dataclass(frozen=True)
class Fill:
    """A value that stands for no data.

    Parameters
    ----------
    value
        In all bands.
    share
        Of the pixels looked at, 0 to 1.
    border
        Whether it was found as a border in one colour, and not by its distance from other values.
    """

    value: float
    share: float
    border: bool

    @property
    def note(self) -> str:
        """What was found and done, and the way out, in one line."""
        why = "along its edge" if self.border else "far from all others"
        return (
            f"{self.share:.1%} of the pixels are {self.value:g} in every band, {why}: taken for no data, "
            f"though the file does not say so (--nodata {self.value:g} says it; --nodata with a value that "
            "does not occur takes them for ground)"
        )


def find_fill(values: NDArray[Any], valid: NDArray[np.bool_]) -> Fill | None:
    """Undeclared fill in an overview ``(C, h, w)`` of raw values and their validity ``(h, w)``.

    Two kinds are known: a value far from all others, such as -9999 among
    reflectances; and a border, black or of the type's largest value, that
    reaches the edge of the picture and is so uniform that no ground looks so.
    """
    if not valid.any():
        return None
    alike = valid & (values == values[:1]).all(axis=0)
    return _find_far(values, valid, alike) or _find_border(values[0], valid, alike)


def _find_far(values: NDArray[Any], valid: NDArray[np.bool_], alike: NDArray[np.bool_]) -> Fill | None:
    if values.dtype == np.uint8 or not alike.any():
        return None
    seen = values[:, valid]
    for extreme in (seen.min(), seen.max()):
        here = alike & (values[0] == extreme)
        count = int(here.sum())
        if count < max(LEAST_PIXELS, LEAST_SHARE * valid.sum()):
            continue
        rest = values[:, valid & ~here].astype(np.float64)
        if not rest.size:
            continue
        low, high = np.percentile(rest, (1, 99))
        away = max(low - float(extreme), float(extreme) - high)
        beyond = float(extreme) < rest.min() or float(extreme) > rest.max()
        known = np.isclose(float(extreme), KNOWN_FILL).any() and away > high - low
        if beyond and (known or away > FAR * max(high - low, np.finfo(np.float32).tiny)):
            return Fill(float(extreme), count / int(valid.sum()), border=False)
    return None


def _find_border(first: NDArray[Any], valid: NDArray[np.bool_], alike: NDArray[np.bool_]) -> Fill | None:
    ends = (0, np.iinfo(first.dtype).max) if first.dtype.kind in "ui" else (0,)
    best: Fill | None = None
    for value in ends:
        region = alike & (first == value)
        share = float(region.sum() / valid.sum())
        if share < LEAST_BORDER or share == 1 or (best is not None and share <= best.share):
            continue
        parts, _ = ndimage.label(region)
        rim = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
        touching = np.isin(parts, rim[rim > 0])
        if touching.sum() >= max(LEAST_BORDER_PIXELS, LEAST_BORDER * valid.sum()):
            best = Fill(float(value), share, border=True)
    return best
