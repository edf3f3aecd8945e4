"""Scaling of pixel values to 0..1, decided once for a whole scene.

A stretch that is computed tile by tile makes the same roof bright in one tile
and dark in the next. So the limits come from an overview of the whole scene,
or from another scene where several dates are to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError

Rule = Literal["dtype", "scene"]

PERCENTILES = (2.0, 98.0)
"""Limits of the stretch: the usual cumulative cut of desktop GIS, blind to glints and dead pixels."""


@dataclass(frozen=True)
class Radiometry:
    """Linear scaling of three bands.

    A value ``low`` becomes 0 and ``high`` becomes 1; what lies beyond is
    clipped. ``rule`` says where the limits come from: the data type's range
    or the scene's percentiles.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    rule: Rule

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Raw values ``(C, H, W)`` scaled to float32 0..1; values that are not finite become 0."""
        low = np.asarray(self.low, dtype=np.float32)[:, None, None]
        span = np.asarray(self.high, dtype=np.float32)[:, None, None] - low
        scaled = np.asarray(values, dtype=np.float32) - low
        scaled /= span
        if np.issubdtype(values.dtype, np.floating):
            np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        return np.clip(scaled, 0, 1, out=scaled)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists, for run metadata."""
        return {"low": list(self.low), "high": list(self.high), "rule": self.rule}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Radiometry:
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        InputError
            If a part is missing or not of the right kind.
        """
        try:
            low = tuple(float(value) for value in values["low"])
            high = tuple(float(value) for value in values["high"])
            rule = values["rule"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"radiometry needs the lists 'low' and 'high' and a 'rule', got {dict(values)}"
            ) from error
        ascending = len(low) == len(high) and all(one < other for one, other in zip(low, high, strict=True))
        if not ascending or rule not in ("dtype", "scene"):
            raise InputError(
                f"radiometry needs low < high in every band and a known rule, got {dict(values)}"
            )
        return cls(low, high, cast(Rule, rule))


def choose_rule(dtype: np.dtype[Any], normalize: str) -> Rule:
    """The rule that ``normalize`` (auto, scene or dtype) means for a data type.

    ``auto`` takes 8-bit imagery as it is, because it has been prepared for
    display already, and stretches everything else.

    Raises
    ------
    InputError
        If ``normalize`` is none of the three.
    """
    if normalize == "auto":
        return "dtype" if dtype == np.uint8 else "scene"
    if normalize not in ("scene", "dtype"):
        raise InputError(f"normalize is {normalize!r}, expected auto, scene or dtype")
    return "dtype" if normalize == "dtype" else "scene"


def full_range(dtype: np.dtype[Any], bands: int) -> Radiometry:
    """Scaling by a data type's range: 0 to the largest integer; floats are taken as 0..1 already."""
    high = float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0
    return Radiometry((0.0,) * bands, (high,) * bands, "dtype")


def stretch(samples: Sequence[NDArray[Any]]) -> Radiometry:
    """Scaling by percentiles of each band's valid samples (1-d arrays).

    A constant band is given some width, so that it becomes 0 throughout.
    """
    low, high = [], []
    for values in samples:
        finite = values[np.isfinite(values)].astype(np.float64)
        first, last = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 1.0)
        low.append(float(first))
        high.append(
            float(last)
            if np.float32(last) > np.float32(first)
            else float(first) + max(1.0, abs(float(first)))
        )
    return Radiometry(tuple(low), tuple(high), "scene")
