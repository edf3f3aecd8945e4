"""A figure with its low and high value."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A central figure between a low and a high one; all NaN where there is none."""

    low: float
    central: float
    high: float

    @classmethod
    def unknown(cls) -> Estimate:
        """No figure."""
        return cls(math.nan, math.nan, math.nan)

    @classmethod
    def spanning(cls, central: float, *others: float) -> Estimate:
        """From the smallest to the largest of all values given."""
        return cls(min(central, *others), central, max(central, *others))

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return math.isfinite(self.central)

    def scaled(self, factor: float) -> Estimate:
        """Every value times a factor that is not negative; unknown if the factor is."""
        if not math.isfinite(factor):
            return Estimate.unknown()
        return Estimate(self.low * factor, self.central * factor, self.high * factor)

    def holds(self, value: float) -> bool:
        """Whether a value lies between low and high, ends included."""
        return self.low <= value <= self.high


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One less the other, their errors taken as independent.

    Zou and Donner 2008, "Construction of confidence limits about effect
    measures", Statistics in Medicine 27, 1693-1702: distances to the ends add
    up as squares, the lower end of one meeting the upper end of the other.
    """
    central = one.central - other.central
    below = math.hypot(one.central - one.low, other.high - other.central)
    above = math.hypot(one.high - one.central, other.central - other.low)
    return Estimate(central - below, central, central + above)
