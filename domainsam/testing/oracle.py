"""A language model that answers from known masks, through the real way of generating text.

Its logits spell the right answer, token by token; all else, from the processor to ``generate`` and the
readout of probabilities, is what a real model goes through. It shows what the two modes can reach at best,
and tests everything around a model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    GenerationMixin,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import CausalLMOutput

from domainsam.prompter.language.codecs import CoordinateCodec, Spot, choose_codec
from domainsam.prompter.language.dialogues import choose_spots, lies_on, write_places
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.wording import Wording, load_wording

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""A chat template as small as can be."""
SPECIAL = ("<pad>", "<end>", "<image>", "<user>", "<assistant>", "<system>")
SIDE, PATCH = 32, 16
See = Callable[[NDArray[np.uint8]], Mapping[str, Sequence[NDArray[np.bool_]]]]
"""Gives the masks ``(H, W)`` that each phrase means in a picture ``(H, W, 3)``."""


def make_tokenizer(words: Sequence[str] = ("Yes", "No")) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, in which some words are one token each."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(bytes_)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        extra_special_tokens={"image_token": "<image>"},
    )


def make_processor(words: Sequence[str] = ("Yes", "No")) -> LlavaProcessor:
    """LLaVA's processor with pictures of 32 pixels a side."""
    size = {"height": SIDE, "width": SIDE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False),
        tokenizer=make_tokenizer(words),
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=CHAT,
    )


class OracleConfig(PretrainedConfig):  # type: ignore[misc]
    """Configuration of the oracle: nothing but its vocabulary."""

    model_type = "oracle"

    def __init__(self, vocab_size: int = 300, **rest: Any) -> None:
        self.vocab_size = vocab_size
        super().__init__(**rest)


class OracleModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Spells the answer that :meth:`answer` gives; a subclass may answer otherwise.

    Parameters
    ----------
    processor
        As of :func:`make_processor`.
    sure
        Probability of the right token at every step.
    """

    config_class = OracleConfig
    main_input_name = "input_ids"

    def __init__(self, processor: Any, sure: float = 0.99) -> None:
        super().__init__(OracleConfig(len(processor.tokenizer)))
        self.processor, self.sure = processor, sure
        self.codec: CoordinateCodec = choose_codec(self.config.model_type)
        self.wording: Wording = load_wording(self.config.model_type)
        self.anchor = nn.Parameter(torch.zeros(1))
        self.known: dict[bytes, Mapping[str, Sequence[NDArray[np.bool_]]]] = {}
        self.choose: Callable[[NDArray[np.bool_]], tuple[Spot, ...]] = choose_spots
        self.calls = 0
        self.generation_config.use_cache = False
        self.generation_config.eos_token_id = processor.tokenizer.eos_token_id

    def show(self, picture: NDArray[np.uint8], masks: Mapping[str, Sequence[NDArray[np.bool_]]]) -> None:
        """Tell what each phrase means in a picture."""
        made = self.processor.image_processor(images=[picture.copy()], return_tensors="pt")
        self.known[self._digest(made["pixel_values"][0])] = masks

    @staticmethod
    def _digest(pixels: Tensor) -> bytes:
        return hashlib.sha256(pixels.float().cpu().numpy().tobytes()).digest()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Logits ``(B, 1, V)`` of the next token of each row."""
        self.calls += 1
        assert pixel_values is not None
        logits = torch.full((len(input_ids), 1, self.config.vocab_size), 0.0)
        for row, ids in enumerate(input_ids):
            seen = ids if attention_mask is None else ids[attention_mask[row].bool()]
            token, sure = self._next(self.processor.tokenizer.decode(seen), pixel_values[row])
            rest = max(1e-12, (1 - sure) / (self.config.vocab_size - 1))
            logits[row, 0] = math.log(rest)
            logits[row, 0, token] = math.log(sure)
        return CausalLMOutput(logits=logits + self.anchor)

    def _next(self, text: str, pixels: Tensor) -> tuple[int, float]:
        prompt, _, begun = text.rpartition("<assistant>")
        asked = prompt.rpartition("<user>")[2].replace("<image>", "")
        answer = self.answer(asked, prompt, self.known.get(self._digest(pixels), {}))
        tokenizer = self.processor.tokenizer
        tokens = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
        done = len(tokenizer.encode(begun, add_special_tokens=False))
        return tokens[min(done, len(tokens) - 1)], self.sure

    def answer(self, asked: str, prompt: str, masks: Mapping[str, Sequence[NDArray[np.bool_]]]) -> str:
        """The right answer to a question."""
        meant = next((found for phrase, found in masks.items() if f'"{phrase}"' in prompt), ())
        size = (SIDE, SIDE)
        head = self.wording.points.partition("{box}")[0]
        if head and asked.startswith(head):
            (box, points), *_ = self.codec.read(asked, size)
            assert box is not None
            mask = max(meant, key=lambda one: _closeness(self.codec, one, box))
            return "".join(self.wording.yes if lies_on(mask, x, y) else self.wording.no for x, y, _ in points)
        direct = "(x,y,1)" in asked
        spots = [self.choose(mask) if direct else () for mask in meant]
        return write_places(meant, spots, self.codec, size, self.wording)


def _closeness(
    codec: CoordinateCodec, mask: NDArray[np.bool_], box: tuple[float, float, float, float]
) -> float:
    """Minus the distance of a mask's box from a box."""
    from domainsam.prompter.language.dialogues import box_of

    return -sum(abs(one - other) for one, other in zip(box_of(mask), box, strict=True))


class SeeingSpeaker(HuggingSpeaker):
    """Asks an oracle that is told by ``see`` what every picture shows, as it is shown."""

    def __init__(self, see: See, sure: float = 0.99) -> None:
        processor = make_processor()
        model = OracleModel(processor, sure)
        super().__init__(model, processor, model.codec, "oracle")
        self.see = see

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture as it is; the oracle learns what it shows."""
        self.model.show(picture, self.see(picture))
        return picture


def make_oracle(
    sure: float = 0.99, words: Sequence[str] = ("Yes", "No")
) -> tuple[OracleModel, HuggingSpeaker]:
    """An oracle and the speaker that asks it."""
    processor = make_processor(words)
    model = OracleModel(processor, sure)
    return model, HuggingSpeaker(model, processor, model.codec, "oracle")
