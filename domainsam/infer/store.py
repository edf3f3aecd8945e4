"""Staging on disk: a raw row-major file of bytes, read and written by windows."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam.infer.blend import NODATA, clip_window, within
from domainsam.protocols import Window


class OpenFile:
    """Owns a descriptor and closes it once; a context manager."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Close the file, which stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


BINARY = getattr(os, "O_BINARY", 0)
"""Windows would otherwise change line ends."""
COPIED_AT_ONCE = 1 << 22
"""Bytes held while a raster is copied."""


class RawRaster(OpenFile):
    """A scene of unsigned bytes in a plain file, one row after another.

    Reads and writes are positioned system calls, not a memory map, so the
    process holds only the windows at hand. Threads may read and write at once.

    Parameters
    ----------
    path
        The file; made by :meth:`create`, found again by :meth:`open`.
    shape
        Rows and columns.
    """

    def __init__(self, path: Path, shape: tuple[int, int], descriptor: int) -> None:
        super().__init__(descriptor)
        self.path = path
        self.shape = shape
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int]) -> Self:
        """Make a file with all its space reserved, so that a full disk shows now and not in mid-run.

        Raises
        ------
        OutputError
            If the folder cannot be written or has not enough room.
        """
        size = shape[0] * shape[1]
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | BINARY, 0o644)
        except OSError as error:
            raise OutputError(
                f"cannot create {path}: {error.strerror}; choose a folder you may write to"
            ) from error
        try:
            _reserve(descriptor, size)
        except OSError as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise OutputError(
                f"cannot reserve {size / 1e6:.0f} MB for {path}: {error.strerror}; "
                "free some space or choose another folder"
            ) from error
        return cls(path, shape, descriptor)

    @classmethod
    def open(cls, path: Path, shape: tuple[int, int]) -> Self:
        """Open a file made by :meth:`create` again.

        Raises
        ------
        OutputError
            If it is missing or has another size than ``shape`` asks for.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | BINARY)
        except OSError as error:
            raise OutputError(
                f"cannot open staged data {path}: {error.strerror}; run without --resume"
            ) from error
        size = os.fstat(descriptor).st_size
        if size != shape[0] * shape[1]:
            os.close(descriptor)
            raise OutputError(
                f"staged data {path} holds {size} bytes, not {shape[0]} x {shape[1]}; run without --resume"
            )
        return cls(path, shape, descriptor)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Bytes ``(h, w)`` of a window; parts outside the scene are 255."""
        part = clip_window(window, (0, self.shape[0]), (0, self.shape[1]))
        values = np.full((window.height, window.width), NODATA, dtype=np.uint8)
        if not part.height or not part.width:
            return values
        inside = values[within(part, (window.row, window.col))]
        width = self.shape[1]
        if part.width == width:
            whole = self._read_at(part.height * width, part.row * width)
            inside[:] = np.frombuffer(whole, dtype=np.uint8).reshape(part.height, width)
            return values
        for index in range(part.height):
            line = self._read_at(part.width, (part.row + index) * width + part.col)
            inside[index] = np.frombuffer(line, dtype=np.uint8)
        return values

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Write bytes ``(h, w)``; the window lies inside the scene.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        width = self.shape[1]
        lines = np.ascontiguousarray(values)
        try:
            if window.width == width:
                self._write_at(lines.data.cast("B"), window.row * width)
                return
            for index in range(window.height):
                self._write_at(lines[index].data, (window.row + index) * width + window.col)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; nothing was kept") from error

    def _read_at(self, count: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, count, offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, count)

    def _write_at(self, data: memoryview, offset: int) -> None:
        """Write all bytes, however many calls the system needs."""
        while data:
            if hasattr(os, "pwrite"):
                count = os.pwrite(self._descriptor, data, offset)
            else:
                with self._lock:
                    os.lseek(self._descriptor, offset, os.SEEK_SET)
                    count = os.write(self._descriptor, data)
            data, offset = data[count:], offset + count

    def copy_from(self, other: RawRaster) -> None:
        """Take all bytes of another raster of the same shape."""
        rows, cols = self.shape
        height = max(1, COPIED_AT_ONCE // max(1, cols))
        for row in range(0, rows, height):
            window = Window(row, 0, min(height, rows - row), cols)
            self.write(window, other.read(window))

    def sync(self) -> None:
        """Return once everything written so far is on the disk."""
        os.fsync(self._descriptor)


def _reserve(descriptor: int, size: int) -> None:
    """Reserve disk space; file systems that cannot (and other systems) only set the length."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.ftruncate(descriptor, size)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
