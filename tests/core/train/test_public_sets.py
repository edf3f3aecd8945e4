"""Public sets of pictures as the embedded foundation's recipe reads them, on small trees of their layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import io

from recipes.embedded.public import load_public


def write_coco(root: Path) -> None:
    folder = root / "coco128_yolo"
    labels = folder / "panoptic_segmentation/annotations"
    for split in ("train2017", "val2017"):
        (folder / "images" / split).mkdir(parents=True)
        (labels / f"panoptic_{split}").mkdir(parents=True)
        (labels / f"panoptic_{split}.json").write_text(json.dumps({"annotations": []}))
    # Segment 70000 is 112 + 17 * 256 + 1 * 65536 in colours.
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, :20], colours[:, 20:40], colours[:, 40:] = (112, 17, 1), (7, 0, 0), (9, 0, 0)
    segments = [{"id": 70000, "iscrowd": 0}, {"id": 7, "iscrowd": 1}, {"id": 9, "iscrowd": 0}]
    entry = {"file_name": "000000000009.png", "segments_info": segments}
    (labels / "panoptic_train2017.json").write_text(json.dumps({"annotations": [entry]}))
    Image.fromarray(colours).save(labels / "panoptic_train2017/000000000009.png")
    Image.new("RGB", (60, 40), (10, 20, 30)).save(folder / "images/train2017/000000000009.jpg")


def write_regions(root: Path) -> None:
    data = root / "BSDS500/BSDS500/data"
    (data / "images/train").mkdir(parents=True)
    (data / "groundTruth/train").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(data / "images/train/8049.jpg")
    halves = np.repeat(np.array([[1, 2]], np.uint16), 30, axis=1).repeat(40, axis=0)
    quarters = halves + 2 * (np.arange(40) >= 20)[:, None].astype(np.uint16)
    cells = np.empty((1, 2), object)
    for index, ids in enumerate((quarters, halves)):
        cell = np.empty((1, 1), [("Segmentation", object)])
        cell[0, 0]["Segmentation"] = ids
        cells[0, index] = cell
    io.savemat(data / "groundTruth/train/8049.mat", {"groundTruth": cells})


def test_segments_and_regions_are_objects(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_regions(tmp_path)
    photo, coarse, fine = load_public(tmp_path, [])
    assert (photo.source, photo.name) == ("coco_open", "000000000009")
    # The crowd in the middle is no object.
    assert photo.ids[20, [5, 30, 50]].tolist() == [1, 0, 3]
    assert [len(np.unique(one.ids)) for one in (coarse, fine)] == [2, 4]
    assert coarse.held_back == fine.held_back


def test_what_is_known_is_left_out(tmp_path: Path) -> None:
    write_coco(tmp_path)
    known = load_public(tmp_path, [])
    assert len(known) == 1
    assert load_public(tmp_path, known) == []
