"""InternVL, SmolVLM, Qwen3-VL and Florence-2: real classes with random weights, loaded from folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_foundation
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.source import LanguageSource
from domainsam.prompter.language.speakers import AskOptions, Question, load_speaker
from domainsam.prompter.language.wording import load_wording
from domainsam.testing.contracts import ArrayView
from tests.core.prompter.language.families import FAMILIES

CODEC = {"internvl": "thousand", "smolvlm": "thousandths", "qwen3_vl": "thousand", "florence2": "loc1000"}
CLASSES = {
    "internvl": "InternVLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "florence2": "Florence2ForConditionalGeneration",
}
ALWAYS = ("internvl", "florence2")
"""Families of the default run; the others take the same way."""
NAMES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="module", params=NAMES)
def speaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingSpeaker:
    """A family's model, saved to a folder and loaded by it."""
    folder: Path = tmp_path_factory.mktemp("models") / str(request.param)
    torch.manual_seed(3)
    model, processor = FAMILIES[request.param]()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    loaded: Any = load_speaker(AskOptions(str(folder)), "cpu", "fp32")
    assert type(loaded.model).__name__ == CLASSES[request.param]
    assert loaded.codec.name == CODEC[request.param]
    return loaded


def ask(speaker: HuggingSpeaker, *phrases: str) -> list[Question]:
    """The family's own question about pictures of different shapes."""
    wording = load_wording(speaker.kind)
    generator = np.random.default_rng(5)
    sizes = [(60, 90), (90, 60), (50, 50)]
    return [
        Question(
            generator.integers(0, 255, (*sizes[number % 3], 3)).astype(np.uint8),
            (("user", wording.ask_boxes(phrase, speaker.codec.frame, True)),),
        )
        for number, phrase in enumerate(phrases)
    ]


def test_answers_together_are_those_one_by_one(speaker: HuggingSpeaker) -> None:
    """Also where pictures become parts of different numbers, and rows of different lengths are padded."""
    questions = ask(speaker, "the man in the red coat on the left", "a cat", "x")
    together = speaker.write(questions, 5)
    for one, question in zip(together, questions, strict=True):
        (alone,) = speaker.write([question], 5)
        assert one.text == alone.text
        assert one.sure == pytest.approx(alone.sure, abs=1e-4)
        # A token that is forced has the probability 1 and is no answer's.
        assert 0 < one.sure < 0.5
        assert not one.finished


def test_rows_are_padded_where_the_family_can_take_it(speaker: HuggingSpeaker) -> None:
    """What a decoder writes goes on at a row's end; an encoder's rows end where they like."""
    questions = ask(speaker, "the man in the red coat on the left", "x")
    inputs = speaker.prepare(questions)
    ends = inputs["attention_mask"][:, -1].tolist()
    assert ends == ([1, 1] if speaker.kind != "florence2" else ends)
    assert inputs["attention_mask"].sum(dim=1).tolist() != [inputs["input_ids"].shape[1]] * 2
    for row, phrase in zip(inputs["input_ids"], ("the man in the red coat on the left", "x"), strict=True):
        assert phrase in speaker.tokenizer.decode(row)


def test_the_readout_is_the_softmax_over_the_whole_vocabulary(speaker: HuggingSpeaker) -> None:
    questions = ask(speaker, "the man in the red coat", "x")
    found = speaker.weigh(questions, [1, 1], ("Yes", "No"))
    ids = [speaker.tokenizer.convert_tokens_to_ids(word) for word in ("Yes", "No")]
    for one, question in zip(found, questions, strict=True):
        inputs = dict(speaker.prepare([question]))
        if speaker.kind == "florence2":
            told = speaker.model.generation_config
            begun = [[told.decoder_start_token_id, told.forced_bos_token_id]]
            inputs["decoder_input_ids"] = torch.tensor(begun)
        with torch.inference_mode():
            logits = speaker.model(**inputs).logits[0, -1].float()
        assert one[0] == pytest.approx(logits.softmax(0)[ids].numpy(), abs=1e-5)


def test_places_are_told_in_a_frame_that_the_processors_size_does_not_change(speaker: HuggingSpeaker) -> None:
    """All four write steps of the picture's sides, whatever their processors cut it into."""
    assert speaker.seen((600, 300)) == (600, 300)
    written = speaker.codec.write_box((0.25, 0.5, 0.75, 1.0), (600, 300))
    ((box, _),) = speaker.codec.read(f"roof{written}", (600, 300))
    assert box == pytest.approx((0.25, 0.5, 0.75, 1.0), abs=2e-3)


def test_a_phrase_may_not_steer(speaker: HuggingSpeaker) -> None:
    token = "<OCR>" if speaker.kind == "florence2" else str(speaker.processor.image_token)
    with pytest.raises(InputError, match="steers"):
        speaker.refuse(f"a roof {token}")
    speaker.refuse("a roof")


@pytest.mark.parametrize("mode", ["ppg", "pqpp"])
def test_what_it_says_goes_through_to_objects(speaker: HuggingSpeaker, mode: str) -> None:
    """Random weights say nothing that means a place; that is told, window by window."""
    options = AskOptions("m", mode=mode, max_tokens=4)
    if mode == "pqpp" and speaker.kind == "florence2":
        with pytest.raises(ConfigError, match="answers no questions about points"):
            LanguageSource(speaker, "roof", load_foundation("fake"), options)
        return
    source = LanguageSource(speaker, "roof", load_foundation("fake"), options)
    assert list(source.find(ArrayView((64, 96)))) == []
    assert source.tally.asked == 2
    assert "did not come to an end" in source.tally.unanswered[0]["why"]
