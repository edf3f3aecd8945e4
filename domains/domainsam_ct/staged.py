"""A volume of bytes on disk, one axial slice after another.

Slices are canonical: ``(X, Y)`` with x towards the patient's right, y towards
the front; slice numbers grow towards the head. A mask in the making and the
confidence that belongs to it are such volumes, so that a run holds a few
slices whatever the volume's length, and can be gone on with after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.store import RawRaster
from domainsam.protocols import Window

Bytes = NDArray[np.uint8]
CHUNK = 16
"""Slices held at once by passes over a volume: 4 MB a byte of voxel at 512 x 512."""


class StagedVolume:
    """Bytes of a canonical volume ``(X, Y, Z)`` in a file; slices are read and written as ``(n, X, Y)``.

    Parameters
    ----------
    path
        The file; :meth:`create` makes it, :meth:`open` finds it again.
    shape
        ``(X, Y, Z)``.
    """

    def __init__(self, raster: RawRaster, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._raster = raster

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int, int]) -> Self:
        """Make the file with all its space reserved.

        Raises
        ------
        OutputError
            If the folder cannot be written or has not enough room.
        """
        return cls(RawRaster.create(path, (shape[2], shape[0] * shape[1])), shape)

    @classmethod
    def open(cls, path: Path, shape: tuple[int, int, int]) -> Self:
        """Open a file made by :meth:`create` again.

        Raises
        ------
        OutputError
            If it is missing or has another size.
        """
        return cls(RawRaster.open(path, (shape[2], shape[0] * shape[1])), shape)

    @property
    def depth(self) -> int:
        """Number of slices."""
        return self.shape[2]

    def read(self, start: int, stop: int) -> Bytes:
        """Slices ``start`` to ``stop``, ``(n, X, Y)``."""
        values = self._raster.read(self._window(start, stop))
        return values.reshape(stop - start, *self.shape[:2])

    def write(self, start: int, slices: Bytes) -> None:
        """Write slices ``(n, X, Y)`` from ``start`` on.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        count = len(slices)
        self._raster.write(self._window(start, start + count), slices.reshape(count, -1))

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, Bytes]]:
        """All slices in order, some at a time, with the number of the first."""
        for start in range(0, self.depth, size):
            yield start, self.read(start, min(start + size, self.depth))

    def copied(self, path: Path) -> Self:
        """A copy in a file of its own.

        Raises
        ------
        OutputError
            If the folder cannot be written or has not enough room.
        """
        made = self.create(path, self.shape)
        for start, slices in self.chunks():
            made.write(start, slices)
        return made

    def sync(self) -> None:
        """Return once everything written so far is on the disk."""
        self._raster.sync()

    def close(self) -> None:
        """Close the file, which stays."""
        self._raster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _window(self, start: int, stop: int) -> Window:
        return Window(start, 0, stop - start, self.shape[0] * self.shape[1])
