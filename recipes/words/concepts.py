"""The concepts of ``concepts.txt``: what the model knows, by which words, and words kept back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from domainsam.vocabulary.known import Sense
from domainsam.vocabulary.words import fold

FILE = Path(__file__).with_name("concepts.txt")
GROUP = "group:"
"""How lines begin of words that stand for several concepts."""


@dataclass(frozen=True)
class Concept:
    """A thing with a name.

    ``words`` are the name and what else it is called; ``kept_back`` are words
    that no training sees; ``sources`` are names that data sets give it, ``coco:sky``.
    """

    name: str
    words: tuple[str, ...]
    kept_back: tuple[str, ...]
    sources: tuple[str, ...]


def read_concepts(path: Path = FILE) -> list[Concept]:
    """All concepts, in the file's order; a word belongs to one of them.

    Raises
    ------
    ValueError
        If a line has not four parts, or a word or a source occurs twice.
    """
    found: list[Concept] = []
    seen: set[str] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("#", GROUP)):
            continue
        name, words, kept_back, sources = (part.strip() for part in line.split("|"))
        concept = Concept(
            name,
            (name, *(word.strip() for word in words.split(","))),
            tuple(word.strip() for word in kept_back.split(",")),
            tuple(sources.split()),
        )
        doubled = seen & {*concept.words, *concept.kept_back, *concept.sources}
        if doubled:
            raise ValueError(f"{path}: {sorted(doubled)} occur twice")
        seen |= {*concept.words, *concept.kept_back, *concept.sources}
        found.append(concept)
    return found


def index_sources(concepts: list[Concept]) -> dict[str, int]:
    """From a set's name for a thing to the concept's number."""
    return {source: number for number, one in enumerate(concepts) for source in one.sources}


def read_groups(concepts: list[Concept], path: Path = FILE) -> list[tuple[Concept, tuple[int, ...]]]:
    """Words for several concepts, and the numbers of these.

    Raises
    ------
    ValueError
        If a member is no concept.
    """
    numbers = {one.name: number for number, one in enumerate(concepts)}
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(GROUP):
            continue
        name, words, kept_back, members = (part.strip() for part in line.removeprefix(GROUP).split("|"))
        listed = [member.strip() for member in members.split(",")]
        unknown = [member for member in listed if member not in numbers]
        if unknown:
            raise ValueError(f"{path}: group {name!r} has members that are no concepts: {unknown}")
        phrases = (name, *(word.strip() for word in words.split(",")))
        group = Concept(name, phrases, (kept_back,), ())
        found.append((group, tuple(numbers[member] for member in listed)))
    return found


def list_senses(
    concepts: list[Concept], groups: list[tuple[Concept, tuple[int, ...]]], taught: set[int]
) -> list[Sense]:
    """Concepts that were ``taught``, and groups of them, as the model's file holds them, phrases folded."""
    classes = {number: place for place, number in enumerate(sorted(taught))}
    alone = [(concepts[number], (place,)) for number, place in classes.items()]
    groups = [
        (one, tuple(classes[number] for number in members if number in taught)) for one, members in groups
    ]
    return [
        Sense(one.name, tuple(dict.fromkeys(map(fold, one.words))), classes)
        for one, classes in [*alone, *groups]
    ]
