"""Pictures and films through the commands: what is written, what is told, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import domainsam
from domainsam.prompter.everything import EverythingOptions
from domainsam_photo.everything import OF_PHOTOGRAPHS, suit_limits
from domainsam_photo.generated import RED, draw_film, draw_ground, encode_picture, place_ball
from domainsam_photo.read.pictures import read_numbers, read_picture

Run = Callable[..., int]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 96 x 128 with a ball, its mask, marks, and a film of three pictures."""
    folder = tmp_path_factory.mktemp("photo")
    picture = draw_ground(1, (96, 128))
    mask = place_ball(picture, 40, 50, RED, 20)
    (folder / "a.png").write_bytes(encode_picture(picture))
    (folder / "a_mask.png").write_bytes(encode_picture(mask))
    (folder / "points.json").write_text(json.dumps({"objects": [{"points": [[50, 40]], "label": "ball"}]}))
    (folder / "boxes.json").write_text(json.dumps({"objects": [{"box": [30, 20, 70, 60], "label": "ball"}]}))
    (folder / "photos").mkdir()
    for number in (1, 2):
        other = draw_ground(number, (96, 128))
        place_ball(other, 30 + 20 * number, 60, RED, 20)
        Image.fromarray(other).save(folder / "photos" / f"p{number}.jpg", quality=95)
    (folder / "film").mkdir()
    pictures, masks = draw_film(3, 3)
    for number, one in enumerate(pictures):
        (folder / "film" / f"{number:03d}.png").write_bytes(encode_picture(one))
    (folder / "film_mask.png").write_bytes(encode_picture(masks[0]))
    return folder


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_marks_become_masks_runs_and_an_overlay(photo: Run, sample: Path, tmp_path: Path, kind: str) -> None:
    words = (
        "segment",
        sample / "a.png",
        f"--{kind}",
        sample / f"{kind}.json",
        "-o",
        tmp_path,
        "--device",
        "cpu",
    )
    assert photo(*words) == 0
    truth = read_numbers(sample / "a_mask.png") > 0
    mask = read_numbers(tmp_path / "a.png") == 1
    assert mask[40, 50]
    assert iou(mask, truth) > (0.8 if kind == "boxes" else 0.15), "a click alone may mean a part"
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert coco["images"] == [{"id": 1, "file_name": "a.png", "width": 128, "height": 96}]
    assert coco["categories"] == [{"id": 1, "name": "ball"}]
    one = coco["annotations"][0]
    assert one["area"] == mask.sum()
    counts = one["segmentation"]["counts"]
    runs = np.repeat(np.arange(len(counts)) % 2, counts).reshape(mask.shape, order="F")
    assert np.array_equal(runs == 1, mask)
    assert read_picture(tmp_path / "a_overlay.jpg").shape == (96, 128, 3)
    assert photo(*words) == 4, "outputs are not replaced unless asked"


def test_an_opened_picture_is_found_in_and_saved(sample: Path, tmp_path: Path) -> None:
    with domainsam.open(sample / "a.png", pack="photo") as opened:
        result = opened.find(boxes=[(30, 20, 70, 60)], device="cpu").save(tmp_path / "out")
    assert result.count == 1
    assert iou(read_numbers(result.paths["masks"]) > 0, read_numbers(sample / "a_mask.png") > 0) > 0.8


def test_a_second_picture_joins_the_first_in_the_annotations(
    photo: Run, sample: Path, tmp_path: Path
) -> None:
    for name in ("photos/p2.jpg", "a.png"):
        words = ("segment", sample / name, "--points", sample / "points.json", "-o", tmp_path)
        assert photo(*words, "--foundation", "fake", "--device", "cpu", "-q") == 0
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert [one["file_name"] for one in coco["images"]] == ["a.png", "p2.jpg"]
    assert {one["image_id"] for one in coco["annotations"]} == {1, 2}
    # Another's file of that name is replaced, and a picture whose own file is gone is left out.
    (tmp_path / "p2.json").unlink()
    assert photo(*words, "--foundation", "fake", "--device", "cpu", "-q", "-f") == 0
    assert [
        one["file_name"] for one in json.loads((tmp_path / "annotations.json").read_text())["images"]
    ] == ["a.png"]


