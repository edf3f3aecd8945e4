"""Dialogues of known masks as a language model learns them.

``DATA`` of ``train-words --method sam4mllm`` is a file of JSON lines, or a folder with
``dialogues.jsonl``; each line has ``image``, ``phrase`` and ``masks``, a list of PNG files whose pixels above
0 are an object each; none where the phrase means nothing in the picture. Paths are relative to the file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from domainsam.assess.examples import read_picture
from domainsam.documents import read_lines
from domainsam.errors import CheckpointError, InputError, MissingInputError
from domainsam.infer.pictures import PictureView
from domainsam.prompter.descriptors import lay_windows
from domainsam.prompter.language.codecs import Spot
from domainsam.prompter.language.decoding import Place, decode_place
from domainsam.prompter.language.dialogues import box_of, make_dialogue
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.speakers import Question
from domainsam.prompter.language.wording import Wording, check_phrase
from domainsam.protocols import Foundation

NAME = "dialogues.jsonl"
IGNORED = -100
"""Label of a token that is not learnt (PyTorch's own)."""


@dataclass(frozen=True)
class Known:
    """A picture, a phrase, and the files of the masks that it means."""

    image: Path
    phrase: str
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Batch:
    """What a model takes, and the labels ``(B, L)`` of its tokens."""

    inputs: Mapping[str, Any]
    labels: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        moved = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in self.inputs.items()
        }
        return Batch(moved, self.labels.to(device))


class Dialogues:
    """Batches of dialogues: every picture once an epoch, points and order by chance.

    Parameters
    ----------
    speaker, wording, modes
        Who learns, how it is asked, and the modes by turns.
    known
        At least one.
    batch_size
        Dialogues in a batch; the last batch of an epoch is filled up from the next.
    seed, rank
        Decide the order and the points; each process has an order of its own.
    teacher
        Foundation that chooses points; None for points deep in the mask.
    """

    def __init__(
        self,
        speaker: HuggingSpeaker,
        wording: Wording,
        modes: Sequence[str],
        known: Sequence[Known],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        teacher: Foundation | None = None,
    ) -> None:
        self.speaker, self.wording, self.modes, self.known = speaker, wording, tuple(modes), known
        self.batch_size, self.seed, self.rank, self.teacher = batch_size, seed, rank, teacher
        # Tokenizers of transformers may not be used by several threads.
        self._lock = threading.Lock()

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        numbers = []
        for place in range(step * self.batch_size, (step + 1) * self.batch_size):
            epoch, number = divmod(place, len(self.known))
            order = np.random.default_rng((self.seed, self.rank, epoch)).permutation(len(self.known))
            numbers.append(int(order[number]))
        return self.gather(numbers, step)

    def gather(self, numbers: Sequence[int], step: int) -> Batch:
        """Dialogues of these pictures."""
        made = [self._dialogue(number, step) for number in numbers]
        with self._lock:
            return label_answers(self.speaker, made)

    def _dialogue(self, number: int, step: int) -> Question:
        one = self.known[number]
        generator = np.random.default_rng((self.seed, self.rank, step, number))
        picture = read_picture(one.image)
        masks = [read_mask(path, picture.shape[:2]) for path in one.masks]
        score = None if self.teacher is None else make_score(picture, self.teacher)
        mode = self.modes[int(generator.integers(len(self.modes)))]
        with self._lock:
            seen = self.speaker.seen((picture.shape[0], picture.shape[1]))
        phrase, codec = check_phrase(one.phrase), self.speaker.codec
        self.speaker.refuse(phrase)
        return make_dialogue(picture, phrase, masks, mode, codec, seen, self.wording, generator, score)


def make_score(
    picture: NDArray[np.uint8], teacher: Foundation
) -> Callable[[NDArray[np.bool_], tuple[Spot, ...]], float]:
    """A function that gives the IoU of what a foundation makes of a mask's box and points."""
    view = PictureView(lambda _: picture, 1, teacher)
    (window,) = lay_windows(view.shape, teacher.image_size)

    def score(mask: NDArray[np.bool_], spots: tuple[Spot, ...]) -> float:
        place = Place(box_of(mask), spots)
        one = decode_place(place, view, window, view.features(window), teacher)
        if one is None:
            return 0.0
        made = view.enlarge_mask(one)
        return float((made & mask).sum() / (made | mask).sum())

    return score


