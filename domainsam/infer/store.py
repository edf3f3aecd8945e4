"""Staging files on disk: raw row-major bytes, read and written by windows."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam.infer.blend import NODATA, clip_window, slice_within
from domainsam.private import open_privately
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


COPIED_AT_ONCE = 1 << 22
"""Bytes held while a raster is copied."""


class RawRaster(OpenFile):
    """A scene of unsigned bytes in a plain file, one row after another, one frame after another.

    Reads and writes are positioned system calls, not a memory map, so the
    process holds only the windows at hand. Threads may read and write at once.

    Parameters
    ----------
    path
        The file; made by :meth:`create`, found again by :meth:`open`.
    shape
        Rows and columns of a frame.
    frames
        Frames of a volume, a series or a film; one for a scene.
    """

    def __init__(self, path: Path, shape: tuple[int, int], descriptor: int, frames: int = 1) -> None:
        super().__init__(descriptor)
        self.path = path
        self.shape = shape
        self.frames = frames
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int], frames: int = 1) -> Self:
        """Make a file with all its space reserved, so that a full disk shows now and not in mid-run.

        Raises
        ------
        OutputError
            If the folder cannot be written or has not enough room.
        """
        size = frames * shape[0] * shape[1]
        try:
            descriptor = open_privately(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        except OutputError:
            raise
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
        return cls(path, shape, descriptor, frames)

    @classmethod
    def open(cls, path: Path, shape: tuple[int, int], frames: int = 1) -> Self:
        """Open a file made by :meth:`create` again.

        Raises
        ------
        OutputError
            If it is missing or has another size than ``shape`` and ``frames`` ask for.
        """
        try:
            descriptor = open_privately(path, os.O_RDWR)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot open staged data {path}: {error.strerror}; run without --resume"
            ) from error
        size = os.fstat(descriptor).st_size
        if size != frames * shape[0] * shape[1]:
            os.close(descriptor)
            expected = " x ".join(str(count) for count in ((frames,) if frames > 1 else ()) + shape)
            raise OutputError(f"staged data {path} holds {size} bytes, not {expected}; run without --resume")
        return cls(path, shape, descriptor, frames)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Bytes ``(h, w)`` of a window; parts outside the scene are 255."""
        part = clip_window(window, (0, self.shape[0]), (0, self.shape[1]))
        values = np.full((window.height, window.width), NODATA, dtype=np.uint8)
        if not part.height or not part.width:
            return values
        inside = values[slice_within(part, (window.row, window.col))]
        width, first = self.shape[1], window.frame * self.shape[0]
        if part.width == width:
            whole = self._read_at(part.height * width, (first + part.row) * width)
            inside[:] = np.frombuffer(whole, dtype=np.uint8).reshape(part.height, width)
            return values
        for index in range(part.height):
            line = self._read_at(part.width, (first + part.row + index) * width + part.col)
            inside[index] = np.frombuffer(line, dtype=np.uint8)
        return values

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Write bytes ``(h, w)``; the window lies inside the scene.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        width, first = self.shape[1], window.frame * self.shape[0]
        lines = np.ascontiguousarray(values)
        try:
            if window.width == width:
                self._write_at(lines.data.cast("B"), (first + window.row) * width)
                return
            for index in range(window.height):
                self._write_at(lines[index].data, (first + window.row + index) * width + window.col)
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
        for window in self.bands(COPIED_AT_ONCE):
            self.write(window, other.read(window))

    def bands(self, pixels: int) -> Iterator[Window]:
        """Windows of whole rows, ``pixels`` at most, that cover all frames in order."""
        rows, cols = self.shape
        height = max(1, pixels // max(1, cols))
        for frame in range(self.frames):
            for row in range(0, rows, height):
                yield Window(row, 0, min(height, rows - row), cols, frame)

    def frame(self, number: int) -> FrameOfRaster:
        """One frame by itself."""
        return FrameOfRaster(self, number)

    def sync(self) -> None:
        """Return once everything written so far is on the disk."""
        os.fsync(self._descriptor)


@dataclass(frozen=True)
class FrameOfRaster:
    """One frame of a :class:`RawRaster`, read as if it were a scene of its own."""

    raster: RawRaster
    number: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.raster.shape

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Bytes ``(h, w)`` of a window of this frame, 255 outside it."""
        return self.raster.read(replace(window, frame=self.number))


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