def test_a_killed_search_resumes_to_the_same_bytes(photo: Run, sample: Path, tmp_path: Path) -> None:
    like = f"{sample / 'a.png'}:{sample / 'a_mask.png'}"
    machine = ("--foundation", "fake", "--device", "cpu", "-q", "--reproducible")
    words = ("find", sample / "photos", "--like", like, "--most", 1, "--always", *machine)
    assert photo(*words, "-o", tmp_path / "whole") == 0
    assert read_numbers(tmp_path / "whole" / "p1.png").any()
    assert photo(*words, "-o", tmp_path / "broken") == 0
    for path in (tmp_path / "broken").glob("p2*"):
        path.unlink()
    (tmp_path / "broken" / "annotations.json").unlink()
    assert photo(*words, "-o", tmp_path / "broken", "--resume") == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "broken").iterdir()} == whole


@pytest.mark.slow
def test_a_ball_is_found_by_example(photo: Run, sample: Path, tmp_path: Path) -> None:
    like = f"{sample / 'a.png'}:{sample / 'a_mask.png'}"
    assert photo("find", sample / "photos", "--like", like, "--most", 1, "-q", "-o", tmp_path) == 0
    for number in (1, 2):
        truth = place_ball(draw_ground(number, (96, 128)), 30 + 20 * number, 60, RED, 20)
        assert iou(read_numbers(tmp_path / f"p{number}.png") == 1, truth) > 0.5, f"picture {number}"


@pytest.mark.slow
def test_a_ball_is_followed_through_a_folder(photo: Run, sample: Path, tmp_path: Path) -> None:
    words = ("track", sample / "film", "--mask", sample / "film_mask.png", "--device", "cpu", "-q")
    assert photo(*words, "-o", tmp_path) == 0
    for number, truth in enumerate(draw_film(3, 3)[1]):
        assert iou(read_numbers(tmp_path / f"{number:05d}.png") == 1, truth) > 0.7, f"picture {number}"
    told = json.loads((tmp_path / "track.json").read_text())
    assert told["objects"] == [{"number": 1, "label": "object", "seen_in": 3}]


