"""Raw values of a raster's chosen bands, and which of its pixels hold data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam_urban.read.bands import find_valid_pixels
from domainsam_urban.read.fill import Fill


@dataclass(frozen=True)
class RawPixels:
    """What is taken of a raster, and what in it stands for no data.

    Parameters
    ----------
    bands
        Numbers from 1, in the order of the values; one may occur more than once.
    nodata
        A person's value for no data, in place of the one the file declares.
    fill
        A value that was found to stand for no data, though the file does not say so.
    """

    bands: Sequence[int]
    nodata: float | None = None
    fill: Fill | None = None

    def read(
        self,
        dataset: Any,
        rows: tuple[int, int],
        cols: tuple[int, int],
        size: tuple[int, int] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(C, h, w)`` of some of a file's rows and columns, first and end, and where they hold data.

        Parameters
        ----------
        dataset
            An open ``rasterio`` dataset.
        size
            Rows and columns to decimate to.
        """
        bands = sorted(set(self.bands))
        shape = None if size is None else (len(bands), *size)
        values = dataset.read(bands, window=(rows, cols), out_shape=shape)
        seen = find_valid_pixels(dataset, bands, values, (rows, cols), self.nodata)
        if self.fill is not None:
            seen &= ~(values == self.fill.value).all(axis=0)
        return values[[bands.index(band) for band in self.bands]], seen

    def find_nodata(self, dataset: Any) -> float | None:
        """The value for no data: a person's, else the one that the file declares, else the fill found."""
        declared = self.nodata if self.nodata is not None else dataset.nodata
        if declared is None and self.fill is not None:
            return self.fill.value
        return None if declared is None else float(declared)
