"""What models are asked, word for word: from a template file that a person may replace."""

from __future__ import annotations

import string
import tomllib
import unicodedata
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.names import show

OWN = Path(__file__).with_name("wording.toml")
MOST_LETTERS = 500
"""Longest phrase: what is longer describes no object."""
PLACES = {
    "ppg": ("phrase", "frame"),
    "box": ("phrase", "frame"),
    "points": ("box", "points", "phrase", "frame"),
}
"""What may stand in braces in each text; the first has to."""


@dataclass(frozen=True)
class Wording:
    """The texts of one kind of model.

    Parameters
    ----------
    box, ppg
        Ask for boxes, and for boxes with points; ``ppg`` is ``box`` where a model gives boxes alone.
    points
        Asks about points of a box; empty where a model answers no such question.
    system
        Said before all; empty for nothing.
    nothing
        What a model is to answer where there is no such object.
    yes, no
        The answers about a point.
    """

    box: str
    ppg: str = ""
    points: str = ""
    system: str = ""
    nothing: str = "No object found."
    yes: str = "Yes"
    no: str = "No"

    def __post_init__(self) -> None:
        for name, allowed in PLACES.items():
            _check_places(name, getattr(self, name), allowed)
        if not self.yes.strip() or not self.no.strip() or self.yes == self.no:
            raise ConfigError("wording: 'yes' and 'no' have to be two different words")

    def ask_boxes(self, phrase: str, frame: str, with_points: bool) -> str:
        """The question for boxes, and for points with them where they are wanted and can be had."""
        return ((with_points and self.ppg) or self.box).format(phrase=phrase, frame=frame)

    def ask_points(self, phrase: str, frame: str, box: str, points: str) -> str:
        """The question about points of a box."""
        return self.points.format(phrase=phrase, frame=frame, box=box, points=points)


def _check_places(name: str, text: str, allowed: tuple[str, ...]) -> None:
    try:
        used = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise ConfigError(f"wording: '{name}' cannot be read: {error}; write {{{{ for a brace") from error
    strange = [field for field in used if field not in allowed]
    if strange:
        listed = ", ".join(f"{{{field}}}" for field in allowed)
        raise ConfigError(f"wording: '{name}' holds {{{strange[0]}}}; expected only {listed}")
    if text and allowed[0] not in used:
        raise ConfigError(f"wording: '{name}' lacks {{{allowed[0]}}}, so it would ask for nothing")


def load_wording(kind: str, path: Path | None = None) -> Wording:
    """The texts for models of a kind (``model_type``), ours or those of a person's file.

    Raises
    ------
    MissingInputError
        If there is no such file.
    ConfigError
        If it is no TOML, or a text is missing or holds places that there are not.
    """
    file = path or OWN
    if not file.is_file():
        raise MissingInputError(f"{file}: no such file; check the path given with --wording")
    try:
        sections: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is no TOML of texts: {error}") from error
    section = sections.get(kind, sections.get("any"))
    if not isinstance(section, dict):
        raise ConfigError(f"{file}: has neither a section [{kind}] nor [any]")
    known = [field.name for field in fields(Wording)]
    for name, text in section.items():
        if name not in known or not isinstance(text, str):
            raise ConfigError(f"{file}: {name!r} is no text of a wording; expected {', '.join(known)}")
    if not section.get("box", "").strip():
        raise ConfigError(f"{file}: lacks 'box', the question for boxes")
    try:
        return Wording(**section)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def check_phrase(phrase: str) -> str:
    """What is looked for, white space collapsed.

    Raises
    ------
    InputError
        If it holds no letter or digit, is longer than :data:`MOST_LETTERS`, or holds control characters.
    """
    text = " ".join(phrase.split())
    if not any(letter.isalnum() for letter in text):
        raise InputError(f"the words are '{show(text)}'; expected what to look for, such as 'red roof'")
    if len(text) > MOST_LETTERS:
        raise InputError(f"the words have {len(text)} letters, expected at most {MOST_LETTERS}")
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Co", "Cn") for letter in text):
        raise InputError(f"the words '{show(text)[:60]}' hold control characters; type them anew")
    return text
