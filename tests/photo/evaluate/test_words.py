"""Scores of models of words on published layouts, compared with independent computations."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam_photo.evaluate.naming import read_maps, read_named
from domainsam_photo.evaluate.sentences import decode_segmentation, read_sentences
from domainsam_photo.evaluate.word_scores import count_confusion, mean_iou, score_answer
from domainsam_photo.evaluate.word_work import WordOptions
from domainsam_photo.evaluate.words import evaluate_words
from domainsam_photo.read.pictures import read_picture

Run = Callable[..., int]
COLOURS = {"red": (230, 26, 26), "green": (26, 179, 26), "blue": (26, 26, 230)}


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def runs(mask: np.ndarray) -> dict[str, Any]:
    from domainsam_photo.write.masks import encode_runs

    return encode_runs(mask)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two pictures with three squares each: names are right but for one, and one class is no colour."""
    names = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}, {"id": 9, "name": "sofa_(seat)"}]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in (1, 2):
        picture = np.full((60, 90, 3), 128, np.uint8)
        for place, (colour, category) in enumerate(
            (("red", 3), ("blue", 7), ("red", 9 if number == 1 else 7))
        ):
            rows, cols = slice(10, 30), slice(5 + 28 * place, 25 + 28 * place)
            picture[rows, cols] = COLOURS[colour]
            mask = np.zeros((60, 90), bool)
            mask[rows, cols] = True
            left = 5 + 28 * place
            polygon = [[left, 10, left + 20, 10, left + 20, 30, left, 30]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [left, 10, 20, 20],
                    "iscrowd": 0,
                    "segmentation": polygon if place else runs(mask),
                }
            )
        save(tmp_path / f"val/{number:012d}.png", picture)
        images.append({"id": number, "file_name": f"{number:012d}.png", "height": 60, "width": 90})
    annotations.append({**annotations[0], "id": 99, "iscrowd": 1, "category_id": 9})
    document = {"images": images, "annotations": annotations, "categories": names}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(document))
    return tmp_path


@pytest.mark.parametrize("boxes", [False, True])
def test_names_of_true_objects_are_counted(coco: Path, boxes: bool) -> None:
    result = evaluate_words(coco, WordOptions("coco", "fake", boxes=boxes, device="cpu"))
    # Six objects: 2 of 2 red right, 2 of 3 blue, 0 of 1 sofa, which the model does not know.
    assert result.interval("accuracy").value == pytest.approx(4 / 6)
    assert result.interval("class mean").value == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert list(result.left_out) == ["sofa"]
    assert [unit.row for unit in result.units] == [{"objects": 3, "right": 2}] * 2


def test_lvis_tells_frequent_classes_from_rare_ones(coco: Path) -> None:
    path = coco / "annotations/instances_val.json"
    told = json.loads(path.read_text())
    for one, kind in zip(told["categories"], "frc", strict=True):
        one["frequency"] = kind
    for one in told["images"]:
        one["coco_url"] = f"http://images.cocodataset.org/val/{one.pop('file_name')}"
    path.rename(coco / "annotations/old.txt")
    (coco / "annotations/lvis_v1_val.json").write_text(json.dumps(told))
    result = evaluate_words(coco, WordOptions("lvis", "fake", device="cpu"))
    values = {name: result.interval(name).value for name in result.measures}
    assert values["frequent class mean"] == 1
    assert values["rare class mean"] == pytest.approx(2 / 3)
    assert values["common class mean"] == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_segmentations_are_decoded_as_pycocotools_does(coco: Path) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    from pycocotools.coco import COCO

    api = COCO(str(coco / "annotations/instances_val.json"))
    for one in api.dataset["annotations"]:
        assert np.array_equal(
            decode_segmentation(one["segmentation"], (60, 90)), api.annToMask(one).astype(bool)
        )
    packed = mask.encode(np.asfortranarray(np.eye(6, 4, dtype=np.uint8)))
    assert np.array_equal(decode_segmentation(packed, (6, 4)), np.eye(6, 4, dtype=bool))
    with pytest.raises(InputError, match="run lengths sum"):
        decode_segmentation({"size": [2, 2], "counts": [1, 9]}, (2, 2))


