"""Pictures with the masks of their objects: folders of images and masks, and COCO's layout."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from domainsam.errors import InputError, MissingInputError
from domainsam.io.pictures import WIDE, stretch_grey
from domainsam.reading import reads

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MASK_ENDINGS = ("_mask", "_label", "_labels")
LEAST_PIXELS = 16
"""Smaller objects are specks of annotation, and no click fits into them."""
NOTHING = (0, 255)
"""Values of a mask that are no object where others are: background, and COCO's and VOC's void."""


@dataclass(frozen=True)
class Example:
    """A picture ``(H, W, 3)`` uint8 and the masks ``(N, H, W)`` bool of its objects."""

    name: str
    picture: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def read_folder(images: Path, masks: Path | None = None) -> Iterator[Example]:
    """Pictures of a folder that have a mask: of the same name in ``masks``, or ``NAME_mask.*`` beside them.

    A mask of several values has an object for each (0 and 255 are none); one of a
    single value has an object for each connected part.

    Raises
    ------
    MissingInputError
        If a folder does not exist or holds no pair.
    InputError
        If a file is no picture, or a mask has another size than its picture.
    """
    for folder in (images, masks):
        if folder is not None and not folder.is_dir():
            raise MissingInputError(f"folder '{folder}' does not exist: give a folder of images")
    pairs = list(_pairs(images, masks))
    if not pairs:
        expected = (
            "NAME_mask.png beside NAME.png" if masks is None else f"files of the same names in '{masks}'"
        )
        raise MissingInputError(f"no picture in '{images}' has a mask: expected {expected}")
    for picture, mask in pairs:
        values = _read_mask(mask)
        shown = read_picture(picture)
        if values.shape != shown.shape[:2]:
            raise InputError(
                f"mask '{mask}' is {values.shape[1]} x {values.shape[0]} pixels, its picture "
                f"{shown.shape[1]} x {shown.shape[0]}: give masks of the pictures' size"
            )
        yield Example(picture.stem, shown, separate_objects(values))


def read_pictures(folder: Path, most: int) -> list[NDArray[np.uint8]]:
    """The first pictures ``(H, W, 3)`` uint8 of a folder, by name; masks beside them are left out.

    Raises
    ------
    MissingInputError
        If the folder does not exist or holds no picture.
    InputError
        If a file is no picture.
    """
    if not folder.is_dir():
        raise MissingInputError(f"folder '{folder}' does not exist: give a folder of images")
    files = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES)
    chosen = [path for path in files if not path.stem.endswith(MASK_ENDINGS)][:most]
    if not chosen:
        raise MissingInputError(f"folder '{folder}' holds no picture: expected {', '.join(PICTURES)}")
    return [read_picture(path) for path in chosen]


def _pairs(images: Path, masks: Path | None) -> Iterator[tuple[Path, Path]]:
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in PICTURES)
    where = masks or images
    named = {path.stem: path for path in sorted(where.iterdir()) if path.suffix.lower() in PICTURES}
    endings = MASK_ENDINGS if masks is None else ("", *MASK_ENDINGS)
    for path in files:
        if masks is None and path.stem.endswith(MASK_ENDINGS):
            continue
        base = path.stem.removesuffix("_image")
        for stem in (start + ending for start in (path.stem, base) for ending in endings):
            if stem in named:
                yield path, named[stem]
                break


@reads("a picture")
def _open(path: Path, turned: bool = True) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image) if turned else image.copy()
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"'{path}' is no picture that can be read: {error}") from error


def read_picture(path: Path, turned: bool = True) -> NDArray[np.uint8]:
    """A picture ``(H, W, 3)`` uint8; one channel of more than eight bits is stretched between its ends.

    It is turned as its camera says (EXIF orientation), unless ``turned`` is false.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    image = _open(path, turned)
    if image.mode in WIDE:
        return stretch_grey(np.asarray(image, np.float64))
    return np.asarray(image.convert("RGB"))


def _read_mask(path: Path) -> NDArray[Any]:
    """Values ``(H, W)``; a palette's numbers, not its colours."""
    values = np.asarray(_open(path))
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(f"mask '{path}' is coloured: expected one number a pixel")
    return values


def separate_objects(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Masks ``(N, H, W)`` of the objects of a mask image ``(H, W)``; specks are left out."""
    numbers = [number for number in np.unique(values) if number not in NOTHING]
    if len(numbers) > 1:
        found = [values == number for number in numbers]
    else:
        parts, count = ndimage.label(values > 0)
        found = [parts == number for number in range(1, count + 1)]
    kept = [mask for mask in found if mask.sum() >= LEAST_PIXELS]
    return np.stack(kept) if kept else np.zeros((0, *values.shape), bool)


def _file_name(image: Mapping[str, Any]) -> str:
    """Where a picture lies: COCO says it, LVIS gives an address that ends so."""
    return str(image.get("file_name") or str(image.get("coco_url", "")).rpartition("/")[2])


def read_coco(images: Path, annotations: Path) -> Iterator[Example]:
    """Pictures of a folder and the objects of a COCO or LVIS file; crowds are left out.

    Raises
    ------
    MissingInputError
        If the folder or the file does not exist.
    InputError
        If the file is none of COCO's, or a picture of it is absent.
    DependencyError
        If pycocotools is not installed.
    """
    if not annotations.is_file():
        raise MissingInputError(
            f"annotations '{annotations}' do not exist: give a COCO file such as instances.json"
        )
    from pycocotools.coco import COCO

    try:
        # It prints what it is about, in the way of a table or of JSON on stdout.
        with redirect_stdout(io.StringIO()):
            table = COCO(str(annotations))
    except (ValueError, KeyError, AssertionError, UnicodeDecodeError) as error:
        raise InputError(f"'{annotations}' is no file of COCO's: {error}") from error
    for number in sorted(table.imgs):
        path = images / _file_name(table.imgs[number])
        if not path.is_file():
            raise InputError(
                f"'{annotations}' names {path.name}, which is not in '{images}': give its folder"
            )
        shown = read_picture(path)
        found = table.loadAnns(table.getAnnIds(imgIds=number, iscrowd=False))
        masks = [np.asarray(table.annToMask(one), bool) for one in found]
        kept = [mask for mask in masks if mask.sum() >= LEAST_PIXELS]
        if kept and kept[0].shape != shown.shape[:2]:
            # Drawn on the picture as it is stored.
            shown = read_picture(path, turned=False)
        if kept:
            yield Example(path.stem, shown, np.stack(kept))
