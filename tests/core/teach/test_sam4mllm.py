"""A tiny model of a real class learns a dialogue by heart, goes on after a kill, and its adapter is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from domainsam.errors import CheckpointError, InputError, MissingInputError
from domainsam.prompter.language.adapters import find_targets
from domainsam.prompter.language.codecs import CODECS
from domainsam.prompter.language.dialogues import (
    best_spots,
    box_of,
    choose_spots,
    draw_queries,
    lies_on,
    make_dialogue,
)
from domainsam.prompter.language.folders import load_hugging
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.speakers import AskOptions, Question
from domainsam.prompter.language.wording import load_wording
from domainsam.teach.dialogues import IGNORED, label_answers, read_known
from domainsam.teach.methods import teach_words
from domainsam.teach.options import TeachOptions
from domainsam.train.loop import StageOptions, learning_rate
from domainsam_cli import main
from tests.core.prompter.language.tiny import make_llava_next

WORDING = """[any]
box = "Where: {phrase}"
points = "{box}? {points}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a picture with its mask, a dialogue file and short questions."""
    made = tmp_path_factory.mktemp("sam4mllm")
    torch.manual_seed(0)
    model, processor = make_llava_next()
    with torch.no_grad():
        # Random weights of the usual size could not be sure of any token, whatever the adapter does.
        model.lm_head.weight.mul_(40)
        model.get_input_embeddings().weight.mul_(40)
    model.save_pretrained(made / "tiny")
    processor.save_pretrained(made / "tiny")
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[8:28, 12:36] = 255
    Image.fromarray(picture).save(made / "a.png")
    Image.fromarray(mask).save(made / "m.png")
    (made / "dialogues.jsonl").write_text(
        json.dumps({"image": "a.png", "phrase": "roof", "masks": ["m.png"]}) + "\n"
    )
    (made / "w.toml").write_text(WORDING)
    return made


def teach(folder: Path, out: Path, steps: int, **more: Any) -> Any:
    every = more.pop("every", steps)
    options = TeachOptions(
        out,
        "cpu",
        precision="fp32",
        batch_size=1,
        steps=(steps,),
        rates=(1e-2,),
        every=every,
        held_back=0.0,
        **more,
    )
    own = {"mllm": folder / "tiny", "mode": "ppg", "rank": 16, "wording": folder / "w.toml"}
    return teach_words("sam4mllm", folder, options, **own)


@pytest.mark.slow
def test_a_dialogue_is_learnt_by_heart_and_the_adapter_is_asked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter.safetensors"
    teach(folder, out, 400)
    picture = np.asarray(Image.open(folder / "a.png"))
    question = Question(picture, (("user", "Where: roof"),))
    mask = np.asarray(Image.open(folder / "m.png")) > 0
    box = CODECS["thousandths"].write_box(box_of(mask), (40, 60))
    told = {}
    for adapter in (None, out):
        options = AskOptions(str(folder / "tiny"), adapter=adapter)
        speaker = load_hugging(options, "cpu", "fp32")
        told[adapter] = speaker.write([question], 30)[0]
    assert told[None].text != box
    assert told[out].text == box
    assert told[out].finished
    assert told[out].sure > 0.9


