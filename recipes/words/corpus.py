"""Regions with names, from folders of real data: photographs, streets, garments, cities from above.

A picture has a place: photographs are judged on a fifth that a hash of the name
holds back (the hash of :mod:`recipes.embedded.corpus`), streets on sequences,
cities on patches, tiles and ends of a city that no training sees.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recipes.embedded.corpus import buildings, components, feral_cat, held_back
from recipes.urban.cities import GRID, PATCH, STEP, TILE
from recipes.words.concepts import index_sources, read_concepts

LONGEST = 640
"""Pixels; pictures are stored with this longest side at most."""
LEAST = 100
"""Pixels of the smallest region."""
CELL = 200
"""Pixels of the cells that large regions of aerial pictures are cut into."""
CAMVID = (
    "sky building pole road sidewalk tree sign fence car pedestrian bicyclist".split()  # noqa: SIM905
)
"""Names of labels 0 to 10 in SegNet's copy; 11 is unlabelled."""
MUMBAI = {
    (200, 200, 200): "built",
    (80, 140, 50): "vegetation",
    (200, 160, 40): "barren",
    (40, 120, 240): "water",
    (100, 100, 150): "impervious",
    (250, 235, 185): "informal",
}
"""Colours of masks of Dabra & Kumar (2023)."""
EVERY = 4
"""Of CamVid's frames each so many-th: neighbours are the same street a second later."""


@dataclass(frozen=True, eq=False)
class Named:
    """A picture ``(H, W, 3)`` uint8 with regions.

    ``ids`` ``(H, W)`` int16 has 0 where nothing is named; region ``i`` shows
    concept ``names[i - 1]``.
    """

    source: str
    name: str
    held_back: bool
    image: NDArray[np.uint8]
    ids: NDArray[np.int16]
    names: tuple[int, ...]


