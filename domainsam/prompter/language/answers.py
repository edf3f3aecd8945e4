"""What a model's answer means: places, nothing, or no answer at all; and answers that are kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from domainsam.names import show
from domainsam.prompter.language.codecs import CoordinateCodec, Fractions, OutsideError, Size, Spot

Kind = Literal["found", "nothing", "unanswered"]
MOST_PLACES = 200
"""More places in one picture are no answer but a model that repeats itself."""
NOTHING = re.compile(
    r"^\W*(?:no|none|nothing|n/?a)\b"
    r"|\bno (?:such )?(?:objects?|match(?:es)?|instances?)\b"
    r"|\bthere (?:is|are) no(?:ne|t|thing)?\b"
    r"|\b(?:not|cannot|can't|isn't|aren't|don't) (?:be )?(?:found|visible|present|shown|seen|see|find|any)\b"
    r"|^\W*\[\s*\]\W*$",
    re.IGNORECASE,
)
"""How models say that there is no such object."""


@dataclass(frozen=True)
class Said:
    """A text that a model wrote.

    Parameters
    ----------
    text
        Without the tokens that end it.
    sure
        Geometric mean of the probabilities of its tokens, 0 to 1; 1 where a server does not tell.
    finished
        Whether the model ended it, and not the limit of tokens.
    """

    text: str
    sure: float = 1.0
    finished: bool = True

    def document(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"text": self.text, "sure": round(self.sure, 6), "finished": self.finished}


@dataclass(frozen=True)
class Answer:
    """What an answer means: ``places`` where it is ``found``, ``why`` where it is no answer."""

    kind: Kind
    places: tuple[tuple[Fractions | None, tuple[Spot, ...]], ...] = ()
    why: str = ""


def understand(said: Said, codec: CoordinateCodec, size: Size, nothing: str) -> Answer:
    """The meaning of a text; prose, numbers outside the picture and texts without an end are no answers.

    Parameters
    ----------
    size
        Height and width of the picture as the model sees it.
    nothing
        The words for no such object that it was asked to use.
    """
    if not said.finished:
        return Answer("unanswered", why="it did not come to an end within --max-tokens")
    try:
        found = codec.read(said.text, size)
    except OutsideError as error:
        return Answer("unanswered", why=f"it points outside the picture: {error}")
    places = tuple(dict.fromkeys((box, tuple(spots)) for box, spots in found))
    if len(places) > MOST_PLACES:
        return Answer("unanswered", why=f"it names {len(places)} places, more than {MOST_PLACES}")
    if any(box is None and not any(inside for *_, inside in spots) for box, spots in places):
        return Answer("unanswered", why="its points all lie beside the object")
    if places:
        return Answer("found", places)
    text = said.text.strip()
    if nothing.strip().rstrip(".").lower() in text.lower() or NOTHING.search(text):
        return Answer("nothing")
    return Answer("unanswered", why=f"it is prose: '{show(text)[:80]}'" if text else "it is empty")


class Memory(Protocol):
    """Keeps answers under keys; what is kept is never asked again."""

    def recall(self, key: str) -> Any:
        """What was kept under a key, None if nothing was."""
        ...

    def keep(self, key: str, value: Any) -> None:
        """Keep what JSON can hold; it is safe when this returns."""
        ...


class ShortMemory:
    """Answers of this process alone: a :class:`Memory`."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def recall(self, key: str) -> Any:
        """As of :class:`Memory`."""
        return self.kept.get(key)

    def keep(self, key: str, value: Any) -> None:
        """As of :class:`Memory`."""
        self.kept[key] = value


def key_of(picture: bytes, turns: Sequence[tuple[str, str]], *about: object) -> str:
    """A key for a question: it tells apart pictures, texts and whatever else decides the answer."""
    digest = hashlib.sha256(picture)
    digest.update(json.dumps([list(turns), *map(str, about)]).encode())
    return digest.hexdigest()[:32]