@pytest.mark.slow
def test_mean_iou_is_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.classification")
    rng = np.random.default_rng(0)
    truth, answer = rng.integers(0, 5, (2, 40, 50))
    answer = np.where(rng.random(truth.shape) < 0.6, truth, answer)
    truth[:5] = -1
    matrix = count_confusion(truth, answer, 6)
    theirs = metrics.MulticlassJaccardIndex(6, average=None, ignore_index=-1)
    values = theirs(torch.from_numpy(answer), torch.from_numpy(truth)).numpy()
    # The sixth class occurs nowhere, and counts for nothing.
    assert mean_iou(6)(matrix.ravel()[None])[0] == pytest.approx(values[:5].mean(), abs=1e-6)


def test_none_of_the_words_is_an_error_and_no_class() -> None:
    truth = np.array([[0, 0, 1, 1]])
    matrix = count_confusion(truth, np.array([[0, 2, 1, 1]]), 2)
    assert matrix.tolist() == [[1, 0, 1], [0, 2, 0]]
    assert mean_iou(2)(matrix.ravel()[None])[0] == pytest.approx((1 / 2 + 1) / 2)


def make_map(truth: np.ndarray) -> np.ndarray:
    picture = np.zeros((*truth.shape, 3), np.uint8)
    for number, colour in enumerate(COLOURS.values()):
        picture[truth == number] = colour
    return picture


@pytest.fixture
def truth() -> np.ndarray:
    """Three fields and an unknown stripe."""
    classes = np.zeros((64, 96), np.uint8)
    classes[:, 32:64], classes[32:, 64:] = 1, 2
    return classes


def score_maps(root: Path, layout: str, **more: Any) -> dict[str, float]:
    result = evaluate_words(root, WordOptions(layout, "fake", device="cpu", **more))
    return {name: result.interval(name).value for name in result.measures}


def test_ade20k(tmp_path: Path, truth: np.ndarray) -> None:
    save(tmp_path / "images/validation/a.png", make_map(truth))
    labels = truth + 1
    labels[:4] = 0
    save(tmp_path / "annotations/validation/a.png", labels)
    head = "Idx\tRatio\tTrain\tVal\tName\n"
    rows = "".join(f"{n}\t0.1\t1\t1\t{name}, other\n" for n, name in enumerate(COLOURS, 1))
    (tmp_path / "objectInfo150.txt").write_text(head + rows)
    assert read_maps(tmp_path, "ade20k").names == tuple(COLOURS)
    values = score_maps(tmp_path, "ade20k")
    assert values["mIoU"] > 0.8
    assert values["pixel accuracy"] > 0.85


@pytest.mark.parametrize("context", [False, True])
def test_voc_and_context(tmp_path: Path, truth: np.ndarray, context: bool) -> None:
    kind, masks = (
        ("SegmentationContext", "SegmentationClassContext")
        if context
        else ("Segmentation", "SegmentationClass")
    )
    save(tmp_path / "JPEGImages/a.jpg", make_map(truth))
    labels = truth + 1 if context else truth
    labels = labels.copy()
    labels[:4] = 255
    save(tmp_path / masks / "a.png", labels)
    (tmp_path / "ImageSets" / kind).mkdir(parents=True)
    (tmp_path / "ImageSets" / kind / "val.txt").write_text("a\n")
    if context:
        (tmp_path / "labels.txt").write_text("0: background\n1: red\n2: green\n3: blue\n")
        assert score_maps(tmp_path, "pascal-context")["mIoU"] > 0.8
    else:
        assert read_maps(tmp_path, "voc").names[0] == "background"
        with pytest.raises(ConfigError, match="understands none"):
            score_maps(tmp_path, "voc")


def test_what_fits_no_word_is_background_where_a_set_has_one(tmp_path: Path, truth: np.ndarray) -> None:
    picture = make_map(truth)
    picture[truth == 2] = (128, 128, 128)
    save(tmp_path / "images/a.png", picture)
    save(tmp_path / "labels/a.png", truth)
    (tmp_path / "classes.txt").write_text("red\ngreen\nbackground\n")
    result = evaluate_words(tmp_path, WordOptions("semantic", "fake", device="cpu"))
    assert result.interval("mIoU").value > 0.75
    assert list(result.left_out) == ["background"]


