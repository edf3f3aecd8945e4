"""Ask any image-text-to-text model of Hugging Face's transformers, and read its chances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from domainsam.errors import CheckpointError, InputError, one_line
from domainsam.names import show
from domainsam.prompter.language.answers import Said
from domainsam.prompter.language.codecs import CoordinateCodec, Size
from domainsam.prompter.language.speakers import Question
from domainsam.prompter.language.words import WordTokens, find_word_tokens

GREEDY = {
    "do_sample": False,
    "num_beams": 1,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "repetition_penalty": 1.0,
    "early_stopping": False,
    # BART's family ends every answer at its limit by force, and it would look finished.
    "forced_eos_token_id": None,
}
"""The likeliest token at every step, whatever a model's own settings are."""
UNCHANGED = {
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "bad_words_ids": None,
    "sequence_bias": None,
}
"""Nothing of a model's settings changes the probabilities that are read out."""


PLAIN = ("paligemma", "florence2")
"""Kinds whose processors bring the text of a question into its form themselves."""


class Watch(LogitsProcessor):  # type: ignore[misc]
    """Notes how likely the token taken at each step is; with ``row`` only these two tokens are possible."""

    def __init__(self, tokens: WordTokens | None = None) -> None:
        self.tokens = tokens
        self.best: list[Tensor] = []
        self.pairs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chances = scores.float().softmax(dim=-1)
        self.best.append(chances.amax(dim=-1))
        if self.tokens is None:
            return scores
        groups = ((number,) for number in self.tokens.row) if self.tokens.row else self._groups()
        self.pairs.append(torch.stack([chances[:, list(ids)].sum(dim=-1) for ids in groups], dim=-1))
        if self.tokens.row is None:
            return scores
        limited = torch.full_like(scores, -torch.inf)
        limited[:, list(self.tokens.row)] = scores[:, list(self.tokens.row)]
        return limited

    def _groups(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        assert self.tokens is not None
        return self.tokens.first, self.tokens.second


class HuggingSpeaker:
    """A model of transformers as a :class:`~domainsam.prompter.language.speakers.Speaker`.

    Parameters
    ----------
    model, processor
        As ``AutoModelForImageTextToText`` and ``AutoProcessor`` give them.
    codec
        How it writes places.
    name, identity
        What it is called, and what tells it from others.
    at_once
        Questions that it takes together.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        codec: CoordinateCodec,
        name: str = "model",
        identity: str = "",
        at_once: int = 4,
    ) -> None:
        self.model, self.processor, self.tokenizer = model.eval(), processor, processor.tokenizer
        self.codec, self.name, self.identity, self.at_once = codec, name, identity or name, at_once
        self.kind = str(model.config.model_type)
        self._pairs: dict[tuple[str, str], WordTokens] = {}
        self._sizes: dict[Size, Size] = {}
        if not model.config.is_encoder_decoder:
            # What is written goes on where the prompt ends, so that this has to be the end of every row.
            self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def refuse(self, phrase: str) -> None:
        """As of the protocol: a phrase may hold none of the tokenizer's special tokens, nor name a task."""
        image = getattr(self.processor, "image_token", None)
        tasks = getattr(self.processor, "tasks_answer_post_processing_type", {})
        for token in (*self.tokenizer.all_special_tokens, *((image,) if image else ()), *tasks):
            if len(token) > 1 and token in phrase:
                raise InputError(f"the words hold '{show(token)}', which steers {self.name}: leave it out")

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture as it is: the model's processor resizes it."""
        return picture

    def seen(self, size: Size) -> Size:
        """Size that the processor gives a picture, where the codec counts its pixels."""
        if self.codec.steps is not None:
            return size
        if size not in self._sizes:
            blank = Image.new("RGB", (size[1], size[0]))
            made = self.processor.image_processor(images=[blank], return_tensors="pt")
            grid = made.get("image_grid_thw")
            patch = getattr(self.processor.image_processor, "patch_size", None)
            if grid is None or patch is None:
                self._sizes[size] = size
            else:
                self._sizes[size] = (int(grid[0, 1]) * patch, int(grid[0, 2]) * patch)
        return self._sizes[size]

    def write(self, questions: Sequence[Question], limit: int) -> list[Said]:
        """As of the protocol."""
        watch = Watch()
        tokens = self._generate(questions, limit, watch, {})
        ends = self._ends()
        said = []
        chances = torch.stack(watch.best, dim=1).clamp(min=1e-9).log()
        for row, own in zip(tokens.tolist(), chances, strict=True):
            length = next((place for place, token in enumerate(row) if token in ends), None)
            kept = row if length is None else row[:length]
            text = self.tokenizer.decode(kept, skip_special_tokens=False).strip()
            steps = len(row) if length is None else length + 1
            said.append(Said(text, float(own[:steps].mean().exp()), length is not None))
        return said

    def weigh(
        self, questions: Sequence[Question], counts: Sequence[int], words: tuple[str, str]
    ) -> list[NDArray[np.float64]]:
        """As of the protocol; several answers a question only where words align with tokens."""
        tokens = self._find_tokens(words)
        if tokens.row is None and max(counts) > 1:
            raise CheckpointError(f"{self.name}: rows of {words} are not one token each")
        watch = Watch(tokens)
        self._generate(questions, max(counts), watch, UNCHANGED)
        pairs = torch.stack(watch.pairs, dim=1).double().cpu().numpy()
        return [np.asarray(row[:count]) for row, count in zip(pairs, counts, strict=True)]

    def aligns(self, words: tuple[str, str]) -> bool:
        """As of the protocol."""
        return self._find_tokens(words).row is not None

    def _find_tokens(self, words: tuple[str, str]) -> WordTokens:
        if words not in self._pairs:
            self._pairs[words] = find_word_tokens(self.tokenizer, words)
        return self._pairs[words]

    def _ends(self) -> set[int]:
        """Ids that end an answer."""
        ends = self.model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        return {token for token in (*listed, self.tokenizer.eos_token_id) if token is not None}

    def _generate(
        self, questions: Sequence[Question], limit: int, watch: Watch, settings: dict[str, Any]
    ) -> Tensor:
        """New tokens ``(B, steps)``, of at most ``limit`` steps."""
        inputs = self.prepare(questions)
        if self.model.config.is_encoder_decoder:
            inputs = {**inputs, "decoder_input_ids": self._begin(len(questions))}
        with torch.inference_mode():
            out: Tensor = self.model.generate(
                **inputs,
                **GREEDY,
                **settings,
                max_new_tokens=limit,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=sorted(self._ends()) or None,
                logits_processor=LogitsProcessorList([watch]),
            )
        if not all(bool(torch.isfinite(part).all()) for part in watch.best):
            raise CheckpointError(f"{self.name}: its probabilities are no numbers; try --precision fp32")
        return out[:, -len(watch.best) :]

    def _begin(self, count: int) -> Tensor:
        """What a decoder begins with ``(B, 1 or 2)``: its own start, and the token that it is forced to say.

        Both are no part of an answer: the first step after them is.
        """
        told = self.model.generation_config
        begun = told.decoder_start_token_id
        start = self.tokenizer.bos_token_id if begun is None else begun
        tokens = [token for token in (start, told.forced_bos_token_id) if token is not None]
        if not tokens:
            raise CheckpointError(f"{self.name}: its generation_config.json does not say how answers begin")
        return torch.tensor([tokens], device=self.model.device).expand(count, -1)

    def prepare(self, questions: Sequence[Question], answered: bool = False) -> Any:
        """What the model's processor makes of questions, on the model's device.

        ``answered`` says that the last turn of each is the model's, as in training.

        Raises
        ------
        CheckpointError
            If the model's processor or chat template is unfit.
        """
        pictures = [Image.fromarray(question.picture) for question in questions]
        try:
            if self.talks():
                both = zip(questions, pictures, strict=True)
                made = self.processor.apply_chat_template(
                    [_converse(question, picture) for question, picture in both],
                    add_generation_prompt=not answered,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                    processor_kwargs={"padding": True},
                )
            else:
                texts = [self._plain(question, answered) for question in questions]
                made = self.processor(
                    text=texts, images=[[one] for one in pictures], padding=True, return_tensors="pt"
                )
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.name}: its processor cannot take a picture and a question: {one_line(error)}"
            ) from error
        return made.to(self.model.device, self.model.dtype)

    def talks(self) -> bool:
        """Whether the model has a template for conversations."""
        places = (self.processor, self.tokenizer)
        return any(getattr(place, "chat_template", None) for place in places)

    def _plain(self, question: Question, answered: bool) -> str:
        """Turns as one text, for models without a chat template: their processors place the picture."""
        texts = [text for _, text in question.turns]
        text = "\n".join(([question.system] if question.system else []) + texts)
        token = getattr(self.processor, "image_token", "<image>")
        if self.kind in PLAIN:
            return text if self.kind == "florence2" else f"{token}{text}"
        return f"{token}\n{text}" + ("" if answered else "\n")


def _converse(question: Question, picture: Image.Image) -> list[dict[str, Any]]:
    """A conversation as chat templates take it; the picture stands in the first question."""
    messages: list[dict[str, Any]] = []
    if question.system:
        messages.append({"role": "system", "content": [{"type": "text", "text": question.system}]})
    shown: list[dict[str, Any]] = [{"type": "image", "image": picture}]
    for speaker, text in question.turns:
        messages.append({"role": speaker, "content": [*shown, {"type": "text", "text": text}]})
        shown = []
    return messages