def make_named(
    source: str, name: str, held: bool, image: Image.Image, ids: NDArray[np.integer], names: dict[int, int]
) -> Named | None:
    """A picture shrunk to :data:`LONGEST`; ``names``: concepts by id; None if all regions are too small."""
    scale = min(1.0, LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX if scale < 1 else None))
    labels = np.asarray(Image.fromarray(ids.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    area = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    kept = [one for one in names if area.get(one, 0) >= LEAST]
    if not kept:
        return None
    numbers = np.zeros(int(max(labels.max(), *kept)) + 1, np.int16)
    for number, one in enumerate(kept, 1):
        numbers[one] = number
    return Named(source, name, held, small, numbers[labels], tuple(names[one] for one in kept))


def plain(name: str) -> str:
    """COCO's name of stuff without what only COCO says by it."""
    for ending in ("-other-merged", "-merged", "-other", "-stuff"):
        name = name.removesuffix(ending)
    return name.replace(" ", "_")


def coco_panoptic(root: Path, known: dict[str, int]) -> Iterator[Named | None]:
    """COCO's panoptic layout: ``images/SPLIT``, ``panoptic_segmentation/annotations/panoptic_SPLIT``."""
    for split in ("train2017", "val2017"):
        folder = root / "panoptic_segmentation/annotations"
        truth = json.loads((folder / f"panoptic_{split}.json").read_text())
        labels = {one["id"]: plain(one["name"]) for one in truth["categories"]}
        files = {one["id"]: one["file_name"] for one in truth["images"]}
        for entry in truth["annotations"]:
            rgb = np.asarray(Image.open(folder / f"panoptic_{split}" / entry["file_name"]).convert("RGB"))
            ids = rgb.astype(np.int64) @ np.array([1, 256, 65536])
            segments = [one for one in entry["segments_info"] if not one["iscrowd"]]
            numbers = np.zeros(ids.shape, np.int32)
            names = {}
            for number, one in enumerate(segments, 1):
                numbers[ids == one["id"]] = number
                names[number] = known[f"coco:{labels[one['category_id']]}"]
            stem = Path(files[entry["image_id"]]).stem
            image = Image.open(root / "images" / split / f"{stem}.jpg")
            yield make_named("coco", stem, held_back(stem), image, numbers, names)


def coco_open(root: Path, known: dict[str, int], seen: set[str]) -> Iterator[Named | None]:
    """COCO photographs with open licences that are not ``seen`` already."""
    folder = root / "general/coco_open"
    for entry in json.loads((folder / "index_dev.json").read_text()):
        stem = Path(entry["file"]).stem
        if stem in seen:
            continue
        ids = np.asarray(Image.open(folder / f"instances/{stem}.png")).astype(np.int32)
        names = {
            one["id"]: known[f"coco:{plain(one['category'])}"]
            for one in entry["segments"]
            if not one["iscrowd"]
        }
        image = Image.open(folder / f"images/{entry['file']}")
        yield make_named("coco", stem, held_back(stem), image, ids, names)


def garments(folder: Path, tags: dict[int, str], known: dict[str, int]) -> Iterator[Named | None]:
    """Clothing Co-Parsing as published (``photos``, ``annotations/pixel-level``): a region a garment."""
    from scipy.io import loadmat

    for path in sorted((folder / "annotations/pixel-level").glob("*.mat")):
        classes = np.asarray(loadmat(path)["groundtruth"]).astype(np.int32)
        names = {value: known[f"ccp:{tag}"] for value, tag in tags.items() if value}
        image = Image.open(folder / f"photos/{path.stem}.jpg")
        yield make_named("ccp", path.stem, held_back(path.stem), image, classes, names)


def streets(folder: Path, known: dict[str, int]) -> Iterator[Named | None]:
    """CamVid in SegNet's copy; its test sequences are held back."""
    for split in ("train", "val", "test"):
        for path in sorted((folder / split).glob("*.png"))[::EVERY]:
            classes = np.asarray(Image.open(folder / f"{split}annot" / path.name)).astype(np.int32)
            shown = np.where(classes < len(CAMVID), classes + 1, 0)
            ids, names = split_classes(
                shown, {number: known[f"camvid:{name}"] for number, name in enumerate(CAMVID, 1)}
            )
            yield make_named("camvid", path.stem, split == "test", Image.open(path), ids, names)


def split_classes(
    classes: NDArray[np.integer], labels: dict[int, int], cell: int = 0
) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Connected parts of classes, cut by a grid of ``cell`` pixels unless 0, and the concept of each."""
    if cell:
        rows, cols = (np.arange(side) // cell for side in classes.shape)
        place = rows[:, None] * (cols.max() + 1) + cols
        classes = np.where(classes > 0, classes + place * 100, 0)
    ids, _ = components(classes, LEAST)
    first = {
        int(value): int(at) for value, at in zip(*np.unique(ids, return_index=True), strict=True) if value
    }
    flat = classes.ravel()
    return ids, {value: labels[int(flat[at]) % 100] for value, at in first.items()}


def mumbai(folder: Path, known: dict[str, int]) -> Iterator[Named | None]:
    """Patches of Dabra & Kumar (2023), joined tiles; official test and validation patches held back."""
    for split in ("train", "val", "test"):
        tiles: dict[str, dict[int, Path]] = {}
        for path in (folder / split / "images").glob("*.tif"):
            patch, _, number = path.stem.rpartition("_")
            tiles.setdefault(patch, {})[int(number)] = path
        for patch, parts in sorted(tiles.items()):
            image = np.zeros((PATCH, PATCH, 3), np.uint8)
            colours = np.zeros((PATCH, PATCH, 3), np.uint8)
            for tile, path in parts.items():
                row, col = (STEP * int(part) for part in divmod(tile - 1, GRID))
                place = np.s_[row : row + TILE, col : col + TILE]
                image[place] = np.asarray(Image.open(path).convert("RGB"))
                mask = Image.open(folder / split / "masks" / f"{path.stem}.png")
                colours[place] = np.asarray(mask.convert("RGB"))
            classes = np.zeros((PATCH, PATCH), np.int32)
            for value, colour in enumerate(MUMBAI, 1):
                classes[(colours == colour).all(axis=2)] = value
            labels = {value: known[f"mumbai:{name}"] for value, name in enumerate(MUMBAI.values(), 1)}
            ids, names = split_classes(classes, labels, CELL)
            yield make_named("mumbai", patch, split != "train", Image.fromarray(image), ids, names)


def villages(root: Path, known: dict[str, int]) -> Iterator[Named | None]:
    """Beijing, in quarters of tiles; the validation tiles are held back."""
    import rasterio

    labels = {1: known["own:settlement"], 2: known["own:built"]}
    for split in ("train", "val"):
        for path in sorted((root / f"satellite/urban_villages/{split}").glob("*_image.tif")):
            with rasterio.open(path) as scene, rasterio.open(str(path).replace("_image", "_mask")) as mask:
                pixels, inside = scene.read((1, 2, 3)).transpose(1, 2, 0), mask.read(1)
            for row, col in ((0, 0), (0, 512), (512, 0), (512, 512)):
                view = np.s_[row : row + 512, col : col + 512]
                ids, names = split_classes(np.where(inside[view], 1, 2), labels, CELL)
                name = f"{path.stem}_{row}_{col}"
                yield make_named("beijing", name, split == "val", Image.fromarray(pixels[view]), ids, names)


def footprints(root: Path, known: dict[str, int]) -> Iterator[Named | None]:
    """Buildings of Kampala and Rio; the east of Kampala is held back."""
    records = list(buildings(root))
    columns = sorted({int(one.name.split("-")[1]) >> 2 for one in records if one.source == "fair_kampala"})
    east = columns[-max(1, len(columns) // 5) :]
    for one in records:
        held = one.source == "fair_kampala" and int(one.name.split("-")[1]) >> 2 in east
        names = {int(value): known["own:building"] for value in np.unique(one.ids) if value}
        yield make_named(one.source, one.name, held, Image.fromarray(one.image), one.ids, names)


def cats(root: Path, known: dict[str, int]) -> Iterator[Named | None]:
    """Cats outdoors."""
    for one in feral_cat(root):
        names = {int(value): known["own:cat"] for value in np.unique(one.ids) if value}
        yield make_named("feral_cat", one.name, one.held_back, Image.fromarray(one.image), one.ids, names)


@dataclass(frozen=True)
class Folders:
    """Where the sets are; those that are None are left out."""

    data: Path
    coco: Path | None = None
    ccp: Path | None = None
    camvid: Path | None = None
    mumbai: Path | None = None


def load(folders: Folders) -> list[Named]:
    """All pictures with named regions, in a stable order."""
    known = index_sources(read_concepts())
    found: list[Named | None] = []
    if folders.coco:
        found += coco_panoptic(folders.coco, known)
    found += coco_open(folders.data, known, {one.name for one in found if one})
    if folders.ccp:
        text = (folders.data / "general/ccp/classes.json").read_text()
        found += garments(folders.ccp, {int(key): tag for key, tag in json.loads(text).items()}, known)
    if folders.camvid:
        found += streets(folders.camvid, known)
    if folders.mumbai:
        found += mumbai(folders.mumbai, known)
    for source in (villages, footprints, cats):
        found += source(folders.data, known)
    return [one for one in found if one is not None]


def load_once(folders: Folders, work: Path) -> list[Named]:
    """All pictures, kept in the work folder between runs."""
    kept = work / "corpus.pkl"
    if kept.is_file():
        return list(pickle.loads(kept.read_bytes()))
    found = load(folders)
    work.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(found))
    return found
