"""Models that know what words look like, behind one door.

:func:`load_vocabulary_model` loads one by name or path; the table of those that there are is
:mod:`domainsam.vocabularies`. Importing this package imports no model and no torch.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from domainsam.errors import WeightsError
from domainsam.licences import tell_once
from domainsam.machine import choose_device, choose_precision
from domainsam.plugins import import_attribute
from domainsam.vocabularies import VOCABULARIES, VocabularySpec, find_vocabularies

if TYPE_CHECKING:
    from domainsam.protocols import Namer

__all__ = ["DEFAULT", "load_vocabulary_model", "split_name"]

DEFAULT = "embedded"


def load_vocabulary_model(
    name_or_path: str | Path | None = None, device: str = "auto", precision: str = "auto"
) -> Namer:
    """A model of words by name, by ``NAME:PATH``, or from a file or folder that tells which it is.

    Parameters
    ----------
    name_or_path
        A name of :func:`domainsam.vocabularies.find_vocabularies` (its files are looked for where weight
        files are), a name and a path with a colon between them, or a path; None for :data:`DEFAULT`.
    device, precision
        As ``--device`` and ``--precision``.

    Returns
    -------
    Namer
        Some are a :class:`~domainsam.protocols.WordMapper` or a :class:`~domainsam.protocols.WordFinder` too.

    Raises
    ------
    WeightsError
        If the name is unknown, or a file is nowhere to be found; the text says what to get.
    CheckpointError
        If a file is damaged or no model's.
    DependencyError
        If a package that it needs is not installed.
    ConfigError
        If the device is unknown or absent.
    """
    import torch

    where = choose_device(device)
    kind = getattr(torch, choose_precision(precision, where))
    row, path = split_name(str(name_or_path or DEFAULT))
    if row.notice:
        tell_once(row.notice)
    loader = import_attribute(row.loader)
    model: Namer = loader(row.name, path, torch.device(where), kind)
    return model


def split_name(text: str) -> tuple[VocabularySpec, Path | None]:
    """The row that a name, a ``NAME:PATH`` or a path stands for, and the path if there is one.

    Raises
    ------
    WeightsError
        If there is neither such a name nor such a path.
    CheckpointError
        If what lies there is no known model's.
    """
    rows = VOCABULARIES if text in VOCABULARIES else find_vocabularies()
    if text in rows:
        return rows[text], None
    name, colon, rest = text.partition(":")
    if colon and name in rows and rest:
        path = Path(rest).expanduser()
        if not path.exists():
            raise WeightsError(f"{name}: there is no file or folder {rest!r}; check the path after the colon")
        return rows[name], path
    path = Path(text).expanduser()
    if path.exists():
        from domainsam.vocabulary.loading import identify

        return rows[identify(path)], path
    near = get_close_matches(name, rows, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise WeightsError(
        f"no model of words or weight file {text!r}; {hint}known names: {', '.join(rows)}; "
        "otherwise give a path, or NAME:PATH"
    )
