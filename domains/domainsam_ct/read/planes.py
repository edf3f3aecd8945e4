"""Voxels on disk, read and written a few planes at a time.

Files keep voxels in their own axis order, networks want axial slices, and a
volume need not fit in memory. The store below keeps axial slices together
whatever the file's order, so that neither side reads the whole to get a part.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import OutputError

SLAB_BYTES = 32 << 20
"""Bytes of a file handled at a time."""


class PlaneStore:
    """Voxels of a native array ``(i, j, k)``, kept slice by slice along one axis.

    On disk the slice axis varies slowest, then ``k``, then ``j``, then ``i``
    (without the slice axis). With ``k`` as slice axis that is the order of a
    NIfTI file, which can therefore serve as a store as it is.

    Parameters
    ----------
    file
        Open binary file; the store closes it.
    shape
        Native shape.
    dtype
        Type of the voxels, byte order included.
    slice_axis
        Native axis along which slices lie.
    offset
        Where in the file the voxels begin.
    """

    def __init__(
        self,
        file: IO[bytes],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        slice_axis: int,
        offset: int = 0,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.slice_axis = slice_axis
        self._file = file
        self.offset = offset
        self._lock = threading.Lock()
        rest = [axis for axis in (2, 1, 0) if axis != slice_axis]
        self._order = (slice_axis, rest[0], rest[1])
        self._row = shape[rest[1]] * self.dtype.itemsize
        self._plane = shape[rest[0]] * self._row

    @classmethod
    def temporary(
        cls,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        slice_axis: int,
        scratch: Path | None = None,
    ) -> PlaneStore:
        """An empty store without a name in ``scratch`` (default: the system's folder for such files).

        The system removes it with the process, however that ends.

        Raises
        ------
        OutputError
            If no file can be made there.
        """
        try:
            file = tempfile.TemporaryFile(dir=scratch, prefix=".domainsam-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _disk_error(error) from error
        return cls(file, shape, dtype, slice_axis)

    def slab_length(self) -> int:
        """How many ``k`` planes make a slab of :data:`SLAB_BYTES`, at least one."""
        plane = self.shape[0] * self.shape[1] * self.dtype.itemsize
        return max(1, SLAB_BYTES // plane)

    def slabs(self) -> Iterator[tuple[int, int]]:
        """Consecutive ranges of ``k`` that cover the volume."""
        length = self.slab_length()
        for start in range(0, self.shape[2], length):
            yield start, min(start + length, self.shape[2])

    def write_slab(self, start: int, slab: NDArray[Any]) -> None:
        """Write native planes ``(i, j, n)`` from ``k = start`` on.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        if self.slice_axis == 2:
            self._write(start * self._plane, slab.transpose(2, 1, 0))
            return
        pieces = np.moveaxis(slab, (self.slice_axis, 2), (0, 1))
        for number, piece in enumerate(pieces):
            self._write(number * self._plane + start * self._row, piece)

    def read_slab(self, start: int, stop: int) -> NDArray[Any]:
        """Native planes ``(i, j, stop - start)``, read only."""
        if self.slice_axis == 2:
            return self.read_slices(start, stop)
        count, rest = self.shape[self.slice_axis], self._order[2]
        slab = np.empty((count, stop - start, self.shape[rest]), self.dtype)
        for number in range(count):
            data = self._read(number * self._plane + start * self._row, (stop - start) * self._row)
            slab[number] = np.frombuffer(data, self.dtype).reshape(slab.shape[1:])
        return slab.transpose(np.argsort(self._order))

    def write_slices(self, start: int, slices: NDArray[Any]) -> None:
        """Write a native array that covers only some slices, from ``start`` on along the slice axis.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        self._write(start * self._plane, slices.transpose(self._order))

    def read_slices(self, start: int, stop: int) -> NDArray[Any]:
        """A native array that covers slices ``start`` to ``stop`` of the slice axis, read only."""
        data = self._read(start * self._plane, (stop - start) * self._plane)
        _, second, third = self._order
        shape = (stop - start, self.shape[second], self.shape[third])
        return np.frombuffer(data, self.dtype).reshape(shape).transpose(np.argsort(self._order))

    def close(self) -> None:
        """Close the file; a temporary one is gone then."""
        self._file.close()

    def _write(self, offset: int, values: NDArray[Any]) -> None:
        data = memoryview(np.ascontiguousarray(values, self.dtype).data).cast("B")
        try:
            with self._lock:
                self._file.seek(self.offset + offset)
                while data:
                    data = data[self._file.write(data) :]
        except OSError as error:
            raise _disk_error(error) from error

    def _read(self, offset: int, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        with self._lock:
            self._file.seek(self.offset + offset)
            while view:
                # A hole that was never written ends the file early: its voxels are 0.
                length = self._file.readinto(view)  # type: ignore[attr-defined]
                if not length:
                    break
                view = view[length:]
        return data


def _disk_error(error: OSError) -> OutputError:
    return OutputError(
        f"cannot stage the volume on disk ({error.strerror or error}): free some space, "
        "or set TMPDIR to a folder on another disk"
    )


DEFLATE_RATIO = 1032
"""No gzip stream expands further (zlib's technical details)."""
