"""Real classes of transformers with random weights: questions go in together, probabilities come out."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from domainsam.errors import CheckpointError, WeightsError
from domainsam.prompter.language.codecs import choose_codec
from domainsam.prompter.language.folders import load_hugging
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.speakers import AskOptions, Question
from tests.core.prompter.language.tiny import make_llava_next, make_paligemma, make_qwen

MAKERS = {"llava_next": make_llava_next, "qwen2_5_vl": make_qwen}


@pytest.fixture(scope="module", params=MAKERS)
def speaker(request: pytest.FixtureRequest) -> HuggingSpeaker:
    torch.manual_seed(3)
    model, processor = MAKERS[request.param]()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    return HuggingSpeaker(model, processor, choose_codec(model.config.model_type), request.param)


def ask(*texts: str) -> list[Question]:
    generator = np.random.default_rng(5)
    sizes = [(40, 60), (60, 40), (50, 50)]
    return [
        Question(generator.integers(0, 255, (*sizes[number % 3], 3)).astype(np.uint8), (("user", text),))
        for number, text in enumerate(texts)
    ]


def test_answers_together_are_those_one_by_one(speaker: HuggingSpeaker) -> None:
    questions = ask("Where is it?", "Where in this picture is the man in the red coat?", "a")
    together = speaker.write(questions, 5)
    for one, question in zip(together, questions, strict=True):
        (alone,) = speaker.write([question], 5)
        assert one.text == alone.text
        assert one.sure == pytest.approx(alone.sure, abs=1e-4)
        assert 0 < one.sure < 1


def test_probabilities_of_two_words_together_are_those_one_by_one(speaker: HuggingSpeaker) -> None:
    questions = ask("On it?", "Do these points lie on the man in the red coat?")
    words = ("Yes", "No")
    assert speaker.aligns(words)
    together = speaker.weigh(questions, [3, 2], words)
    assert [one.shape for one in together] == [(3, 2), (2, 2)]
    for one, question, count in zip(together, questions, (3, 2), strict=True):
        (alone,) = speaker.weigh([question], [count], words)
        assert one == pytest.approx(alone, abs=1e-5)
        assert (one > 0).all()
        assert (one.sum(axis=1) < 1).all()


def test_the_readout_is_the_softmax_over_the_whole_vocabulary(speaker: HuggingSpeaker) -> None:
    (question,) = ask("On it?")
    (found,) = speaker.weigh([question], [1], ("Yes", "No"))
    inputs = speaker.prepare([question])
    with torch.inference_mode():
        logits = speaker.model(**inputs).logits[0, -1].float()
    ids = [speaker.tokenizer.convert_tokens_to_ids(word) for word in ("Yes", "No")]
    assert found[0] == pytest.approx(logits.softmax(0)[ids].numpy(), abs=1e-5)


def test_pixels_are_counted_in_the_picture_that_the_model_sees() -> None:
    model, processor = make_qwen()
    speaker = HuggingSpeaker(model, processor, choose_codec("qwen2_5_vl"))
    # Sides become multiples of 28 within 56 x 56 to 112 x 112 pixels of area.
    assert speaker.seen((40, 60)) == (56, 84)
    assert speaker.seen((600, 300)) == (140, 56)
    other = HuggingSpeaker(model, processor, choose_codec("qwen3_vl"))
    assert other.seen((600, 300)) == (600, 300)


def test_a_saved_model_is_loaded_from_its_folder_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, processor = make_llava_next()
    folder = tmp_path / "tiny"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    loaded = load_hugging(AskOptions(str(folder)), "cpu", "fp32")
    assert loaded.kind == "llava_next"
    assert loaded.codec.name == "thousandths"
    own = HuggingSpeaker(model, processor, loaded.codec)
    (question,) = ask("Where is it?")
    assert loaded.write([question], 4)[0].text == own.write([question], 4)[0].text
    before = loaded.identity
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "evil.Config"}}))
    (folder / "evil.py").write_text("raise SystemExit('code of a folder ran')\n")
    again = load_hugging(AskOptions(str(folder)), "cpu", "fp32")
    assert again.identity != before
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="can be used"):
        load_hugging(AskOptions(str(folder)), "cpu", "fp32")


def test_what_is_no_model_is_one_line_and_nothing_asks_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("something wants to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(WeightsError, match=r"holds no config\.json"):
        load_hugging(AskOptions(str(tmp_path)), "cpu")
    with pytest.raises(WeightsError, match="no such folder"):
        load_hugging(AskOptions(str(tmp_path / "none")), "cpu")
    with pytest.raises(WeightsError, match="local cache"):
        load_hugging(AskOptions("nobody/no-such-model"), "cpu")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="name it with --adapter"):
        load_hugging(AskOptions(str(tmp_path)), "cpu")
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="no image-text-to-text model"):
        load_hugging(AskOptions(str(tmp_path)), "cpu")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_without_a_template_for_conversations_is_asked_as_it_likes() -> None:
    """PaliGemma: its picture first, the task as text, places as tokens with y first."""
    torch.manual_seed(0)
    model, processor = make_paligemma()
    speaker = HuggingSpeaker(model, processor, choose_codec("paligemma"), "tiny")
    assert speaker.kind == "paligemma"
    questions = ask("detect the red roof", "detect a cat")
    inputs = speaker.prepare(questions)
    for row, question in zip(inputs["input_ids"], questions, strict=True):
        text = processor.tokenizer.decode(row)
        assert text.count("<image>") == 4
        assert text.endswith(f"<user>{question.turns[0][1]}\n")
    together = speaker.write(questions, 3)
    assert together[0].text == speaker.write(questions[:1], 3)[0].text
    ids = processor.tokenizer.convert_tokens_to_ids(["<loc0512>", "<loc0256>", "<loc1023>", "<loc0768>"])
    ((box, _),) = speaker.codec.read(processor.tokenizer.decode(ids) + " roof", (28, 28))
    assert box == pytest.approx((0.25, 0.5, 0.75, 1.0), abs=2e-3)
