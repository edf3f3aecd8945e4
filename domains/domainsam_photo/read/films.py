"""Films as numbered pictures: folders of pictures, and files that PyAV reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import DependencyError, InputError, MissingInputError
from domainsam.limits import require_memory
from domainsam.reading import reading
from domainsam_photo.read.pictures import find_pictures, read_picture

FILMS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
KEPT = 24
"""Decoded pictures that are kept, so that going backwards decodes a group of pictures only once."""
PIXEL_BYTES = 3
FOLDER_RATE = Fraction(10)
"""Pictures a second of a film made of a folder, which does not say."""

log = logging.getLogger(__name__)


class Film(Protocol):
    """Numbered pictures of one size."""

    name: str
    frames: int
    rate: Fraction

    def read(self, frame: int) -> NDArray[np.uint8]:
        """Picture ``(H, W, 3)`` uint8 RGB."""
        ...

    def moment(self, frame: int) -> Fraction:
        """Seconds from the beginning."""
        ...


class PictureFolder:
    """A film in the form of a folder of pictures, in alphabetical order."""

    def __init__(self, path: Path) -> None:
        self.files = find_pictures([path])
        self.name, self.frames, self.rate = path.name, len(self.files), FOLDER_RATE

    def read(self, frame: int) -> NDArray[np.uint8]:
        """Picture ``(H, W, 3)`` uint8 RGB."""
        return read_picture(self.files[frame])

    def moment(self, frame: int) -> Fraction:
        """Seconds from the beginning, at ten pictures a second."""
        return frame / self.rate


class FilmFile:
    """A film that PyAV reads; pictures are numbered by their times, whatever the rate.

    A picture that cannot be decoded is stood for by the one before it, and that is told.

    Parameters
    ----------
    path
        Of the file.

    Raises
    ------
    InputError
        If it is damaged or has no pictures.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        av = import_av()
        with reading(path, "a film"):
            self._container: Any = av.open(str(path))
            if not self._container.streams.video:
                raise InputError(f"{path}: has no pictures; expected a film")
            self._stream: Any = self._container.streams.video[0]
            self._stream.thread_type = "AUTO"
            self._error: Any = av.error.FFmpegError
            times = [packet.pts for packet in self._container.demux(self._stream) if packet.pts is not None]
        self._times = sorted(set(times))
        self.frames = len(self._times)
        if not self.frames:
            raise InputError(f"{path}: has 0 pictures; copy or download it again")
        size = (int(self._stream.codec_context.height), int(self._stream.codec_context.width))
        require_memory(path, PIXEL_BYTES * KEPT * size[0] * size[1], f"{size[1]} x {size[0]} pixels")
        self._base = Fraction(self._stream.time_base)
        self.rate = Fraction(self._stream.average_rate or FOLDER_RATE)
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._numbers = {time: number for number, time in enumerate(self._times)}
        self._decoding: Iterator[tuple[int, NDArray[np.uint8]]] = iter(())
        self._next: int | None = None

    def read(self, frame: int) -> NDArray[np.uint8]:
        """Picture ``(H, W, 3)`` uint8 RGB.

        Raises
        ------
        InputError
            If neither it nor one before it can be decoded.
        """
        picture = self._find(frame)
        if picture is not None:
            return picture
        # The nearest before, wherever reading began: a run that is gone on with sees what the first one saw.
        for earlier in range(frame - 1, -1, -1):
            picture = self._find(earlier)
            if picture is not None:
                log.warning(
                    "%s: picture %d cannot be decoded; picture %d stands for it",
                    self.path.name,
                    frame,
                    earlier,
                )
                self._keep(frame, picture)
                return picture
        raise InputError(f"{self.path}: picture {frame} cannot be decoded; copy or download it again")

    def _find(self, frame: int) -> NDArray[np.uint8] | None:
        """The picture, if it can be decoded or another stands for it already."""
        if frame in self._kept:
            return self._kept[frame]
        if self._next is None or not self._next <= frame <= self._next + KEPT:
            self._seek(frame)
        for number, picture in self._decoding:
            self._next = number + 1
            self._keep(number, picture)
            if number == frame:
                return picture
            if number > frame:
                break
        return None

    def moment(self, frame: int) -> Fraction:
        """Seconds from the first picture."""
        return (self._times[frame] - self._times[0]) * self._base

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _keep(self, number: int, picture: NDArray[np.uint8]) -> None:
        while len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[number] = picture

    def _seek(self, frame: int) -> None:
        """Go to the last key picture at or before one, or to the first."""
        with reading(self.path, "a film"):
            self._container.seek(self._times[frame], stream=self._stream, backward=True)
        self._decoding = self._decode()
        self._next = frame

    def _decode(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Pictures from where the file stands, passing over what is damaged."""
        for packet in self._container.demux(self._stream):
            try:
                pictures = packet.decode()
            except self._error:
                continue
            for picture in pictures:
                number = self._numbers.get(picture.pts)
                if number is not None:
                    yield number, np.asarray(picture.to_ndarray(format="rgb24"))


def import_av() -> Any:
    """PyAV.

    Raises
    ------
    DependencyError
        If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DependencyError("av is not installed: run pip install 'domainsam[film]'") from error
    return av


@contextmanager
def open_film(path: Path) -> Iterator[Film]:
    """A film file, or a folder of pictures.

    Raises
    ------
    MissingInputError
        If there is no such file or folder.
    InputError
        If it is damaged, has no pictures, or is no film.
    DependencyError
        If it is a film file and PyAV is not installed.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        yield PictureFolder(path)
        return
    if path.suffix.lower() not in FILMS:
        raise InputError(
            f"{path}: is no film by its ending; expected a folder of pictures or {', '.join(FILMS)}"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    film = FilmFile(path)
    try:
        yield film
    finally:
        film.close()
