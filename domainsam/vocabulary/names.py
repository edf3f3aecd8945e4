"""What a model of words says of objects, chosen and counted the same way for all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.protocols import Namer, SceneObject, Understood, View, Word

AT_ONCE = 512
"""Objects that a model is handed at a time."""


@dataclass(frozen=True)
class Named:
    """What an object was called.

    Parameters
    ----------
    word
        The word that fits best; None where none of them fits better than none at all, or there is no answer.
    score
        Of ``word``; of none of them where none fits; 0 where there is no answer.
    second, second_score
        The word that fits next best, None where there is only one word.
    answered
        Whether the model had an answer at all.
    """

    word: str | None
    score: float
    second: str | None = None
    second_score: float = 0.0
    answered: bool = True


def name_all(
    namer: Namer, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
) -> NDArray[np.float32]:
    """Scores ``(N, K)`` of any number of objects, a part of them at a time; rows of NaN are no answers."""
    parts = [
        namer.name_objects(view, objects[start : start + AT_ONCE], words)
        for start in range(0, len(objects), AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(words)), np.float32)


def choose_names(scores: NDArray[np.float32], words: Sequence[Word]) -> list[Named]:
    """The best word of every row of scores ``(N, K)``."""
    return [_choose(row, words) for row in scores]


def _choose(row: NDArray[np.float32], words: Sequence[Word]) -> Named:
    if not np.isfinite(row).all():
        return Named(None, 0.0, answered=False)
    order = np.argsort(-row, kind="stable")
    best = float(row[order[0]])
    second = words[order[1]].name if len(words) > 1 else None
    second_score = float(row[order[1]]) if len(words) > 1 else 0.0
    rest = max(0.0, 1.0 - float(row.sum(dtype=np.float64)))
    if rest > best:
        return Named(None, rest, words[order[0]].name, best)
    return Named(words[order[0]].name, best, second, second_score)


def tell_understood(understood: Sequence[Understood]) -> dict[str, Any]:
    """How words were taken, as JSON can hold it; words of a model that reads any word are left out."""
    return {
        one.word: {
            "known": one.known,
            "nearness": None if one.nearness is None else round(one.nearness, 3),
        }
        for one in understood
        if one.known is not None
    }


def count_names(named: Sequence[Named]) -> dict[str, Any]:
    """Objects by word, the most frequent first, and how many no word fits and no answer was had of."""
    counts: dict[str, int] = {}
    for one in named:
        if one.word is not None:
            counts[one.word] = counts.get(one.word, 0) + 1
    return {
        "words": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "none_fits": sum(one.answered and one.word is None for one in named),
        "unanswered": sum(not one.answered for one in named),
    }
