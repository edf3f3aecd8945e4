"""``photo refer``: what a phrase means becomes a mask, and what a model says is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import domainsam
from domainsam.errors import ConfigError, EndpointError
from domainsam.keywords import keyword_names
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.keywords import ask_options
from domainsam.testing.oracle import OracleModel, make_oracle
from domainsam_photo.commands.refer import refer_command
from domainsam_photo.generated import RED, draw_ground, encode_picture, place_ball
from domainsam_photo.read.pictures import read_numbers
from domainsam_photo.run_words import refer_options

Run = Callable[..., int]
PHRASE = "the red ball"
ORACLE = ("--mllm", "oracle", "--foundation", "fake", "--device", "cpu")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    made = draw_ground(1, (96, 128))
    mask = place_ball(made, 40, 50, RED, 20)
    (tmp_path / "a.png").write_bytes(encode_picture(made))
    (tmp_path / "truth.png").write_bytes(encode_picture(mask))
    return tmp_path / "a.png"


@pytest.fixture
def oracle(picture: Path, monkeypatch: pytest.MonkeyPatch) -> OracleModel:
    """Answers in the place of a model that is loaded."""
    model, speaker = make_oracle()
    truth = read_numbers(picture.with_name("truth.png")) > 0
    model.show(np.array(Image.open(picture)), {PHRASE: [truth]})
    monkeypatch.setattr("domainsam_photo.refer.load_speaker", lambda *_: speaker)
    return model


@pytest.mark.parametrize("mode", ["ppg", "pqpp"])
def test_a_phrase_becomes_a_mask(
    photo: Run, picture: Path, oracle: OracleModel, tmp_path: Path, mode: str
) -> None:
    out = tmp_path / mode
    words = ("refer", picture, PHRASE, *ORACLE, "--mode", mode, "-o", out)
    assert photo(*words) == 0
    truth = read_numbers(picture.with_name("truth.png")) > 0
    found = read_numbers(out / "a.png") > 0
    # The stand-in of a foundation sees 64 pixels of 128, and draws clicks as it is told.
    assert (found & truth).sum() / (found | truth).sum() > (0.4 if mode == "ppg" else 0.6)
    told = json.loads((out / "a.json").read_text())
    assert told["objects"][0]["label"] == PHRASE
    assert told["asked"] == {
        "words": PHRASE,
        "model": "oracle",
        "mode": mode,
        "windows": 1,
        "nothing": 0,
        "unanswered": 0,
        "unanswered_first": [],
    }
    assert (out / "a_overlay.jpg").is_file()
    assert not list(out.glob(".*"))


def test_nothing_of_the_kind_is_an_answer(
    photo: Run, picture: Path, oracle: OracleModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert photo("refer", picture, "a ghost", *ORACLE, "-o", tmp_path / "out") == 0
    assert "nothing found; oracle says that it shows no such object" in capsys.readouterr().out
    assert not read_numbers(tmp_path / "out" / "a.png").any()


def test_a_run_whose_server_fails_goes_on_without_asking_again(
    photo: Run,
    picture: Path,
    oracle: OracleModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The box was answered, the points were not: only these are asked for then."""
    words = ("refer", picture, PHRASE, *ORACLE, "--mode", "pqpp", "-o", tmp_path / "out")
    asked: list[str] = []
    weigh, write = HuggingSpeaker.weigh, HuggingSpeaker.write

    def fail(*_: object) -> object:
        raise EndpointError("http://localhost:9: cannot be reached")

    def count(self: HuggingSpeaker, *given: object) -> object:
        asked.append("write")
        return write(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(HuggingSpeaker, "write", count)
    monkeypatch.setattr(HuggingSpeaker, "weigh", fail)
    assert photo(*words) == 3
    assert "cannot be reached" in capsys.readouterr().err
    assert not (tmp_path / "out" / "a.png").exists()
    monkeypatch.setattr(HuggingSpeaker, "weigh", weigh)
    assert photo(*words, "--resume") == 0
    assert asked == ["write"]
    assert photo(*words, "--resume") == 0
    assert asked == ["write"]
    assert read_numbers(tmp_path / "out" / "a.png").any()


@pytest.mark.parametrize(
    ("phrase", "more", "message"),
    [
        ("", (), "expected what to look for"),
        ("<image>", (), "steers oracle"),
        (PHRASE, ("--wording", "none.toml"), "--wording"),
    ],
)
def test_bad_words_are_one_line(
    photo: Run,
    picture: Path,
    oracle: OracleModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    phrase: str,
    more: tuple[str, ...],
    message: str,
) -> None:
    assert photo("refer", picture, phrase, *ORACLE, "-o", tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list((tmp_path / "out").glob("*"))


def test_an_open_picture_is_asked_too(picture: Path, oracle: OracleModel) -> None:
    with domainsam.open(picture, pack="photo") as opened:
        found = opened.find(ask=f" {PHRASE} ", mllm="oracle", mode="pqpp", foundation="fake", device="cpu")
        assert found.names == (PHRASE,)
        truth = read_numbers(picture.with_name("truth.png")) > 0
        assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.6
        assert found.told["windows"] == 1
        assert found.told["words"] == PHRASE
        with pytest.raises(ConfigError, match="mllm="):
            opened.find(ask=PHRASE, mllm=None, foundation="fake", device="cpu")


def test_a_model_that_is_not_there(photo: Run, picture: Path, tmp_path: Path) -> None:
    assert photo("refer", picture, PHRASE, "--mllm", tmp_path / "none", "-o", tmp_path / "out") == 3


def test_keywords_are_the_options_of_the_command() -> None:
    options = {item.name for item in refer_command.params if item.expose_value}
    options -= {"as_json", "verbose", "picture", "phrase"}
    assert options == set(keyword_names(refer_options, ask_options)) - {"made_by"}
