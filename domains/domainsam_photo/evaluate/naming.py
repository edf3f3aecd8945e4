"""Named pictures as published sets lay them out: boxes and masks with classes, class maps, sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.documents import read_json, read_lines
from domainsam.errors import InputError, MissingInputError
from domainsam_photo.read.pictures import find_pictures

NAMING_LAYOUTS = ("coco", "lvis")
MAP_LAYOUTS = ("ade20k", "voc", "pascal-context", "semantic")
SENTENCE_LAYOUTS = ("refcoco",)
WORD_LAYOUTS = (*NAMING_LAYOUTS, *MAP_LAYOUTS, *SENTENCE_LAYOUTS)
VOC = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "tv monitor",
)
"""Classes of VOC 2012 by the numbers of its masks (Everingham et al. 2010)."""
UNKNOWN = 255
"""Number of pixels that no score counts, in VOC and where a map's classes are shifted."""
MOST_JSON = 2 << 30


@dataclass(frozen=True)
class Annotation:
    """An object: class number, box (left, top, width, height), and COCO's segmentation if any."""

    category: int
    box: tuple[float, float, float, float]
    segmentation: Any = None


@dataclass(frozen=True)
class NamedPicture:
    """A picture and its objects."""

    path: Path
    size: tuple[int, int]
    objects: tuple[Annotation, ...]


@dataclass(frozen=True)
class NamedSet:
    """Pictures, and the names of their classes by number; ``groups`` are classes by kind (frequent, rare)."""

    pictures: tuple[NamedPicture, ...]
    names: dict[int, str]
    groups: dict[int, str]


@dataclass(frozen=True)
class MapPair:
    """A picture and the file of its class numbers."""

    path: Path
    labels: Path


@dataclass(frozen=True)
class MapSet:
    """Pictures with class maps: class ``i`` has the number ``numbers[i]``; all other numbers do not count."""

    pictures: tuple[MapPair, ...]
    names: tuple[str, ...]
    numbers: tuple[int, ...]


def read_named(root: Path, layout: str, annotations: Path | None = None) -> NamedSet:
    """COCO's or LVIS's instances: a JSON, and pictures below ``root``.

    Parameters
    ----------
    root
        Holds the pictures, in folders of any depth, and ``annotations/*.json`` unless one is named.

    Raises
    ------
    MissingInputError
        If the JSON or a picture is absent.
    InputError
        If it is not of COCO's layout.
    """
    path = annotations or _only_json(root, "lvis_*.json" if layout == "lvis" else "instances_*.json")
    told = read_json(path, "annotations of COCO's layout", most=MOST_JSON)
    try:
        names = {int(one["id"]): _plain(one["name"]) for one in told["categories"]}
        groups = {int(one["id"]): str(one["frequency"]) for one in told["categories"] if "frequency" in one}
        objects: dict[int, list[Annotation]] = {}
        for one in told["annotations"]:
            if one.get("iscrowd", 0):
                continue
            box = tuple(float(side) for side in one["bbox"])
            found = Annotation(int(one["category_id"]), box, one.get("segmentation"))  # type: ignore[arg-type]
            objects.setdefault(int(one["image_id"]), []).append(found)
        entries = [one for one in told["images"] if int(one["id"]) in objects]
        pictures = [
            (_file_of(one), (int(one["height"]), int(one["width"])), int(one["id"])) for one in entries
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: is not of COCO's layout ({error!r}); expected images, annotations, categories"
        ) from error
    places = index_pictures(root)
    made = [
        NamedPicture(find_picture(places, name, root), size, tuple(objects[number]))
        for name, size, number in pictures
    ]
    if not made:
        raise InputError(f"{path}: names no object in a picture")
    return NamedSet(tuple(made), names, groups)


def _only_json(root: Path, pattern: str) -> Path:
    folder = root / "annotations"
    found = sorted([*folder.glob(pattern), *root.glob(pattern)])
    if len(found) != 1:
        told = f"{len(found)} files" if found else "no file"
        raise MissingInputError(f"{folder}: holds {told} {pattern}; name one by --annotations")
    return found[0]


def _plain(name: str) -> str:
    """A class's name as a word: LVIS joins by lines below and tells meanings in brackets."""
    return name.replace("_", " ").split("(")[0].strip()


def _file_of(entry: dict[str, Any]) -> str:
    # LVIS names pictures by the address they come from.
    return str(entry.get("file_name") or str(entry["coco_url"]).rsplit("/", 1)[-1]).rsplit("/", 1)[-1]


def index_pictures(root: Path) -> dict[str, Path]:
    """Pictures below a folder, by their names."""
    endings = (".jpg", ".jpeg", ".png")
    return {path.name: path for path in sorted(root.rglob("*")) if path.suffix.lower() in endings}


