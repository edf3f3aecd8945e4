"""The concepts of ``concepts.txt``: what the word head knows, by which words, and which words are kept back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("concepts.txt")


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
        if line.startswith("#"):
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
