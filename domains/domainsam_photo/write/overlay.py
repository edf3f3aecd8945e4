"""Pictures with objects drawn over them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.errors import OutputError
from domainsam.metrics.boundary import find_outline
from domainsam_photo.read.films import import_av
from domainsam_photo.write.masks import choose_colour

SHARE = 0.45
"""Of an object's colour over the picture."""
QUALITY = 90
CODECS = ("libx264", "mpeg4")
"""Of overlay films, the first that this PyAV has."""
TICKS = 90_000
"""Times of pictures are counted in so many parts of a second, as MPEG does."""


def draw_overlay(picture: NDArray[np.uint8], numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture ``(H, W, 3)`` with every object of ``numbers`` ``(H, W)`` in its colour, edges in full."""
    drawn = picture.astype(np.float32)
    table = np.array([choose_colour(number) for number in range(256)], np.float32)
    on = numbers > 0
    drawn[on] = drawn[on] * (1 - SHARE) + table[numbers[on]] * SHARE
    for number in np.unique(numbers[on]):
        edge = find_outline(numbers == number)
        drawn[edge] = table[number]
    return np.rint(drawn).astype(np.uint8)


def encode_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A picture as JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def write_film(path: Path, pictures: Iterable[tuple[Fraction, NDArray[np.uint8]]], rate: Fraction) -> None:
    """Write pictures, each at its own moment in seconds, as a film.

    Raises
    ------
    DependencyError
        If PyAV is not installed.
    OutputError
        If no codec is there, or the film cannot be written.
    """
    av = import_av()
    codec = next((name for name in CODECS if name in av.codecs_available), None)
    if codec is None:
        raise OutputError(f"this PyAV has none of {', '.join(CODECS)}: leave --video out")
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream: Any = None
            for moment, picture in pictures:
                # Chroma is stored at half the size, so sides are even.
                even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
                if stream is None:
                    stream = container.add_stream(codec, rate=rate)
                    stream.height, stream.width, stream.pix_fmt = even.shape[0], even.shape[1], "yuv420p"
                    stream.codec_context.time_base = Fraction(1, TICKS)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
                frame.pts, frame.time_base = round(moment * TICKS), Fraction(1, TICKS)
                container.mux(stream.encode(frame))
            if stream is not None:
                container.mux(stream.encode())
    except av.error.FFmpegError as error:
        raise OutputError(f"cannot write '{path.name}' ({error}): choose another name or folder") from error