def label_answers(speaker: HuggingSpeaker, dialogues: Sequence[Question]) -> Batch:
    """What the model takes, with labels on the tokens of answers and of what ends them, and on no others.

    Raises
    ------
    CheckpointError
        If the chat template rewrites what was said before, so that answers cannot be told apart.
    """
    made = speaker.prepare(dialogues, answered=True)
    ids = made["input_ids"]
    labels = torch.full_like(ids, IGNORED)
    for row, dialogue in enumerate(dialogues):
        own = made["attention_mask"][row].bool()
        tokens, places = ids[row][own], torch.nonzero(own).flatten()
        for turn in range(1, len(dialogue.turns), 2):
            start = _count_tokens(speaker, dialogue, turn, tokens, answered=False)
            stop = _count_tokens(speaker, dialogue, turn + 1, tokens, answered=True)
            labels[row, places[start:stop]] = tokens[start:stop]
    return Batch(dict(made), labels)


def _count_tokens(
    speaker: HuggingSpeaker, dialogue: Question, turns: int, whole: Tensor, answered: bool
) -> int:
    """How many tokens the first turns of a dialogue have, which have to begin the whole."""
    part = Question(dialogue.picture, dialogue.turns[:turns], dialogue.system)
    tokens = speaker.prepare([part], answered)["input_ids"][0]
    if len(tokens) > len(whole) or not torch.equal(whole[: len(tokens)], tokens):
        raise CheckpointError(
            f"{speaker.name}: its chat template rewrites earlier turns, so that answers cannot be told apart"
        )
    return len(tokens)


def read_known(data: Path) -> list[Known]:
    """The lines of a file of dialogues.

    Raises
    ------
    MissingInputError
        If the file, a picture or a mask is not there.
    InputError
        If a line is none, or there is no line.
    """
    file = data / NAME if data.is_dir() else data
    if not file.is_file():
        raise MissingInputError(f"{file}: no such file; expected JSON lines of image, phrase and masks")
    known = []
    for number, line in enumerate(read_lines(file, "a file of dialogues"), 1):
        if line.strip():
            known.append(_read_line(line, f"{file}, line {number}", file.parent))
    if not known:
        raise InputError(f"{file}: is empty; expected lines with image, phrase and masks")
    return known


def _read_line(line: str, where: str, folder: Path) -> Known:
    try:
        told = json.loads(line)
        image, phrase, masks = told["image"], told["phrase"], told.get("masks", [])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{where}: expected an object with image, phrase and masks ({error})") from error
    if not (isinstance(image, str) and isinstance(phrase, str) and isinstance(masks, list)):
        raise InputError(f"{where}: expected image and phrase as texts, and masks as a list of files")
    try:
        check_phrase(phrase)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    paths = [folder / str(path) for path in (image, *masks)]
    for path in paths:
        if not path.is_file():
            raise MissingInputError(f"{where}: {path} is not there; check the path")
    return Known(paths[0], phrase, tuple(paths[1:]))


def read_mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask ``(H, W)``: pixels above 0.

    Raises
    ------
    InputError
        If it cannot be read, is empty, or of another size than its picture.
    """
    try:
        with Image.open(path) as opened:
            values = np.asarray(opened.convert("L") if opened.mode not in ("I;16", "I", "P") else opened)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no picture that can be read: {error}") from error
    mask = values > 0
    if mask.shape != tuple(shape):
        raise InputError(
            f"{path}: is {mask.shape[1]} x {mask.shape[0]}; its picture is {shape[1]} x {shape[0]}"
        )
    if not mask.any():
        raise InputError(f"{path}: is empty; leave it out, so that the phrase means nothing in the picture")
    return mask