@pytest.mark.slow
def test_everything_finds_the_ball(photo: Run, sample: Path, tmp_path: Path) -> None:
    words = (
        "segment-everything",
        sample / "a.png",
        "--per-side",
        6,
        "--least-iou",
        0.1,
        "--least-stability",
        0.4,
    )
    assert photo(*words, "-o", tmp_path, "--device", "cpu", "-q") == 0
    document = json.loads((tmp_path / "a.json").read_text())
    truth = read_numbers(sample / "a_mask.png") > 0
    found = []
    for one in document["objects"]:
        counts = one["segmentation"]["counts"]
        mask = np.repeat(np.arange(len(counts)) % 2, counts).reshape(truth.shape, order="F") == 1
        found.append(iou(mask, truth))
    assert max(found) > 0.7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("segment", "{}/a.png", "-o", "{out}"), "nothing says what to segment; give --points or --boxes"),
        (("segment", "{}/none.png", "--points", "{}/points.json", "-o", "{out}"), "no such file"),
        (("segment", "{}/far.png", "--points", "{}/far.json", "-o", "{out}"), "no such file"),
        (("segment", "{}/a.png", "--points", "{}/far.json", "-o", "{out}"), "outside"),
        (("find", "{}/photos", "--like", "a.png", "-o", "{out}"), "expected PICTURE:MASK"),
        (
            ("find", "{}/photos", "--like", "{}/a.png:{}/small.png", "-o", "{out}"),
            "small.png: is 64 x 48 pixels; its picture is 128 x 96",
        ),
        (("find", "{}/photos", "--like", "{}/a.png:{}/empty.png", "-o", "{out}"), "marks nothing"),
        (
            ("find", "{}/photos", "--like", "{}/a.png:{}/full.png", "-o", "{out}"),
            "covers everything around it",
        ),
        (
            ("find", "{}/photos", "--like", "{}/a.png:{}/a_mask.png", "--parity", "-o", "{out}"),
            "needs SAM's decoder",
        ),
        (("find", "{}/bare", "--like", "{}/a.png:{}/a_mask.png", "-o", "{out}"), "holds no picture"),
        (("track", "{}/film", "-o", "{out}"), "nothing says what to follow"),
        (
            ("track", "{}/film", "--points", "{}/late.json", "-o", "{out}"),
            "lies in frame 9; the scene has",
        ),
        (
            ("track", "{}/film", "--mask", "{}/film_mask.png", "--tracker", "raft", "-o", "{out}"),
            "raft_small: --tracker-weights",
        ),
        (
            ("track", "{}/film", "--mask", "{}/film_mask.png", "--tracker", "pips", "-o", "{out}"),
            "(model-*.pth): --tracker-weights",
        ),
        (
            ("track", "{}/film", "--mask", "{}/film_mask.png", "--tracker", "sam2", "-o", "{out}"),
            "official SAM 2",
        ),
        (("track", "{}/a.txt", "--mask", "{}/film_mask.png", "-o", "{out}"), "no film by its ending"),
        (("track", "{}/mixed", "--mask", "{}/small.png", "-o", "{out}"), "expected pictures of one size"),
        (("evaluate", "{}/film", "--layout", "davis"), "no such folder"),
        (("evaluate", "{}/film", "--layout", "davis", "--method", "boxes"), "layout davis takes the methods"),
    ],
)
def test_what_cannot_be_is_one_line(
    photo: Run,
    sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    make_bad(sample)
    out = tmp_path / "out"
    filled = [word.replace("{}", str(sample)).replace("{out}", str(out)) for word in words]
    assert photo(*filled, "--foundation", "fake") in (2, 3)
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert not out.exists(), "nothing is half written"


def make_bad(folder: Path) -> None:
    """Files that do not fit, beside the sound ones."""
    (folder / "far.json").write_text(json.dumps({"objects": [{"points": [[500, 40]]}]}))
    (folder / "late.json").write_text(json.dumps({"objects": [{"points": [[50, 40]], "slice": 9}]}))
    (folder / "a.txt").write_text("no film")
    for name, shape, value in (("small", (48, 64), 1), ("empty", (96, 128), 0), ("full", (96, 128), 1)):
        (folder / f"{name}.png").write_bytes(encode_picture(np.full(shape, value, bool)))
    (folder / "bare").mkdir(exist_ok=True)
    (folder / "mixed").mkdir(exist_ok=True)
    for number, shape in enumerate(((48, 64), (48, 60))):
        (folder / "mixed" / f"{number}.png").write_bytes(encode_picture(draw_ground(0, shape)))


@pytest.mark.slow
def test_the_demo_shows_the_way(photo: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from domainsam_photo.commands import demo

    before, demo.FRAMES = demo.FRAMES, 2
    try:
        assert photo("demo", "-o", tmp_path / "d") == 0
    finally:
        demo.FRAMES = before
    printed = capsys.readouterr().out
    assert "generated" in printed
    assert "domainsam photo find" in printed
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["followed", "found", "sample"]


def test_photographs_have_limits_of_their_own_where_none_are_given() -> None:
    mine = suit_limits(EverythingOptions(least_iou=0.9), "embedded_lite")
    assert (mine.least_iou, mine.least_stability) == (0.9, OF_PHOTOGRAPHS["embedded_lite"][1])
    assert suit_limits(EverythingOptions(), "fake") == EverythingOptions()
