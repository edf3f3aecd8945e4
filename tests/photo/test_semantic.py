"""Maps of words through the command, by the model that knows colours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import domainsam_photo.run_words
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.protocols import Word
from domainsam.vocabulary.fake import FakeNamer
from domainsam.vocabulary.refine import find_middles, refine_scores
from domainsam_photo.read.pictures import read_numbers, read_picture
from domainsam_photo.semantic import choose_words, map_words
from domainsam_photo.write.masks import encode_map

Run = Callable[..., int]
WORDS = ("--words", "red", "--words", "blue", "--vocabulary-model", "fake", "--device", "cpu")


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A picture of 60 x 90: left red, right blue, a yellow stripe below."""
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[:, :45], picture[:, 45:], picture[48:] = (230, 26, 26), (26, 26, 230), (230, 230, 26)
    Image.fromarray(picture).save(tmp_path / "halves.png")
    return tmp_path / "halves.png"


def test_a_map_says_which_word_every_place_shows(photo: Run, halves: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps" / "map.png"
    assert photo("semantic", halves, *WORDS, "-o", out) == 0
    with Image.open(out) as image:
        assert image.mode == "P"
    numbers = read_numbers(out)
    assert numbers.shape == (60, 90)
    assert (numbers[:40, :40] == 1).all()
    assert (numbers[:40, 50:] == 2).all()
    assert (numbers[54:] == 0).all(), "yellow is neither"
    told = json.loads(out.with_suffix(".json").read_text())
    assert [one["word"] for one in told["words"]] == ["red", "blue"]
    assert told["words"][0]["share"] == pytest.approx((numbers == 1).mean(), abs=1e-6)
    assert told["none_fits"] + sum(one["share"] for one in told["words"]) == pytest.approx(1, abs=1e-5)
    assert told["understood"] == {
        "red": {"known": "red", "nearness": 1.0},
        "blue": {"known": "blue", "nearness": 1.0},
    }
    overlay = read_picture(out.with_name("map_overlay.jpg"))
    assert overlay.shape[0] > 60, "the legend is below"
    assert photo("semantic", halves, *WORDS, "-o", out) == 4, "outputs are not replaced unless asked"


def test_several_pictures_go_into_a_folder(photo: Run, halves: Path, tmp_path: Path) -> None:
    other = halves.with_name("other.jpg")
    Image.new("RGB", (40, 30), (26, 26, 230)).save(other)
    assert photo("semantic", halves, other, *WORDS, "-o", tmp_path / "m", "--no-overlay") == 0
    assert (read_numbers(tmp_path / "m/other.png") == 2).all()
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "halves.json",
        "halves.png",
        "other.json",
        "other.png",
    ]
    assert photo("semantic", halves, other, *WORDS, "-o", tmp_path / "m", "--no-overlay", "--resume") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "x.png"), "no words are given"),
        (("--words", " , ", "-o", "x.png"), "is empty"),
        (("--words", "red", "-o", "x.tif"), "must end in .png"),
        (("--words", "sofa", "-o", "x.png", "--vocabulary-model", "fake"), "no colour"),
        (("--words", "red", "-o", "x.png", "--vocabulary-model", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(
    photo: Run, halves: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert photo("semantic", halves, *words) != 0
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told
    assert "Traceback" not in told


def test_one_file_for_two_pictures_is_refused(halves: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give a folder"):
        domainsam_photo.run_words.run_semantic([halves, _copy(halves)], tmp_path / "x.png", words="red")


def _copy(path: Path) -> Path:
    other = path.with_name("copy.png")
    other.write_bytes(path.read_bytes())
    return other


def test_more_words_than_a_palette_has_are_kept_apart(tmp_path: Path) -> None:
    numbers = np.full((4, 5), 300, np.uint16)
    (tmp_path / "m.png").write_bytes(encode_map(numbers, 300))
    with Image.open(tmp_path / "m.png") as image:
        assert (np.asarray(image) == 300).all()


def test_the_best_word_is_chosen_at_the_size_of_the_picture() -> None:
    scores = np.zeros((3, 2, 2), np.float32)
    scores[0, :, 0], scores[2, :, 1] = 0.9, 0.8
    numbers, top = choose_words(scores, (8, 8))
    assert (numbers[:, :4] == 1).all()
    assert (numbers[:, 4:] == 3).all()
    assert top[0, 0] == pytest.approx(0.9)
    nothing, low = choose_words(np.full((2, 3, 3), 0.1, np.float32), (9, 9))
    assert not nothing.any()
    assert not low.any()


def test_a_map_of_any_shape_covers_the_picture() -> None:
    picture = np.full((33, 700, 3), (26, 26, 230), np.uint8)
    numbers, _ = map_words(picture, FakeNamer(), [Word("red"), Word("blue")])
    assert numbers.shape == (33, 700)
    assert (numbers == 2).all()


def test_refinement_averages_the_map_with_the_foundations_masks() -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    scores = np.zeros((2, 16, 24), np.float32)
    scores[0, 4:12, 4:12] = 0.9
    fine = refine_scores(scores, picture, load_foundation("fake"))
    assert fine.shape[0] == 2
    assert fine.sum(axis=0).max() <= 1 + 1e-6
    assert fine[1].max() == 0, "a word that is nowhere sure is not asked for"
    assert fine[0].max() > 0.45
    unsure = np.full((1, 8, 8), 0.2, np.float32)
    assert refine_scores(unsure, picture, load_foundation("fake")) == pytest.approx(0.2, abs=1e-6)


def test_middles_lie_deep_inside_the_largest_parts() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:9, 2:9] = mask[12:15, 20:23] = mask[0, 29] = True
    assert find_middles(mask, 2) == [(5, 5), (13, 21)]
