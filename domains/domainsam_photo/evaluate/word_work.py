"""What is scored of a model of words, and the work that a layout makes of a set of pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainsam.errors import InputError
from domainsam.prompter.language.speakers import AskOptions
from domainsam.protocols import Namer, Word
from domainsam_photo.evaluate.word_scores import PictureScore, WordEvaluation


@dataclass(frozen=True)
class WordOptions:
    """What is scored.

    Parameters
    ----------
    layout
        One of :data:`domainsam_photo.evaluate.naming.WORD_LAYOUTS`.
    vocabulary_model
        The model of words; None for the embedded one.
    annotations
        The JSON, or RefCOCO's list, where it is not found by itself.
    answers
        Folder of masks ``SENTENCE.png``, for sentences.
    split, limit
        The list of pictures; only the first so many.
    boxes
        Whether true objects are given as boxes even where they have masks.
    refine
        Whether a foundation sharpens maps.
    ask
        The language model that answers sentences, and how it is asked.
    work, resume
        Hidden folder in which its answers are kept while it runs, and whether those of a run that was
        interrupted are taken.
    """

    layout: str
    vocabulary_model: str | None = None
    annotations: Path | None = None
    answers: Path | None = None
    split: str | None = None
    limit: int | None = None
    boxes: bool = False
    refine: bool = False
    foundation: str | Path | None = None
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    ask: AskOptions | None = None
    work: Path | None = None
    resume: bool = False


Prepared = tuple[WordEvaluation, Callable[[Any], PictureScore], list[Any]]
"""Result to be filled, what scores a picture, and the pictures."""


def understand_some(model: Namer, names: dict[int, str]) -> tuple[dict[int, Word], dict[str, str]]:
    """Words by class number, and those that the model refuses, with its reason."""
    words, refused = {}, {}
    with suppress(InputError):
        # Together first: a model that reads words reads all of them at once, and keeps them.
        model.understand([Word(name) for name in names.values()])
    for number, name in names.items():
        try:
            model.understand([Word(name)])
        except InputError as error:
            refused[name] = str(error)
            continue
        words[number] = Word(name)
    return words, refused
