"""A volume of bytes on disk: a mask in the making, or the confidence that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam_ct.read.geometry import from_axial, to_axial

Bytes = NDArray[np.uint8]
CHUNK = 16
"""Slices held at once by passes over a volume: 4 MB a byte of voxel at 512 x 512."""


class StagedVolume:
    """Bytes of a canonical volume ``(X, Y, Z)``, read and written as slices ``(n, X, Y)``.

    On disk the slices are the frames of a
    :class:`~domainsam.infer.store.RawRaster`, axial images as the engine and
    the foundation see them, so that a run holds a few slices whatever the
    volume's length, and can be gone on with after a crash.

    Parameters
    ----------
    raster
        ``Z`` frames of ``Y`` rows and ``X`` columns; see :func:`domainsam_ct.read.geometry.to_axial`.
    """

    def __init__(self, raster: RawRaster) -> None:
        rows, columns = raster.shape
        self.shape = (columns, rows, raster.frames)
        self._raster = raster

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int, int]) -> Self:
        """Make the file of a volume ``(X, Y, Z)`` with all its space reserved.

        Raises
        ------
        OutputError
            If the folder cannot be written or has not enough room.
        """
        return cls(RawRaster.create(path, (shape[1], shape[0]), shape[2]))

    @classmethod
    def open(cls, path: Path, shape: tuple[int, int, int]) -> Self:
        """Open a file made by :meth:`create`, or by the engine, again.

        Raises
        ------
        OutputError
            If it is missing or has another size.
        """
        return cls(RawRaster.open(path, (shape[1], shape[0]), shape[2]))

    @property
    def path(self) -> Path:
        """The file."""
        return self._raster.path

    @property
    def depth(self) -> int:
        """Number of slices."""
        return self.shape[2]

    def read(self, start: int, stop: int) -> Bytes:
        """Slices ``start`` to ``stop``, ``(n, X, Y)``."""
        images = np.stack([self._raster.read(self._window(number)) for number in range(start, stop)])
        return np.ascontiguousarray(np.moveaxis(from_axial(images), 2, 0))

    def write(self, start: int, slices: Bytes) -> None:
        """Write slices ``(n, X, Y)`` from ``start`` on.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        for number, image in enumerate(to_axial(np.moveaxis(slices, 0, 2)), start):
            self._raster.write(self._window(number), image)

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, Bytes]]:
        """All slices in order, some at a time, with the number of the first."""
        for start in range(0, self.depth, size):
            yield start, self.read(start, min(start + size, self.depth))

    def copy_to(self, path: Path) -> StagedVolume:
        """A copy in a file of its own.

        Raises
        ------
        OutputError
            If the folder cannot be written or has not enough room.
        """
        made = StagedVolume.create(path, self.shape)
        made._raster.copy_from(self._raster)
        return made

    def close(self) -> None:
        """Close the file, which stays."""
        self._raster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _window(self, number: int) -> Window:
        return Window(0, 0, self.shape[1], self.shape[0], number)