def test_a_run_that_was_killed_ends_with_the_very_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    teach(folder, whole, 6, every=2)
    from domainsam.teach import sam4mllm

    calls: list[int] = []
    true: Callable[..., Any] = sam4mllm.loss_of

    def die(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return true(*given)

    monkeypatch.setattr(sam4mllm, "loss_of", die)
    with pytest.raises(KeyboardInterrupt):
        teach(folder, killed, 6, every=2)
    assert not killed.exists()
    teach(folder, killed, 6, every=2, resume=True)
    # Four steps were saved, so that two were left.
    assert len(calls) == 5 + 2
    assert whole.read_bytes() == killed.read_bytes()


def test_only_the_language_model_and_the_projector_learn() -> None:
    model, _ = make_llava_next()
    targets = find_targets(model)
    assert not [name for name in targets if "vision" in name]
    assert sum("multi_modal_projector" in name for name in targets) == 2
    assert len(targets) == 2 + 7 * 2


def test_labels_lie_on_answers_and_their_ends_alone() -> None:
    model, processor = make_llava_next()
    speaker = HuggingSpeaker(model, processor, CODECS["thousandths"])
    picture = np.zeros((30, 30, 3), np.uint8)
    dialogues = [
        Question(
            picture, (("user", "Where?"), ("assistant", "[1]"), ("user", "On it?"), ("assistant", "YesNo"))
        ),
        Question(picture, (("user", "Where in all this is it?"), ("assistant", "No object found."))),
    ]
    batch = label_answers(speaker, dialogues)
    tokenizer = processor.tokenizer
    learnt = [tokenizer.decode(row[row != IGNORED]) for row in batch.labels]
    assert learnt == ["[1]<end>YesNo<end>", "No object found.<end>"]
    assert batch.labels.shape == batch.inputs["input_ids"].shape


@pytest.mark.parametrize("mode", ["ppg", "pqpp"])
def test_dialogues_tell_the_truth_of_the_mask(mode: str) -> None:
    mask = np.zeros((50, 80), bool)
    mask[10:30, 20:60] = True
    mask[10:20, 40:60] = False
    wording, codec = load_wording("any"), CODECS["thousandths"]
    picture = np.zeros((50, 80, 3), np.uint8)
    generator = np.random.default_rng(0)
    made = make_dialogue(picture, "it", [mask], mode, codec, (50, 80), wording, generator)
    ((box, spots),) = codec.read(made.turns[1][1], (50, 80))
    assert box == pytest.approx((0.25, 0.2, 0.75, 0.6), abs=1e-3)
    if mode == "ppg":
        assert [inside for *_, inside in spots] == [True, True, False]
        assert [lies_on(mask, x, y) for x, y, _ in spots] == [True, True, False]
        return
    asked = codec.read(made.turns[2][1], (50, 80))[0][1]
    words = made.turns[3][1].replace("Yes", "Y").replace("No", "N")
    assert 1 <= len(asked) == len(words) <= 20
    assert [word == "Y" for word in words] == [lies_on(mask, x, y) for x, y, _ in asked]
    assert set(words) == {"Y", "N"}


def test_a_phrase_that_means_nothing_is_answered_so() -> None:
    wording = load_wording("any")
    picture = np.zeros((50, 80, 3), np.uint8)
    for mode in ("ppg", "pqpp"):
        made = make_dialogue(
            picture, "it", [], mode, CODECS["thousandths"], (50, 80), wording, np.random.default_rng(0)
        )
        assert made.turns[1:] == (("assistant", "No object found."),)


def test_the_best_of_many_sets_is_kept() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = mask[0, 0] = True
    first = choose_spots(mask)
    wanted = best_spots(mask, lambda spots: -abs(spots[0][0] - 0.7), np.random.default_rng(0), 32)
    assert abs(wanted[0][0] - 0.7) < abs(first[0][0] - 0.7)
    assert sum(inside for *_, inside in wanted) == 2


def test_a_mask_that_fills_its_box_has_no_point_beside_it() -> None:
    spots = choose_spots(np.ones((10, 10), bool))
    assert [inside for *_, inside in spots] == [True, True]
    counts = [len(draw_queries((0, 0, 1, 1), np.random.default_rng(seed))) for seed in range(40)]
    # Normal with mean 10 and deviation 4, cut at 1 and 20.
    assert min(counts) >= 1
    assert max(counts) <= 20
    assert 8.5 < np.mean(counts) < 11.5


def test_the_rate_rises_and_falls_evenly() -> None:
    options = StageOptions(100, lr=1.0, warmup=10, warmup_start=1 / 25, schedule="linear")
    rates = [learning_rate(step, options) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25 + 0.96 / 10)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(1 / 90)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("{", InputError, "line 1: expected an object"),
        ('{"image": "a.png"}', InputError, "expected an object with image, phrase"),
        ('{"image": "a.png", "phrase": "x", "masks": "m.png"}', InputError, "masks as a list"),
        ('{"image": "a.png", "phrase": "  "}', InputError, "expected what to look for"),
        ('{"image": "b.png", "phrase": "x"}', MissingInputError, "is not there"),
        ("", InputError, "is empty"),
    ],
)
def test_wrong_lines_are_told_by_number(
    folder: Path, tmp_path: Path, line: str, kind: type[Exception], message: str
) -> None:
    (tmp_path / "dialogues.jsonl").write_text(line + "\n")
    (tmp_path / "a.png").write_bytes((folder / "a.png").read_bytes())
    with pytest.raises(kind, match=message):
        read_known(tmp_path)


def test_an_adapter_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none.safetensors", "no such adapter"),
        (folder / "tiny" / "model.safetensors", "is no adapter"),
        (tmp_path, "pickles are not read"),
    ):
        with pytest.raises((MissingInputError, CheckpointError), match=message):
            load_hugging(AskOptions(str(folder / "tiny"), adapter=path), "cpu", "fp32")


def test_the_command_needs_a_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train-words", str(folder), "--method", "sam4mllm", "-o", str(tmp_path / "a.safetensors")]
    assert main(words) == 2
    assert "--method sam4mllm needs --mllm" in capsys.readouterr().err
