"""What an answer means, what words may be asked for, what templates may say, and which points are asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domainsam.errors import CheckpointError, ConfigError, InputError, MissingInputError
from domainsam.prompter.language.answers import Answer, Said, understand
from domainsam.prompter.language.codecs import CODECS
from domainsam.prompter.language.patterns import make_points
from domainsam.prompter.language.source import filter_points, points_in
from domainsam.prompter.language.speakers import AskOptions
from domainsam.prompter.language.wording import OWN, Wording, check_phrase, load_wording
from domainsam.prompter.language.words import find_word_tokens
from domainsam.testing.oracle import make_tokenizer

CODEC = CODECS["thousandths"]


def mean(text: str, finished: bool = True) -> Answer:
    return understand(Said(text, 0.5, finished), CODEC, (100, 100), "No object found.")


@pytest.mark.parametrize(
    "text",
    [
        "No object found.",
        "no object found",
        "None",
        "There are no swimming pools in the picture.",
        "The spleen is not visible here.",
        "[]",
        "I cannot see any.",
    ],
)
def test_nothing_is_an_answer(text: str) -> None:
    assert mean(text).kind == "nothing"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The pools lie in the upper left, near a house.", "prose"),
        ("", "empty"),
        ("[10,20,3000,40]", "outside the picture"),
        ("[500,20,30,40]", "is empty"),
        ("(100,100,0)", "beside the object"),
        (" ".join(f"[0,0,{n},{n}]" for n in range(1, 400)), "names 399 places"),
    ],
)
def test_what_is_no_answer_says_why(text: str, why: str) -> None:
    answer = mean(text)
    assert answer.kind == "unanswered"
    assert why in answer.why
    assert answer.places == ()


def test_an_answer_without_an_end_is_none() -> None:
    assert mean("[1,2,300,400][1,2,300,", finished=False).kind == "unanswered"
    assert mean("[1,2,300,400]").kind == "found"


def test_prose_around_places_and_repeated_places() -> None:
    answer = mean("Sure! There is one pool at [100,200,300,400], that is [100,200,300,400].")
    assert answer.places == (((0.1, 0.2, 0.3, 0.4), ()),)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("", "expected what to look for"),
        (" \n", "expected what"),
        ("...", "expected what"),
        ("a" * 501, "501 letters"),
    ],
)
def test_words_that_say_nothing_are_refused(phrase: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        check_phrase(phrase)


@pytest.mark.parametrize("phrase", ["游泳池", "бассейн", "المسبح", "Dächer", "café 2"])
def test_other_scripts_pass(phrase: str) -> None:
    assert check_phrase(f"  {phrase} ") == phrase


def test_control_characters_are_refused() -> None:
    with pytest.raises(InputError, match="control characters"):
        check_phrase("a roof\x1b[31m")


def test_every_section_of_our_wording_is_whole() -> None:
    for kind in ("any", "paligemma", "florence2", "qwen3_vl"):
        wording = load_wording(kind)
        assert '"red roof"' in wording.ask_boxes("red roof", "", True) or kind in ("paligemma", "florence2")
    assert load_wording("paligemma").ask_boxes("cat", "", True) == "detect cat"
    assert load_wording("paligemma").points == ""
    assert OWN.read_text("utf-8").count("[any]") >= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[any", "is no TOML"),
        ('[other]\nbox = "find {phrase}"', "neither a section"),
        ('[any]\nppg = "find {phrase}"', "lacks 'box'"),
        ('[any]\nbox = "find it"', "lacks {phrase}"),
        ('[any]\nbox = "find {phrase} {where}"', "holds {where}"),
        ('[any]\nbox = "find {phrase"', "cannot be read"),
        ('[any]\nbox = "find {phrase}"\ncolour = "x"', "'colour' is no text"),
        ('[any]\nbox = "find {phrase}"\nyes = "No"', "two different words"),
        ('[any]\nbox = "find {phrase.__class__}"', "holds {phrase.__class__}"),
    ],
)
def test_templates_of_a_person_are_checked(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wording.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message.replace("{", r"\{").replace("[", r"\[")):
        load_wording("llava", path)


def test_a_template_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="--wording"):
        load_wording("llava", tmp_path / "none.toml")


def test_a_phrase_with_braces_stays_a_phrase() -> None:
    assert Wording("find {phrase}").ask_boxes("a {frame} b", "x", False) == "find a {frame} b"


def test_patterns_keep_their_distance() -> None:
    grid = np.array(make_points("grid", 25))
    assert grid.shape == (25, 2)
    assert sorted(set(grid[:, 0])) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    spread = np.array(make_points("spread", 15))
    assert len({tuple(point) for point in spread.tolist()}) == 15
    assert ((spread > 0.02) & (spread < 0.98)).all()
    apart = np.linalg.norm(spread[:, None] - spread[None], axis=2)[np.triu_indices(15, 1)]
    # Points thrown at random come as near as 0.02; a blue-noise pattern of 15 keeps 0.16 at least.
    assert apart.min() > 0.16
    assert make_points("spread", 5) == make_points("spread", 15)[:5]
    with pytest.raises(ConfigError, match="1 to 100"):
        make_points("spread", 101)


def test_points_lie_in_their_box_and_no_is_tested_first() -> None:
    options = AskOptions("m", mode="pqpp", points=4, pattern="grid")
    points = points_in((0.2, 0.4, 0.6, 0.8), options)
    assert points == [pytest.approx(one) for one in ((0.3, 0.5), (0.5, 0.5), (0.3, 0.7), (0.5, 0.7))]
    chances = np.array([[0.8, 0.1], [0.05, 0.95], [0.75, 0.2], [0.8, 0.91]])
    kept = filter_points(points, chances, options)
    assert [(round(x, 2), round(y, 2), on) for x, y, on in kept] == [
        (0.3, 0.5, True),
        (0.5, 0.5, False),
        (0.5, 0.7, False),
    ]
    assert filter_points(points, np.full((4, 2), 0.5), options) == ()


def test_words_of_one_token_are_verified() -> None:
    tokens = find_word_tokens(make_tokenizer(), ("Yes", "No"))
    assert tokens.row is not None
    assert len(set(tokens.row)) == 2
    # A tokenizer that merges words that follow each other would break the alignment with points.
    assert find_word_tokens(make_tokenizer(("Yes", "No", "NoNo")), ("Yes", "No")).row is None
    split = find_word_tokens(make_tokenizer(()), ("Yes", "No"))
    assert split.row is None
    # The space that both may begin with tells nothing.
    assert not set(split.first) & set(split.second)
    with pytest.raises(CheckpointError, match="cannot tell 'ja' from 'jein'"):
        find_word_tokens(make_tokenizer(()), ("ja", "jein"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mllm": " "}, "--mllm PATH"),
        ({"mode": "both"}, "ppg, pqpp"),
        ({"coordinates": "polar"}, "expected one of"),
        ({"yes": 1.2}, "0 to 1"),
        ({"max_tokens": 0}, "1 to 4096"),
        ({"points": 0}, "1 to 100"),
        ({"timeout": 0.0}, "more than 0"),
        ({"mllm": "http://localhost/v1#m", "adapter": Path("a")}, "--adapter"),
    ],
)
def test_impossible_options(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AskOptions(**{"mllm": "m", **given})  # type: ignore[arg-type]
