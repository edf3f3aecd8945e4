"""What a drawn sample is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam_urban.sample.allocation import Allocation
from domainsam_urban.sample.draw import Points
from domainsam_urban.sample.strata import NAMES


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample that was drawn and written.

    Parameters
    ----------
    labels
        The years.
    pixels, area_ha
        ``(6,)`` pixels and hectares of each stratum, in the order of
        :data:`~domainsam_urban.sample.strata.NAMES`.
    points
        Where the points are.
    allocation
        How many each stratum has, and the expected errors.
    files
        What was written: points first, then the form.
    notes
        What the user ought to know.
    """

    labels: tuple[str, ...]
    pixels: NDArray[np.int64]
    area_ha: NDArray[np.float64]
    points: Points
    allocation: Allocation
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def weights(self) -> NDArray[np.float64]:
        """Hectares ``(6,)`` that a point of each stratum stands for; 0 where there is none."""
        counts = self.allocation.points
        return np.divide(self.area_ha, counts, out=np.zeros(len(NAMES)), where=counts > 0)
