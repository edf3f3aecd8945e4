"""Real classes of transformers with random weights: questions go in together, probabilities come out."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from domainsam.errors import CheckpointError, WeightsError
from domainsam.prompter.language.codecs import choose_codec
from domainsam.prompter.language.hugging import HuggingSpeaker, load_hugging
from domainsam.prompter.language.speakers import AskOptions, Question
from domainsam.testing.oracle import CHAT, make_tokenizer

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def make_llava_next() -> tuple[Any, Any]:
    tokenizer = make_tokenizer()
    image = tokenizer.convert_tokens_to_ids("<image>")
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "projection_dim": 16,
    }
    pins = [[28, 56], [56, 28], [56, 56]]
    config = LlavaNextConfig(
        vision_config=vision,
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT},
        image_token_id=image,
        image_grid_pinpoints=pins,
        vision_feature_layer=-1,
    )
    config.text_config.pad_token_id = tokenizer.pad_token_id
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=pins
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    return LlavaNextForConditionalGeneration(config), processor


def make_qwen() -> tuple[Any, Any]:
    tokenizer = make_tokenizer()
    tokens = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    start, end, image, video = tokenizer.convert_tokens_to_ids(tokens)
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        text_config={"vocab_size": len(tokenizer), "rope_parameters": rope, **TEXT},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    image_processor = Qwen2VLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112})
    tokenizer.image_token, tokenizer.video_token = tokens[2], tokens[3]
    chat = CHAT.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen2_5_VLProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=chat,
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


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