@pytest.fixture
def refcoco(tmp_path: Path) -> Path:
    """Two pictures with an object each, two sentences of the first and one of the second."""
    mask = np.zeros((40, 50), bool)
    mask[10:30, 10:30] = True
    refs, annotations, images = [], [], []
    for number in (1, 2):
        save(tmp_path / f"images/{number}.jpg", np.zeros((40, 50, 3), np.uint8))
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 40, "width": 50})
        annotations.append({"id": number, "image_id": number, "segmentation": runs(mask)})
        sentences = [{"sent_id": 10 * number + k, "sent": f"square {k}"} for k in range(3 - number)]
        refs.append({"image_id": number, "ann_id": number, "split": "val", "sentences": sentences})
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs))
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return tmp_path


def test_answers_to_sentences(
    photo: Run, refcoco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "answers"
    truth = np.zeros((40, 50), bool)
    truth[10:30, 10:30] = True
    given = {"10": truth.copy(), "11": np.roll(truth, 10, axis=1)}
    for key, mask in given.items():
        save(answers / f"{key}.png", mask.astype(np.uint8) * 255)
    assert (
        photo(
            "evaluate",
            refcoco,
            "--layout",
            "refcoco",
            "--split",
            "val",
            "--answers",
            answers,
            "--csv",
            tmp_path / "s.csv",
            "--json",
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)["means"]
    # By hand: IoU 1, 200 / 600, and 0 for the sentence without an answer.
    shared, either = 400 + 200 + 0, 400 + 600 + 400
    assert told["cIoU"]["value"] == pytest.approx(shared / either, abs=1e-4)
    assert told["gIoU"]["value"] == pytest.approx((1 + 1 / 3 + 0) / 3, abs=1e-4)
    assert told["Pr@0.5"]["value"] == pytest.approx(1 / 3, abs=1e-4)
    with (tmp_path / "s.csv").open() as file:
        assert [row["sentences"] for row in csv.DictReader(file)] == ["2.0", "1.0"]


def test_a_function_may_answer(refcoco: Path) -> None:
    asked = []

    def refer(picture: np.ndarray, sentence: Any) -> np.ndarray:
        asked.append(sentence.text)
        return decode_segmentation(sentence.segmentation, sentence.size)

    result = evaluate_words(refcoco, WordOptions("refcoco"), refer=refer)
    assert result.interval("cIoU").value == 1
    assert asked == ["square 0", "square 1", "square 0"]


def test_nothing_meant_and_nothing_found_is_right() -> None:
    empty = np.zeros((3, 3), bool)
    assert score_answer(empty, empty).tolist() == [0, 0, 1, 1, 1]
    assert score_answer(empty, ~empty).tolist() == [0, 9, 0, 0, 1]


class Harmful:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_a_list_that_would_run_something_is_refused(
    refcoco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (refcoco / "refs(unc).p").write_bytes(pickle.dumps([Harmful()]))
    with pytest.raises(InputError, match="plain values"):
        read_sentences(refcoco)
    assert capsys.readouterr().out == ""


def test_what_is_missing_is_told(coco: Path, tmp_path: Path) -> None:
    save(tmp_path / "images/validation/a.png", np.zeros((8, 8, 3), np.uint8))
    save(tmp_path / "annotations/validation/a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(MissingInputError, match="objectInfo150"):
        read_maps(tmp_path, "ade20k")
    next((coco / "val").glob("*.png")).unlink()
    with pytest.raises(MissingInputError, match="has no picture"):
        read_named(coco, "coco")
    (coco / "annotations/instances_val.json").write_text("[1]")
    with pytest.raises(InputError, match="COCO"):
        read_named(coco, "coco")


def test_options_of_the_other_kind_are_refused(
    photo: Run, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert photo("evaluate", coco, "--layout", "coco", "--method", "boxes") != 0
    assert "--method is of no use" in capsys.readouterr().err
    assert photo("evaluate", coco, "--layout", "perseg", "--vocabulary-model", "fake") != 0
    assert "--vocabulary-model is of no use" in capsys.readouterr().err
    assert photo("evaluate", coco, "--layout", "refcoco") != 0


def test_the_table_of_the_command(photo: Run, coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert photo("evaluate", coco, "--layout", "coco", "--vocabulary-model", "fake", "--device", "cpu") == 0
    told = capsys.readouterr().out
    assert "names of true objects with fake: 2 pictures" in told
    assert "1 classes not understood, counted as wrong: sofa" in told
    assert read_picture(coco / f"val/{1:012d}.png").shape == (60, 90, 3)
