"""Find in a scene what words say: named objects, ranked over the whole scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from domainsam.errors import InputError
from domainsam.infer.networks import Networks
from domainsam.infer.objects import EngineResult
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.words import WordOptions as SearchOptions
from domainsam.prompter.words import WordSource
from domainsam.protocols import Namer, Understood, Word
from domainsam.vocabulary.words import parse_word
from domainsam_urban.alike import WatchedView
from domainsam_urban.job import WORDED
from domainsam_urban.model.worded import WordedObjects
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import AGAINST
from domainsam_urban.write.staged import stage_found

MOST_LABELS = 254
"""Labels of a map are numbers of a byte."""


def find_worded(
    source: RasterSource, model: WordedObjects, folder: Path, progress: Progress = report_nothing
) -> EngineResult:
    """Find what words say, best first; finding nothing is an answer.

    Raises
    ------
    InputError
        If the model does not understand a word.
    OutputError
        If the folder cannot be written.
    """
    begin = perf_counter()
    networks = Networks(model.foundation, model.device, model.precision)
    view = WatchedView(
        source, networks, model.foundation, progress=progress, side=model.foundation.image_size
    )
    search = make_search(model)
    found = tuple(search.find(view))
    told = {"way": WORDED, "words": [word.name for word in model.words], **search.told}
    seconds = {"search": perf_counter() - begin}
    named = [word.name for word in model.words]
    return stage_found(source, found, named, folder, told, seconds)


def make_search(model: WordedObjects) -> WordSource:
    """The search for a model's words.

    Raises
    ------
    InputError
        If there are too many words for one map, or one is not understood.
    """
    if len(model.words) > MOST_LABELS:
        raise InputError(
            f"{len(model.words)} words are looked for; a map holds at most {MOST_LABELS}: give fewer, or "
            "name outlines by as many as you like with 'domainsam urban label'"
        )
    given = model.asked.against
    against = (
        choose_known(model.namer, AGAINST, model.words) if given is None else tuple(map(parse_word, given))
    )
    options = SearchOptions(
        least=model.asked.least,
        most=model.asked.most,
        proposals=model.asked.proposals,  # type: ignore[arg-type]
    )
    return WordSource(model.namer, model.words, model.foundation, against, options)


def choose_known(namer: Namer, names: Sequence[str], wanted: Sequence[Word]) -> tuple[Word, ...]:
    """Those of the names that a model understands, each taken as something else than wanted and other words.

    A model of a closed list may take ``house`` as ``building``, and ``car`` as one kind of ``vehicle``: such
    words would take the other's score.
    """
    taken = {sense for one in namer.understand(wanted) for sense in _senses(one)}
    known = []
    for name in names:
        try:
            (one,) = namer.understand([Word(name)])
        except InputError:
            continue
        senses = _senses(one)
        if not senses & taken:
            known.append(Word(name))
            taken |= senses
    return tuple(known)


def _senses(one: Understood) -> frozenset[int | str]:
    """What a word is taken as: classes, else the known word; nothing of a model that reads any word."""
    return one.classes or (frozenset() if one.known is None else frozenset({one.known}))
