"""``ct ask`` by keyword, and the same for scans that are opened in Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.errors import ConfigError
from domainsam.keywords import check_keywords, check_least, keyword_names
from domainsam.prompter.language.keywords import ask_options as language_options
from domainsam_ct.ask.settings import EVERY_MM, WINDOWS, AskJobOptions
from domainsam_ct.labels import check_name
from domainsam_ct.run import segment_options
from domainsam_ct.run_alike import NO_PART_IN_FIND

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_ct.job import Batch, CaseResult
    from domainsam_ct.read.open import VolumeSource

NO_PART = (*NO_PART_IN_FIND, "model", "organs", "batch_size", "workers")
"""Options of :func:`~domainsam_ct.run.segment_options` that have no part in it."""
ARTICLES = re.compile(r"^(?:the|an?|both|all)\s+", re.IGNORECASE)
UNNAMED = "asked"
"""What a mask is called whose words hold no letter that file names may hold."""


def ask_options(
    *,
    phrase: str,
    mllm: str | Path,
    out: str | Path,
    label: str | None = None,
    every: float = EVERY_MM,
    parts: int = 1,
    window: str | Iterable[float] | None = None,
    allow_remote: bool = False,
    **options: Any,
) -> AskJobOptions:
    """The options of ``domainsam ct ask`` as one value.

    Parameters
    ----------
    phrase
        What is looked for, in words.
    mllm
        As of :func:`domainsam.prompter.language.keywords.ask_options`.
    label
        What the mask calls it; by default made of the phrase: ``spleen`` of "the spleen".
    every
        Distance in millimetres of the slices that are asked about.
    parts
        So many parts that do not touch belong to it at most.
    window
        Two Hounsfield units, or one of :data:`~domainsam_ct.ask.settings.WINDOWS`; by default as the phrase
        suggests.
    allow_remote
        Whether slices may be sent to another machine.
    **options
        Other keywords of both, but those of :data:`NO_PART`.

    Raises
    ------
    ConfigError
        If one is unknown or impossible.
    """
    asking = keyword_names(language_options)
    known = [name for name in keyword_names(segment_options) if name not in NO_PART]
    check_keywords("ct ask", options, (*known, *asking, *keyword_names(ask_options)))
    check_least(0.1, every=every)
    check_least(1, parts=parts)
    ask = language_options(mllm=mllm, **{name: options.pop(name) for name in asking if name in options})
    limits = WINDOWS.get(window, window) if isinstance(window, str) else window
    job = segment_options(out=out, window=limits, cleanup="none", fill_holes="none", **options)
    name = make_label(phrase) if label is None else label
    if not check_name(name):
        raise ConfigError(f"label is {name!r}; expected letters, digits, '_', '-' and '.' alone")
    ask = replace(ask, allow_remote=allow_remote)
    return AskJobOptions(job, phrase, ask, name, every, parts)


def make_label(phrase: str) -> str:
    """A name for a mask: the phrase without its article, ``left_kidney`` of "the left kidney"."""
    text = ARTICLES.sub("", " ".join(phrase.split()))
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", text.lower()).strip("_.-")[:60]
    return name if name and check_name(name) else UNNAMED


def run_ask(scan: str | Path, phrase: str, out: str | Path, **options: Any) -> CaseResult | Batch:
    """Find in a scan what words mean, as ``domainsam ct ask`` does.

    Parameters
    ----------
    scan
        A volume file, DICOM folder or zip of one.
    phrase
        What is looked for.
    out, **options
        As ``-o``, and keywords of :func:`ask_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible, or slices would leave this machine.
    DomainSamError
        Whatever else made it fail.
    """
    from domainsam_ct.ask.cases import ask_scan

    batch = ask_scan(Path(scan), ask_options(phrase=phrase, out=out, **options))
    return batch.results[0] if batch.results else batch


def ask_in(
    source: VolumeSource,
    folder: Path,
    foundation: Callable[[], Foundation],
    *,
    ask: str,
    device: str = "auto",
    **how: Any,
) -> tuple[EngineResult, Foundation]:
    """Find what words mean in an opened scan: the part ``ask`` of :class:`~domainsam.packs.DomainPack`.

    Parameters
    ----------
    device
        As ``--device``.
    ask, **how
        The phrase, and keywords of :func:`ask_options`.

    Raises
    ------
    DomainSamError
        If slices would leave this machine and that was not allowed, the words say nothing, or the model
        cannot be asked.
    """
    from domainsam_ct.ask.cases import load_asking
    from domainsam_ct.ask.volume import ask_volume
    from domainsam_ct.model.sweep import SliceRun
    from domainsam_ct.read.volume import ABDOMEN_WINDOW

    for name in ("phrase", "out", "window"):
        if name in how:
            raise ConfigError(f"{name!r} is said by ask=, save() or open(), not here: leave it out")
    # The window of a scan that was opened without one is that of the model.
    window = None if source.window == ABDOMEN_WINDOW else source.window
    chosen = ask_options(phrase=ask, out=folder / "asked.nii.gz", window=window, device=device, **how)
    loaded = foundation()
    asking, _ = load_asking(chosen, loaded)
    folder.mkdir(parents=True, exist_ok=True)
    return ask_volume(source.volume, asking, SliceRun(folder, {}, 1)), loaded
