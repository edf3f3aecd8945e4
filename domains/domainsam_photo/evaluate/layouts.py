"""Labelled pictures and films as published sets lay them out, and as folders of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from domainsam.documents import read_lines
from domainsam.errors import InputError, MissingInputError
from domainsam_photo.read.marked import Example
from domainsam_photo.read.pictures import PICTURES, find_pictures

FILM_LAYOUTS = ("davis", "youtube-vos", "mose")
PICTURE_LAYOUTS = ("perseg", "folder")
LAYOUTS = (*FILM_LAYOUTS, *PICTURE_LAYOUTS)
REFERENCE = "00"
"""PerSeg's picture that is shown as the example; it is not scored."""
RESOLUTION = "480p"


@dataclass(frozen=True)
class Group:
    """Pictures of one object: ``reference`` is shown, the others are scored."""

    name: str
    reference: Example | None
    others: tuple[Example, ...]


@dataclass(frozen=True)
class Sequence:
    """A film as a folder of pictures, and masks of numbers by the number of their picture."""

    name: str
    folder: Path
    masks: dict[int, Path]


def read_groups(root: Path, layout: str) -> tuple[Group, ...]:
    """Groups of a set of pictures.

    ``perseg``: ``Images/OBJECT/NN.jpg`` and ``Annotations/OBJECT/NN.png``, of which ``00`` is the example.
    ``folder``: ``images/NAME.jpg`` and ``masks/NAME.png``; the first is the example where one is needed.

    Raises
    ------
    MissingInputError
        If a folder is not there.
    InputError
        If it holds nothing, or a picture has no mask.
    """
    if layout == "folder":
        pairs = _pair(_folder(root, "images"), _folder(root, "masks"))
        return (Group(root.name, pairs[0], pairs[1:]),)
    images, masks = _folder(root, "Images"), _folder(root, "Annotations")
    groups = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        pairs = _pair(folder, _folder(masks, folder.name))
        shown = next((pair for pair in pairs if pair.picture.stem == REFERENCE), None)
        if shown is None:
            raise InputError(f"{folder}: has no picture {REFERENCE}; expected the example under that name")
        groups.append(Group(folder.name, shown, tuple(pair for pair in pairs if pair is not shown)))
    if not groups:
        raise InputError(f"{images}: holds no folder of an object; expected Images/OBJECT/00.jpg")
    return tuple(groups)


def read_sequences(root: Path, split: str | None = None) -> tuple[Sequence, ...]:
    """Films of a set: ``JPEGImages[/480p]/FILM/*.jpg`` and ``Annotations[/480p]/FILM/*.png``.

    ``split`` names a list ``ImageSets/SPLIT.txt``, in a folder ``2017`` or ``2016`` or without.

    Raises
    ------
    MissingInputError
        If a folder or list is not there.
    InputError
        If it holds nothing.
    """
    pictures, masks = (_resolution(_folder(root, name)) for name in ("JPEGImages", "Annotations"))
    names = sorted(path.name for path in pictures.iterdir() if path.is_dir())
    if split is not None:
        names = _read_split(root, split)
    found = []
    for name in names:
        folder, labels = _folder(pictures, name), _folder(masks, name)
        numbers = {path.stem: number for number, path in enumerate(find_pictures([folder]))}
        own = {numbers[path.stem]: path for path in sorted(labels.glob("*.png")) if path.stem in numbers}
        if not own:
            raise InputError(f"{labels}: no mask belongs to a picture of {folder}; expected the same names")
        found.append(Sequence(name, folder, own))
    if not found:
        raise InputError(f"{pictures}: holds no film; expected a folder of pictures each")
    return tuple(found)


def _read_split(root: Path, split: str) -> list[str]:
    places = [root / "ImageSets" / year / f"{split}.txt" for year in ("2017", "2016", "")]
    for path in places:
        if path.is_file():
            lines = [line.strip() for line in read_lines(path, "a list of films") if line.strip()]
            # The lists of 2016 name files: /JPEGImages/480p/FILM/00000.jpg ...
            films = [line.split()[0].split("/")[-2] if "/" in line else line for line in lines]
            return list(dict.fromkeys(films))
    raise MissingInputError(f"{places[0]}: no such list; leave --split out, or give another")


def _resolution(folder: Path) -> Path:
    inner = folder / RESOLUTION
    return inner if inner.is_dir() else folder


def _folder(root: Path, name: str) -> Path:
    folder = root / name
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder; check --layout and the path")
    return folder


def _pair(pictures: Path, masks: Path) -> tuple[Example, ...]:
    pairs = []
    for picture in find_pictures([pictures]):
        own = [masks / f"{picture.stem}{ending}" for ending in (".png", *PICTURES)]
        mask = next((path for path in own if path.is_file()), None)
        if mask is None:
            raise InputError(f"{picture}: has no mask {own[0]}; add it, or take the picture away")
        pairs.append(Example(picture, mask))
    return tuple(pairs)
