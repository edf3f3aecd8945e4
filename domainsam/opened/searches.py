"""Searches of an opened scene, where nothing is marked: which one is meant, and who runs it.

A pack that searches itself is handed over to. Elsewhere words and phrases find objects too, as prompt sources
that are decoded as marks are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainsam.errors import ConfigError
from domainsam.infer.objects import EngineResult
from domainsam.keywords import check_keywords, keyword_names
from domainsam.packs import DomainPack
from domainsam.prompter.words import WordOptions, WordSource
from domainsam.protocols import Foundation, PromptSource, Source
from domainsam.vocabulary.words import gather_words

LoadFoundation = Callable[[], Foundation]
MakeSource = Callable[[str, Mapping[str, Any], LoadFoundation, str], PromptSource]
"""From the pack's name, keywords, what loads the foundation, and the device."""
WORD_OPTIONS = ("vocabulary", "vocabulary_model", "against", "least_score", "most", "proposals")
"""What a search by words may be told where the pack knows none."""


@dataclass(frozen=True)
class Search:
    """One search.

    Parameters
    ----------
    part
        The pack's part that runs it: ``find`` or ``ask``.
    how
        What is looked for, and the options of the search, by keyword.
    make_source
        Makes what says where objects are, where the pack has no such search; None where it has.
    """

    part: str
    how: Mapping[str, Any]
    make_source: MakeSource | None = None


def choose_search(
    pack: DomainPack,
    how: Mapping[str, Any],
    *,
    marked: bool,
    like: Any,
    track: Any,
    everything: bool,
    words: str | Sequence[str] | None,
    ask: str | None,
) -> Search | None:
    """The search that keywords of :meth:`~domainsam.opened.scene.Opened.find` mean; None if there is none.

    Parameters
    ----------
    how
        Further options.
    marked
        Whether objects are marked.

    Raises
    ------
    ConfigError
        If there are several, or one beside marks.
    """
    by_word = words is not None or how.get("vocabulary") is not None
    by_example = like is not None or track is not None
    if sum((marked, by_word, by_example, everything, ask is not None)) > 1:
        raise ConfigError(
            "say what to find in one way: by marks, or by a search (words=, ask=, like=, track= or "
            "everything=True)"
        )
    if by_word:
        return Search("find", {"words": words or (), **how}, None if _knows_words(pack) else make_word_source)
    if ask is not None:
        return Search("ask", {"ask": ask, **how}, None if pack.ask is not None else make_language_source)
    if by_example or everything:
        return Search("find", {"like": like, "track": track, "everything": everything or None, **how})
    return None


def _knows_words(pack: DomainPack) -> bool:
    return pack.find is not None and "words" in keyword_names(pack.load("find"))


def refuse_with_search(**given: Any) -> None:
    """Refuse options of marks where a search was asked for: they would have no effect.

    Raises
    ------
    ConfigError
        If one was given.
    """
    for name, value in given.items():
        if value is not None:
            raise ConfigError(
                f"{name!r} belongs to marks and has no part in a search (words=, ask=, like=, track= or "
                "everything=True): leave it out"
            )


def require_model(search: Search) -> None:
    """Refuse to ask nobody.

    Raises
    ------
    ConfigError
        If a language model is to be asked, and none is named.
    """
    if search.part == "ask" and search.how.get("mllm") is None:
        raise ConfigError("ask= needs a language model: name it with mllm=, a folder or an address")


def run_by_pack(
    pack: DomainPack, search: Search, source: Source, folder: Path, load: LoadFoundation, device: str
) -> tuple[EngineResult, Foundation | None]:
    """What a pack finds, staged in ``folder``, and the foundation that took part.

    Raises
    ------
    PackError
        If the pack has no such search.
    ConfigError
        If an option is unknown.
    """
    job = pack.load(search.part)
    names = keyword_names(job)
    given = {name: value for name, value in search.how.items() if value is not None}
    if search.part == "find":
        # What is asked passes the rest on, and checks it there.
        check_keywords(f"{pack.name} find", given, names)
    if "device" in names:
        given["device"] = device
    answer, foundation = job(source, folder, load, **given)
    return answer, foundation


def make_word_source(pack: str, how: Mapping[str, Any], load: LoadFoundation, device: str) -> PromptSource:
    """Words of a vocabulary, looked for among what the foundation proposes.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    WeightsError, CheckpointError
        If a model cannot be loaded.
    """
    from domainsam.vocabulary import load_vocabulary_model

    check_keywords(f"{pack} find", [name for name in how if name != "words"], WORD_OPTIONS)
    given = {name: how[name] for name in ("most", "proposals") if how.get(name) is not None}
    if how.get("least_score") is not None:
        given["least"] = how["least_score"]
    model = how.get("vocabulary_model")
    if model is None or isinstance(model, str | Path):
        model = load_vocabulary_model(model, device)
    against = how.get("against") or ()
    foundation = load()
    return WordSource(
        model,
        gather_words(how["words"], how.get("vocabulary"), "words"),
        foundation,
        gather_words(against, what="against") if against else (),
        WordOptions(**given),
    )


def make_language_source(
    pack: str, how: Mapping[str, Any], load: LoadFoundation, device: str
) -> PromptSource:
    """A language model, asked what a phrase means in tiles of the scene.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    WeightsError, CheckpointError, EndpointError
        If a model cannot be loaded or reached.
    """
    from domainsam.prompter.language.keywords import read_asked
    from domainsam.prompter.language.source import LanguageSource
    from domainsam.prompter.language.speakers import load_speaker

    phrase, options = read_asked(f"{pack} find", **how)
    foundation = load()
    return LanguageSource(load_speaker(options, device), phrase, foundation, options)
