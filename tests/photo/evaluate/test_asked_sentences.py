"""``photo evaluate --layout refcoco --mllm``: a model answers every sentence, and its answers are scored."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domainsam.errors import EndpointError
from domainsam.keywords import keyword_names
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.keywords import ask_options
from domainsam.testing.oracle import OracleModel, make_oracle
from domainsam_photo.commands.evaluate import MANNER
from domainsam_photo.generated import RED, draw_ground, encode_picture, place_ball
from domainsam_photo.read.pictures import read_picture
from domainsam_photo.write.masks import encode_runs

Run = Callable[..., int]
BLUE = (40, 60, 210)
SENTENCES = {1: ("the red ball", "the one on the left"), 2: ("a blue ball",)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures with a ball each; two sentences mean the first one, one the second."""
    root = tmp_path / "refcoco"
    (root / "images").mkdir(parents=True)
    refs, annotations, images = [], [], []
    for number, colour in ((1, RED), (2, BLUE)):
        picture = draw_ground(number, (96, 128))
        mask = place_ball(picture, 40, 40 + 20 * number, colour, 20)
        (root / f"images/{number}.png").write_bytes(encode_picture(picture))
        (root / f"{number}.truth").write_bytes(encode_picture(mask))
        images.append({"id": number, "file_name": f"{number}.png", "height": 96, "width": 128})
        annotations.append({"id": number, "image_id": number, "segmentation": encode_runs(mask > 0)})
        told = [{"sent_id": 10 * number + k, "sent": sent} for k, sent in enumerate(SENTENCES[number])]
        refs.append({"image_id": number, "ann_id": number, "split": "val", "sentences": told})
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs))
    (root / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


def truth_of(data: Path, number: int) -> np.ndarray:
    from PIL import Image

    return np.array(Image.open(data / f"{number}.truth")) > 0


@pytest.fixture
def oracle(data: Path, monkeypatch: pytest.MonkeyPatch) -> OracleModel:
    """A model that knows what the sentences mean, in the place of one that is loaded."""
    model, speaker = make_oracle()
    for number, sentences in SENTENCES.items():
        meant = {sentence: [truth_of(data, number)] for sentence in sentences}
        model.show(read_picture(data / f"images/{number}.png"), meant)
    monkeypatch.setattr("domainsam_photo.evaluate.asking.load_speaker", lambda *_: speaker)
    return model


def command(data: Path, *more: Any) -> tuple[Any, ...]:
    asked = ("--mllm", "oracle", "--foundation", "fake", "--device", "cpu")
    return ("evaluate", data, "--layout", "refcoco", "--split", "val", *asked, *more)


@pytest.mark.parametrize("mode", ["ppg", pytest.param("pqpp", marks=pytest.mark.slow)])
def test_a_model_is_asked_for_every_sentence(
    photo: Run, data: Path, oracle: OracleModel, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    assert photo(*command(data, "--mode", mode, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["method"] == f"refer ({mode})"
    assert told["foundation"] == "oracle and fake"
    assert told["asked"]["windows"] == 3
    assert told["asked"]["unanswered"] == 0
    # By hand, from the sums that every picture tells: the answers are what the model was asked.
    shared, either = (sum(one[name] for one in told["pictures"]) for name in ("intersection", "union"))
    assert told["means"]["cIoU"]["value"] == pytest.approx(shared / either, abs=1e-4)
    count = sum(one["sentences"] for one in told["pictures"])
    mean = sum(one["gIoU"] * one["sentences"] for one in told["pictures"]) / count
    assert told["means"]["gIoU"]["value"] == pytest.approx(mean, abs=1e-4)
    # The stand-in of a foundation sees 64 pixels of 128, and draws clicks as it is told.
    assert told["means"]["gIoU"]["value"] > (0.4 if mode == "ppg" else 0.6)


@pytest.mark.slow
def test_the_score_is_that_of_a_folder_of_what_refer_finds(
    photo: Run, data: Path, oracle: OracleModel, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _, speaker = make_oracle()
    speaker.model = oracle
    monkeypatch.setattr("domainsam_photo.refer.load_speaker", lambda *_: speaker)
    answers = tmp_path / "answers"
    answers.mkdir()
    for number, sentences in SENTENCES.items():
        for place, sentence in enumerate(sentences):
            out = tmp_path / f"{number}-{place}"
            asked = ("--mllm", "oracle", "--foundation", "fake", "--device", "cpu", "-o", out)
            assert photo("refer", data / f"images/{number}.png", sentence, *asked) == 0
            (out / f"{number}.png").rename(answers / f"{10 * number + place}.png")
    capsys.readouterr()
    folder = ("evaluate", data, "--layout", "refcoco", "--answers", answers, "--json")
    assert photo(*folder) == 0
    theirs = json.loads(capsys.readouterr().out)["means"]
    assert photo(*command(data, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["means"] == theirs


def test_a_run_that_broke_off_goes_on_without_asking_again(
    photo: Run, data: Path, oracle: OracleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = command(data, "--csv", tmp_path / "scores.csv", "--report", tmp_path / "scores.html", "--quiet")
    asked: list[str] = []
    write = HuggingSpeaker.write

    def answer(self: HuggingSpeaker, questions: Any, limit: int) -> Any:
        if len(asked) == 2:
            raise EndpointError("http://localhost:9: cannot be reached")
        asked.append(questions[0].turns[0][1])
        return write(self, questions, limit)

    monkeypatch.setattr(HuggingSpeaker, "write", answer)
    assert photo(*words) == 3
    assert not (tmp_path / "scores.csv").exists()
    assert (tmp_path / ".scores.domainsam").is_dir()

    def answer_on(*given: Any) -> Any:
        asked.append("more")
        return write(*given)

    monkeypatch.setattr(HuggingSpeaker, "write", answer_on)
    assert photo(*words, "--resume") == 0
    assert len(asked) == 3
    assert asked[-1] == "more"
    with (tmp_path / "scores.csv").open() as file:
        assert [row["sentences"] for row in csv.DictReader(file)] == ["2.0", "1.0"]
    page = (tmp_path / "scores.html").read_text()
    assert "How well does it know words?" in page
    assert "2.png: a blue ball" in page
    assert "3 questions to oracle" in page
    assert not list(tmp_path.glob(".*"))


def test_what_is_not_found_or_cannot_be_asked_counts_as_wrong(
    photo: Run, data: Path, oracle: OracleModel, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = pickle.loads((data / "refs(unc).p").read_bytes())
    refs[0]["sentences"][1]["sent"] = "<image>"
    refs[1]["sentences"][0]["sent"] = "a green ball"
    (data / "refs(unc).p").write_bytes(pickle.dumps(refs))
    assert photo(*command(data, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["sentences"] for one in told["pictures"]] == [2, 1]
    assert told["pictures"][1]["intersection"] == 0
    assert told["asked"]["nothing"] == 1
    assert told["asked"]["unanswered"] == 1
    (first,) = told["asked"]["unanswered_first"]
    assert first["sentence"] == "11"
    assert "steers oracle" in first["why"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--layout", "refcoco", "--mode", "pqpp", "--answers", "x"), "--mode is of use with --mllm alone"),
        (("--layout", "refcoco", "--mllm", "m", "--answers", "x"), "give one of them"),
        (("--layout", "refcoco", "--mllm", "m", "--resume"), "--resume goes on with a run that writes"),
        (("--layout", "refcoco"), "name a model by --mllm"),
        (("--layout", "refcoco", "--mllm", "none"), "no such folder"),
        (("--layout", "refcoco", "--mllm", "m", "--boxes"), "--boxes is of no use with --layout refcoco"),
        (("--layout", "refcoco", "--vocabulary-model", "fake"), "--vocabulary-model is of no use"),
        (("--layout", "coco", "--mllm", "m"), "--mllm is of no use with --layout coco"),
        (("--layout", "coco", "--refine"), "--refine is of no use with --layout coco"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    photo: Run, data: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    assert photo("evaluate", data, *more) in (2, 3)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_every_way_to_ask_can_be_said() -> None:
    assert set(MANNER) == set(keyword_names(ask_options)) - {"mllm"}
