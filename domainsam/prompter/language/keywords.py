"""What is said of a language model by keyword: the same names in Python and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from domainsam.keywords import check_keywords, keyword_names, path_of
from domainsam.prompter.language.speakers import AskOptions


def ask_options(
    *,
    mllm: str | Path,
    mode: str = AskOptions.mode,
    coordinates: str | None = None,
    wording: str | Path | None = None,
    adapter: str | Path | None = None,
    max_tokens: int = AskOptions.max_tokens,
    query_pattern: str = AskOptions.pattern,
    query_points: int = AskOptions.points,
    sure_yes: float = AskOptions.yes,
    sure_no: float = AskOptions.no,
    least_score: float = AskOptions.least,
    most: int = AskOptions.most,
    asked_together: int = AskOptions.at_once,
    timeout: float = AskOptions.timeout,
) -> AskOptions:
    """Which model is asked, and how, as one value.

    Parameters
    ----------
    mllm
        As ``--mllm``: a folder, a name in the local cache, or the address of a server.
    mode, coordinates, wording, adapter, max_tokens, timeout
        As of :class:`~domainsam.prompter.language.speakers.AskOptions`.
    query_pattern, query_points
        Points of a box in mode ``pqpp``.
    sure_yes, sure_no
        Least confidence for a point on the object, and beside it.
    least_score, most
        Least score of an object, and the most objects.
    asked_together
        Questions answered together.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    return AskOptions(
        str(mllm),
        mode,
        coordinates,
        path_of(wording),
        path_of(adapter),
        max_tokens,
        query_pattern,
        query_points,
        sure_yes,
        sure_no,
        least_score,
        most,
        asked_together,
        timeout,
    )


def read_asked(job: str, *, ask: str, mllm: str | Path, **how: Any) -> tuple[str, AskOptions]:
    """A phrase, and who is asked and how, of what :meth:`~domainsam.opened.scene.Opened.find` was given.

    Parameters
    ----------
    job
        The job's name, for the message.
    ask
        The phrase.
    mllm, **how
        As of :func:`ask_options`.

    Raises
    ------
    ConfigError
        If a keyword is unknown or impossible.
    """
    check_keywords(job, how, keyword_names(ask_options))
    return ask, ask_options(mllm=mllm, **how)
