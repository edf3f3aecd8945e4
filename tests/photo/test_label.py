"""What is marked in a picture is named by words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import domainsam
from domainsam.errors import ConfigError
from domainsam.keywords import keyword_names
from domainsam.vocabulary.fake import FakeNamer
from domainsam_cli.options import job_options
from domainsam_photo.commands.label import label_command
from domainsam_photo.run_words import label_options, run_label

Run = Callable[..., int]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey, 120 x 160, with a red square on the left and a blue one on the right; boxes, masks and words."""
    folder = tmp_path_factory.mktemp("label")
    image = np.full((120, 160, 3), 128, np.uint8)
    numbers = np.zeros((120, 160), np.uint8)
    for number, (left, colour) in enumerate(((20, (230, 26, 26)), (100, (26, 26, 230))), 1):
        image[40:80, left : left + 40] = colour
        numbers[40:80, left : left + 40] = number
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(numbers).save(folder / "numbers.png")
    boxes = [{"box": [20, 40, 60, 80]}, {"box": [100, 40, 140, 80]}, {"box": [70, 0, 90, 30]}]
    (folder / "boxes.json").write_text(json.dumps({"objects": boxes}))
    (folder / "words.txt").write_text("red\nblue\n")
    return folder / "a.png"


class Outlining(FakeNamer):
    """Takes boxes as they are."""

    outlines_boxes = True


def test_masks_are_named_told_and_written(
    photo: Run, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("label", picture, "--masks", picture.parent / "numbers.png", "--foundation", "fake")
    model = ("--vocabulary", picture.parent / "words.txt", "--vocabulary-model", "fake")
    assert photo(*words, *model, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["word"] for one in told["objects"]][:2] == ["red", "blue"]
    assert told["objects"][0]["second"] == "blue"
    assert told["outputs"] == {}
    assert photo(*words, *model, "-o", tmp_path / "out") == 0
    assert "red" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "a.json").read_text())
    assert [one["label"] for one in document["objects"]][:2] == ["red", "blue"]
    assert (tmp_path / "out" / "a_overlay.jpg").is_file()
    assert photo(*words, *model, "-o", tmp_path / "out") == 4


@pytest.mark.slow
def test_boxes_are_outlined_by_the_foundation(picture: Path) -> None:
    told = run_label(
        picture, FakeNamer(), boxes=picture.parent / "boxes.json", words=["red", "blue"], device="cpu"
    )
    assert told.objects[0]["word"] == "red"


def test_masks_and_boxes_of_a_model_that_outlines(picture: Path) -> None:
    folder = picture.parent
    by_mask = run_label(
        picture, FakeNamer(), masks=folder / "numbers.png", words=["red", "blue"], device="cpu"
    )
    assert [one["word"] for one in by_mask.objects] == ["red", "blue"]
    assert by_mask.objects[0]["box"] == [20, 40, 60, 80]
    by_box = run_label(picture, Outlining(), boxes=folder / "boxes.json", words=["red", "blue"], device="cpu")
    assert [one["word"] for one in by_box.objects] == ["red", "blue", None]
    assert by_box.objects[0]["score"] > 0.9
    assert by_box.counts == {"words": {"blue": 1, "red": 1}, "none_fits": 1, "unanswered": 0}
    assert "none fits" in "\n".join(by_box.lines())
    strict = run_label(
        picture, Outlining(), boxes=folder / "boxes.json", words=["red"], least_score=0.999, device="cpu"
    )
    assert [one["word"] for one in strict.objects] == [None, None, None]


def test_an_opened_picture_is_found_in_by_words(picture: Path) -> None:
    with domainsam.open(picture, pack="photo") as opened:
        found = opened.find(words="red", vocabulary_model=FakeNamer(), proposals="map", foundation="fake")
        assert [one.label for one in found.objects] == ["red"]
        with pytest.raises(ConfigError, match="no option is named 'wrods'"):
            opened.find(words="red", wrods=1)


def test_what_cannot_be_named_is_one_line(
    photo: Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = ("--boxes", picture.parent / "boxes.json")
    fake = ("--vocabulary-model", "fake")
    for given, code, message in (
        ((*fake, "--words", "red"), 2, "nothing says what to name"),
        ((*boxes, *fake), 2, "no words are given"),
        ((*boxes, *fake, "--words", "wolf"), 2, "'wolf' is no colour"),
        ((*boxes, "--words", "red", "--vocabulary-model", "no_such"), 3, "no model of words or weight file"),
        ((*boxes, *fake, "--vocabulary", picture), 2, "is no text"),
    ):
        assert photo("label", picture, *given) == code
        told = capsys.readouterr().err.strip()
        assert message in told
        assert len(told.splitlines()) == 1


def test_keywords_and_defaults_are_those_of_the_command() -> None:
    given = {item.name for item in label_command.params if item.expose_value}
    assert given - {"picture", "as_json", "verbose"} == set(keyword_names(label_options)) - {"made_by"}
    chosen = label_command.make_context("label", ["a.png", "--words", "red"]).params
    del chosen["picture"]
    assert label_options(**job_options(chosen)) == label_options(words="red")