def find_picture(places: dict[str, Path], name: str, root: Path) -> Path:
    """The picture of that name.

    Raises
    ------
    MissingInputError
        If there is none.
    """
    # Pictures of RefCOCO are COCO's, called by their split first.
    found = places.get(name) or places.get(name.rsplit("_", 1)[-1])
    if found is None:
        raise MissingInputError(f"{root}: has no picture {name}, which the annotations name")
    return found


def read_maps(root: Path, layout: str, split: str | None = None) -> MapSet:
    """Pictures with class maps.

    ``ade20k``: ``images/SPLIT``, ``annotations/SPLIT`` (0 does not count), ``objectInfo150.txt``.
    ``voc``: ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation/SPLIT.txt``.
    ``pascal-context``: ``JPEGImages``, ``SegmentationClassContext``,
    ``ImageSets/SegmentationContext/SPLIT.txt``, ``labels.txt`` (59 classes; 0 does not count).
    ``semantic``: ``images``, ``labels``, ``classes.txt``, a name a line from number 0 on; 255 does not count.

    Raises
    ------
    MissingInputError
        If a file or folder is absent.
    InputError
        If it holds nothing.
    """
    if layout == "ade20k":
        chosen = split or "validation"
        pairs = _pair_all(_need(root / "images" / chosen), _need(root / "annotations" / chosen))
        names = _read_object_info(root / "objectInfo150.txt")
        return MapSet(pairs, names, tuple(range(1, len(names) + 1)))
    if layout == "semantic":
        pairs = _pair_all(_need(root / "images"), _need(root / "labels"))
        names = tuple(
            line.strip() for line in read_lines(root / "classes.txt", "names of classes") if line.strip()
        )
        return MapSet(pairs, names, tuple(range(len(names))))
    voc = layout == "voc"
    lists = root / "ImageSets" / ("Segmentation" if voc else "SegmentationContext")
    listed = read_lines(lists / f"{split or 'val'}.txt", "a list of pictures")
    masks = _need(root / ("SegmentationClass" if voc else "SegmentationClassContext"))
    folder = _need(root / "JPEGImages")
    pairs = tuple(
        MapPair(folder / f"{stem}.jpg", masks / f"{stem}.png") for stem in map(str.strip, listed) if stem
    )
    if not pairs:
        raise InputError(f"{lists}: names no picture")
    if voc:
        return MapSet(pairs, VOC, tuple(range(len(VOC))))
    names = _read_numbered(root / "labels.txt")
    return MapSet(pairs, names, tuple(range(1, len(names) + 1)))


def _need(folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder; check --layout, --split and the path")
    return folder


def _pair_all(pictures: Path, labels: Path) -> tuple[MapPair, ...]:
    pairs = tuple(MapPair(path, labels / f"{path.stem}.png") for path in find_pictures([pictures]))
    missing = next((pair.labels for pair in pairs if not pair.labels.is_file()), None)
    if missing is not None:
        raise MissingInputError(f"{missing}: no such class map; add it, or take its picture away")
    return pairs


def _read_object_info(path: Path) -> tuple[str, ...]:
    """Names of ADE20K's 150 classes: the last column of its table, the first of several words."""
    rows = [line.rstrip("\n") for line in read_lines(path, "ADE20K's table of classes") if line.strip()]
    rows = [row for row in rows if row.split("\t")[0].strip().isdigit()]
    names = tuple(row.split("\t")[-1].split(",")[0].strip() for row in rows)
    if not names or not all(names):
        raise InputError(f"{path}: is not ADE20K's table; expected a number first and a name last, by tabs")
    return names


def _read_numbered(path: Path) -> tuple[str, ...]:
    """Names of a list ``1: aeroplane`` or ``aeroplane``, a line each, without what counts as background."""
    names = [line.split(":")[-1].strip() for line in read_lines(path, "names of classes") if line.strip()]
    return tuple(name for name in names if name not in ("background", "empty"))


def read_classes(pair: MapPair, numbers: tuple[int, ...]) -> NDArray[np.int64]:
    """Classes ``(H, W)`` of a map: places in ``numbers``, -1 where a number does not count.

    Raises
    ------
    MissingInputError, InputError
        If the file is absent or no map.
    """
    if not pair.labels.is_file():
        raise MissingInputError(f"{pair.labels}: no such class map")
    try:
        with Image.open(pair.labels) as image:
            values = np.asarray(image)
    except (OSError, ValueError) as error:
        raise InputError(f"{pair.labels}: cannot be read as a picture; copy it again") from error
    if values.ndim != 2:
        raise InputError(f"{pair.labels}: is in colours; expected a map of class numbers")
    table = np.full(max(int(values.max()), *numbers) + 1, -1, np.int64)
    table[list(numbers)] = np.arange(len(numbers))
    return np.asarray(table[values.astype(np.int64)])
