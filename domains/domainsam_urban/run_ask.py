"""``urban ask`` by keyword, and the same for scenes that are opened in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.infer.spread import SpreadOptions
from domainsam.keywords import check_keywords, keyword_names
from domainsam.prompter.language.keywords import ask_options as language_options
from domainsam.prompter.language.keywords import read_asked
from domainsam_urban.run import Paths, map_inputs, map_options
from domainsam_urban.run_alike import NO_PART, search_options
from domainsam_urban.settings import MapOptions

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_urban.job import Batch, SceneResult
    from domainsam_urban.read.scene import RasterSource

NOT_ASKED = (*NO_PART, *(item.name for item in fields(SpreadOptions)))
"""Options of :func:`~domainsam_urban.run.map_options` that have no part in asking about one scene."""


def ask_options(*, phrase: str, mllm: str | Path, **options: Any) -> MapOptions:
    """The options of ``domainsam urban ask`` as one value.

    Parameters
    ----------
    phrase
        What is looked for, in words.
    mllm
        As of :func:`domainsam.prompter.language.keywords.ask_options`.
    **options
        Its other keywords, and those of :func:`~domainsam_urban.run.map_options` that
        :func:`~domainsam_urban.run_alike.find_options` takes.

    Raises
    ------
    ConfigError
        If one is unknown or impossible.
    """
    asking = keyword_names(language_options)
    known = tuple(name for name in keyword_names(map_options) if name not in NOT_ASKED)
    check_keywords("urban ask", options, (*known, *asking))
    ask = language_options(mllm=mllm, **{name: options.pop(name) for name in asking if name in options})
    return replace(search_options(options), ask=ask, phrase=phrase)


def run_ask(inputs: Any, phrase: str, out: Paths, **options: Any) -> SceneResult | Batch:
    """Find in scenes what words mean, as ``domainsam urban ask`` does.

    Parameters
    ----------
    inputs
        A path or ``/vsi`` path, or several of them.
    phrase
        What is looked for.
    out, **options
        As ``-o``, and keywords of :func:`ask_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    DomainSamError
        Of a single scene, whatever made it fail.
    """
    return map_inputs(inputs, ask_options(phrase=phrase, out=out, **options))


def ask_in(
    source: RasterSource,
    folder: Path,
    foundation: Callable[[], Foundation],
    *,
    device: str = "auto",
    **how: Any,
) -> tuple[EngineResult, Foundation]:
    """Find what words mean in an opened scene: the part ``ask`` of :class:`~domainsam.packs.DomainPack`.

    Parameters
    ----------
    device
        As ``--device``.
    **how
        As of :func:`domainsam.prompter.language.keywords.read_asked`.

    Raises
    ------
    DomainSamError
        If the words say nothing, or the model cannot be asked.
    """
    from domainsam.marks import MarkFiles
    from domainsam.prompter.language.speakers import load_speaker
    from domainsam_urban.ask import find_asked
    from domainsam_urban.model.asked import AskedObjects

    phrase, chosen = read_asked("urban ask", **how)
    speaker = load_speaker(chosen, device)
    loaded = foundation()
    model = AskedObjects(
        MarkFiles(), loaded, loaded.device, "float32", phrase=phrase, speaker=speaker, ask=chosen
    )
    folder.mkdir(parents=True, exist_ok=True)
    return find_asked(source, model, folder), loaded
