"""Prompt sources: specialists and others that say where objects are.

Ours are named in :data:`PROMPTERS`; a package of its own adds to them by the
entry-point group ``domainsam.prompters``, where an entry point names a class.
Nothing is imported until it is asked for. What says *what* objects are is in
:mod:`domainsam.vocabularies`.
"""

from __future__ import annotations

from typing import Any

from domainsam.plugins import find_paths, load_path

GROUP = "domainsam.prompters"

PROMPTERS: dict[str, str] = {
    "segformer": "domainsam.infer.specialist:SpecialistSource",
    "clicks": "domainsam.prompter.clicks:Clicks",
    "example": "domainsam.prompter.example:ExampleSource",
    "track": "domainsam.prompter.track:TrackSource",
    "everything": "domainsam.prompter.everything:EverythingSource",
    "language": "domainsam.prompter.language.source:LanguageSource",
    "words": "domainsam.prompter.words:WordSource",
}
"""Name and ``"module:class"`` of what finds objects here."""


def find_prompters() -> dict[str, str]:
    """``"module:class"`` of ours and other packages' prompt sources by name."""
    return find_paths(GROUP, PROMPTERS, "prompt source")


def load_prompter(name: str) -> Any:
    """The class of that name.

    Raises
    ------
    PackError
        If there is none, or it cannot be imported.
    """
    return load_path(name, find_prompters(), "prompt source")
