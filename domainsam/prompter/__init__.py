"""Specialists that say where objects are, and namers that say what they are.

Ours are named in :data:`PROMPTERS`; a package of its own adds to them by the
entry-point groups ``domainsam.prompters`` and ``domainsam.namers``, where an
entry point names a class. Nothing is imported until it is asked for.
"""

from __future__ import annotations

from typing import Any

from domainsam.plugins import find_paths, load_path

GROUP = "domainsam.prompters"
NAMER_GROUP = "domainsam.namers"

PROMPTERS: dict[str, str] = {
    "segformer": "domainsam.infer.specialist:SpecialistSource",
    "clicks": "domainsam.prompter.clicks:Clicks",
    "example": "domainsam.prompter.example:ExampleSource",
    "track": "domainsam.prompter.track:TrackSource",
    "everything": "domainsam.prompter.everything:EverythingSource",
    "language": "domainsam.prompter.language.source:LanguageSource",
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


def find_namers() -> dict[str, str]:
    """``"module:class"`` of the namers that packages offer, by name."""
    return find_paths(NAMER_GROUP, {}, "namer")


def load_namer(name: str) -> Any:
    """The class of that name.

    Raises
    ------
    PackError
        If there is none, or it cannot be imported.
    """
    return load_path(name, find_namers(), "namer")
