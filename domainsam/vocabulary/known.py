"""The closed list that the embedded model of words knows, and how a word that is asked for is taken.

A *sense* is what a word can stand for: one class that the model tells apart, or several (a vehicle is a
car, a bus or a boat). A word is taken as the sense of the known phrase that its sentence vector comes
nearest to; one that is far from all is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import CheckpointError, DependencyError, InputError
from domainsam.protocols import Understood, Word
from domainsam.vocabulary.words import fold

LEAST_NEARNESS = 0.65
"""Cosine below which a word is far. Of words that no training saw 72 % come nearer, and 88 % of these are
taken rightly; of a hundred words for things that are not on the list a tenth come nearer (the model
card)."""
TOLD, MOST_TOLD = 3, 5
"""Known words that a refusal of one word names, and words that one of several names."""

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class Sense:
    """What a known word stands for: a name, all its phrases, and the numbers of the classes."""

    name: str
    phrases: tuple[str, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Taken:
    """A word that was asked for, and the sense it is taken in, by which phrase, and how near that is."""

    word: str
    sense: Sense
    phrase: str
    nearness: float

    @property
    def told(self) -> Understood:
        """The same as the seam has it."""
        return Understood(self.word, self.phrase, round(self.nearness, 4), frozenset(self.sense.classes))


class KnownWords:
    """Senses with the vectors of their phrases.

    Parameters
    ----------
    senses
        Those of one class first, in the order of the classes; phrases are folded.
    vectors
        ``(M, D)`` float32 of length one, of all phrases in order.
    encode
        Gives vectors of other phrases; called only for a phrase that is not on the list.
    """

    def __init__(self, senses: Sequence[Sense], vectors: NDArray[np.float32], encode: Encode) -> None:
        self.senses, self.vectors, self._encode = tuple(senses), vectors, encode
        owned = [(phrase, number) for number, one in enumerate(self.senses) for phrase in one.phrases]
        self.phrases = tuple(phrase for phrase, _ in owned)
        self._owners = np.array([number for _, number in owned])
        self._places = {phrase: place for place, phrase in enumerate(self.phrases)}
        self._read: dict[str, NDArray[np.float32]] = {}
        self.classes = sum(len(one.classes) == 1 for one in self.senses)

    def prototypes(self) -> NDArray[np.float32]:
        """A vector ``(C, D)`` of length one for every class: the mean over its phrases."""
        means = np.stack(
            [self.vectors[self._owners == number].mean(axis=0) for number in range(self.classes)]
        )
        normed: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return normed.astype(np.float32)

    def take(self, words: Sequence[Word]) -> tuple[Taken, ...]:
        """The sense of every word.

        Raises
        ------
        InputError
            If one is far from all known phrases; the nearest are told.
        DependencyError
            If one is not on the list and no sentence encoder is installed.
        """
        self._read_missing(words)
        found = [self._take(word) for word in words]
        refused = [
            (word, one) for word, one in zip(words, found, strict=True) if one.nearness < LEAST_NEARNESS
        ]
        if refused:
            raise InputError(self._refuse(refused))
        return tuple(found)

    def _read_missing(self, words: Sequence[Word]) -> None:
        """Have all phrases that matter and are not on the list read, at once."""
        strange = [word for word in words if not any(fold(one) in self._places for one in word.phrases)]
        wanted = dict.fromkeys(fold(one) for word in strange for one in word.phrases)
        missing = [phrase for phrase in wanted if phrase not in self._read]
        if not missing:
            return
        try:
            vectors = self._encode(missing)
        except DependencyError as error:
            told = ", ".join(repr(word.name) for word in strange[:TOLD])
            raise DependencyError(f"not on the embedded model's list: {told}; {error}") from error
        self._read.update(zip(missing, vectors, strict=True))

    def _take(self, word: Word) -> Taken:
        """The nearest sense of a word, however far it is."""
        for phrase in map(fold, word.phrases):
            place = self._places.get(phrase)
            if place is not None:
                return self._as_taken(word, place, 1.0)
        cosines = self._cosines(word)
        best = int(cosines.argmax())
        return self._as_taken(word, best, float(min(1.0, cosines[best])))

    def _cosines(self, word: Word) -> NDArray[np.float32]:
        """Cosines ``(M,)`` of the nearest of a word's phrases to all known ones."""
        own = np.stack([self._read[fold(phrase)] for phrase in word.phrases])
        nearest: NDArray[np.float32] = (own @ self.vectors.T).max(axis=0)
        return nearest

    def _refuse(self, refused: Sequence[tuple[Word, Taken]]) -> str:
        """Why words are refused, in a line: of one the nearest known, of several the nearest of each."""
        advice = (
            f"expected a cosine of {LEAST_NEARNESS} or more): take words of its list, see "
            "docs/known_words.md, or another --vocabulary-model"
        )
        if len(refused) == 1:
            word = refused[0][0]
            cosines = self._cosines(word)
            order = np.argsort(-cosines, kind="stable")[:TOLD]
            near = ", ".join(f"{self.phrases[place]!r} {cosines[place]:.2f}" for place in order)
            head = f"the word {word.name!r} is far from all {len(self.phrases)} that the embedded model knows"
            return f"{head} (nearest: {near}; {advice}"
        shown = ", ".join(
            f"{word.name!r} (nearest {one.phrase!r} {one.nearness:.2f})" for word, one in refused[:MOST_TOLD]
        )
        more = f" and {len(refused) - MOST_TOLD} more" if len(refused) > MOST_TOLD else ""
        return f"{len(refused)} words are far from all that the embedded model knows: {shown}{more} ({advice}"

    def _as_taken(self, word: Word, place: int, nearness: float) -> Taken:
        return Taken(word.name, self.senses[self._owners[place]], self.phrases[place], nearness)


def share_classes(taken: Sequence[Taken], classes: int) -> NDArray[np.float32]:
    """How classes are shared among words: ``(K, C)`` float32, columns of sum 1, or 0 where no word claims
    one.

    A class that several words claim goes to the narrowest (a car is a car before it is a vehicle); equally
    narrow ones share it.
    """
    shares = np.zeros((len(taken), classes), np.float32)
    for number in range(classes):
        claims = [place for place, one in enumerate(taken) if number in one.sense.classes]
        if claims:
            narrow = min(len(taken[place].sense.classes) for place in claims)
            owners = [place for place in claims if len(taken[place].sense.classes) == narrow]
            shares[owners, number] = 1 / len(owners)
    return shares


def read_senses(told: Any, source: object) -> tuple[Sense, ...]:
    """Senses from the JSON of a file's header.

    Raises
    ------
    CheckpointError
        If they are not as :func:`write_senses` writes them.
    """
    try:
        found = tuple(
            Sense(str(one["name"]), tuple(map(str, one["phrases"])), tuple(map(int, one["classes"])))
            for one in told
        )
        classes = [one.classes[0] for one in found if len(one.classes) == 1]
        sound = classes == list(range(len(classes))) and all(one.phrases and one.classes for one in found)
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{source}: its list of words is damaged: write the file again") from error
    if not sound or not found:
        raise CheckpointError(f"{source}: its list of words is not in the order of its classes")
    return found


def write_senses(senses: Sequence[Sense]) -> list[dict[str, Any]]:
    """Senses as JSON can hold them."""
    return [{"name": one.name, "phrases": list(one.phrases), "classes": list(one.classes)} for one in senses]
