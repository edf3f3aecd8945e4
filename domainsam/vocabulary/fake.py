"""A model of words that knows ten colours and nothing else, for tests of what is built on top."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.protocols import SceneObject, Understood, View, Window, Word
from domainsam.vocabulary.looks import place_masks, plan_looks, read_look
from domainsam.vocabulary.words import fold

COLOURS: dict[str, tuple[float, float, float]] = {
    "black": (0, 0, 0),
    "white": (1, 1, 1),
    "grey": (0.5, 0.5, 0.5),
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.1),
    "blue": (0.1, 0.1, 0.9),
    "yellow": (0.9, 0.9, 0.1),
    "orange": (0.95, 0.55, 0.1),
    "purple": (0.55, 0.1, 0.6),
    "brown": (0.45, 0.3, 0.15),
}
SHARP = 20.0
"""How fast likeness falls with the distance of colours."""


class FakeNamer:
    """Names objects by their mean colour, exactly and at once."""

    name = "fake"

    def __init__(self, side: int = 64) -> None:
        self.side = side

    def understand(self, words: Sequence[Word]) -> tuple[Understood, ...]:
        """The colours that words are.

        Raises
        ------
        InputError
            If one is no colour that it knows.
        """
        return tuple(Understood(word.name, _colour(word), 1.0) for word in words)

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        """Likeness ``(N, K)`` of mean colours; NaN where an object shows nothing."""
        colours = np.full((len(objects), 3), np.nan, np.float64)
        for look in plan_looks(view.shape, objects, self.side):
            image, valid = read_look(view, look)
            masks = place_masks(look, objects).numpy() * valid
            for mask, number in zip(masks, look.objects, strict=True):
                if mask.sum() > 0:
                    colours[number] = (image * mask).sum(axis=(1, 2)) / mask.sum()
        return _score(colours, words).astype(np.float32)

    def map_words(self, view: View, window: Window, words: Sequence[Word]) -> NDArray[np.float32]:
        """Likeness ``(K, h/4, w/4)`` of every place's colour."""
        image = torch.from_numpy(np.ascontiguousarray(view.image(window)))[None]
        small = torch.nn.functional.avg_pool2d(image, 4)[0].numpy()
        scores = _score(small.reshape(3, -1).T.astype(np.float64), words)
        return scores.T.reshape(len(words), *small.shape[1:]).astype(np.float32)


def _colour(word: Word) -> str:
    known = next((phrase for phrase in map(fold, word.phrases) if phrase in COLOURS), None)
    if known is None:
        near = get_close_matches(fold(word.name), COLOURS, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(COLOURS)}"
        raise InputError(f"the word {word.name!r} is no colour that the fake model knows; {hint}")
    return known


def _score(colours: NDArray[np.float64], words: Sequence[Word]) -> NDArray[np.float64]:
    """Scores ``(N, K)`` of colours ``(N, 3)`` against all known ones, so that none of the words may fit."""
    table = np.array(list(COLOURS.values()))
    squares = ((colours[:, None] - table) ** 2).sum(axis=2)
    likeness = np.exp(-SHARP * squares)
    likeness /= likeness.sum(axis=1, keepdims=True)
    order = list(COLOURS)
    columns: NDArray[np.float64] = likeness[:, [order.index(_colour(word)) for word in words]]
    return columns


def load(name: str, path: Path | None, device: torch.device, dtype: torch.dtype) -> FakeNamer:
    """Loader for :data:`domainsam.vocabularies.VOCABULARIES`."""
    return FakeNamer()
