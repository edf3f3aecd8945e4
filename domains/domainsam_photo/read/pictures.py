"""Photographs as a person sees them: turned as their camera says, eight bits, RGB."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from domainsam.errors import InputError, MissingInputError
from domainsam.io.pictures import WIDE, stretch_grey
from domainsam.limits import require_memory
from domainsam.reading import reads

PICTURES = (".jpg", ".jpeg", ".png", ".heic", ".heif", ".avif", ".webp", ".bmp", ".tif", ".tiff")
HEIC = (".heic", ".heif")
PIXEL_BYTES = 16
"""Bytes a pixel while a picture is read: as stored, as RGB, turned, and scaled."""
OPENING = Lock()
"""Held while Pillow's limit, which is one for all threads, is lifted."""


@reads("a photograph")
def read_picture(path: Path) -> NDArray[np.uint8]:
    """A photograph ``(H, W, 3)`` uint8 RGB, turned as its EXIF orientation says.

    What is transparent lies on white; more than eight bits a channel are stretched between their ends.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged, no picture, too large, or of a format that this Pillow cannot read.
    """
    image = _open(path)
    if image.mode in WIDE:
        return stretch_grey(np.asarray(image, np.float64))
    if "A" in image.getbands() or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


@reads("a mask")
def read_mask(path: Path, number: int | None = None) -> NDArray[np.bool_]:
    """Where a mask is set, ``(H, W)`` bool: every value but 0, or one number of a mask of numbers.

    Raises
    ------
    MissingInputError, InputError
        As :func:`read_picture`; or if nothing is set.
    """
    numbers = read_numbers(path)
    mask = numbers > 0 if number is None else numbers == number
    require_set(path, mask)
    return np.asarray(mask)


def require_set(path: Path, mask: NDArray[np.bool_]) -> None:
    """Refuse the mask of a file where nothing is set.

    Raises
    ------
    InputError
        If nothing is.
    """
    if not mask.any():
        raise InputError(f"{path}: marks nothing; expected the object to have other values than 0")


@reads("a mask of numbers")
def read_numbers(path: Path) -> NDArray[np.uint8]:
    """Numbers ``(H, W)`` uint8 of the objects of a mask; of a coloured one 1 where any channel is not 0.

    Raises
    ------
    MissingInputError, InputError
        As :func:`read_picture`.
    """
    image = _open(path)
    if image.mode in ("P", "L", "1"):
        return np.asarray(image).astype(np.uint8)
    if image.mode in WIDE:
        return np.asarray(np.asarray(image) > 0).astype(np.uint8)
    values = np.asarray(image.convert("RGBA" if "A" in image.getbands() else "RGB"))
    set_ = values[..., :3].max(axis=-1) > 0
    if values.shape[-1] == 4:
        set_ &= values[..., 3] > 0
    return set_.astype(np.uint8)


def find_pictures(inputs: Iterable[Path]) -> tuple[Path, ...]:
    """Picture files that are named, and those in folders that are named, in alphabetical order.

    Raises
    ------
    MissingInputError
        If a path does not exist.
    InputError
        If a folder holds no picture.
    """
    found: list[Path] = []
    for given in inputs:
        if given.is_dir():
            inside = sorted(path for path in given.iterdir() if path.suffix.lower() in PICTURES)
            inside = [path for path in inside if path.is_file() and not path.name.startswith(".")]
            if not inside:
                raise InputError(
                    f"{given}: holds no picture; expected files that end in {', '.join(PICTURES)}"
                )
            found += inside
        elif given.exists():
            found.append(given)
        else:
            raise MissingInputError(f"{given}: no such file or folder; check the path")
    return tuple(dict.fromkeys(found))


def _open(path: Path) -> Any:
    """The decoded picture, upright; refused before it is decoded where it would not fit into memory."""
    if not path.exists():
        raise MissingInputError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a picture")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if path.suffix.lower() in HEIC:
        _learn_heic(path)
    with _open_any_size(path) as image:
        size = f"{image.width} x {image.height} pixels"
        require_memory(path, PIXEL_BYTES * image.width * image.height, size)
        return ImageOps.exif_transpose(image)


def _open_any_size(path: Path) -> Image.Image:
    """The picture, not yet decoded, without Pillow's own limit on pixels, which cameras exceed.

    Whoever decodes it checks its size against memory, which knows this machine.
    """
    with OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _learn_heic(path: Path) -> None:
    """Teach Pillow HEIC, where the package that can is installed."""
    Image.init()
    if path.suffix.lower() in Image.registered_extensions():
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise InputError(
            f"{path}: this Pillow reads no HEIC; install pillow-heif, or save the picture as JPEG or PNG"
        ) from error
    register_heif_opener()
