"""``urban label`` by keyword: what Python and the command line share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.errors import ConfigError
from domainsam.keywords import (
    PRECISIONS,
    check_choice,
    check_keywords,
    check_least,
    keyword_names,
    list_words,
    parts_of,
    path_of,
)
from domainsam_urban.settings import LabelOptions, ReadOptions

if TYPE_CHECKING:
    from domainsam.protocols import Namer
    from domainsam_urban.label import LabelResult


def label_options(
    *,
    out: str | Path,
    words: str | Iterable[str] = (),
    vocabulary: str | Path | None = None,
    vocabulary_model: str | Path | None = None,
    least_score: float = LabelOptions.least,
    layer: str | None = None,
    bands: str | Iterable[int] | None = None,
    nodata: float | None = None,
    resolution: float | None = None,
    normalize: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> LabelOptions:
    """The options of ``domainsam urban label`` as one value.

    Raises
    ------
    ConfigError
        If one is impossible, or no word is given.
    """
    check_choice("precision", precision, PRECISIONS)
    check_choice("normalize", normalize, ("auto", "scene", "dtype"))
    check_least(0, least_score=least_score)
    listed = list_words(words)
    if not listed and vocabulary is None:
        raise ConfigError("nothing says what outlines may be called: give --vocabulary words.txt or --words")
    read = ReadOptions(None if bands is None else parts_of(bands, int), nodata, resolution, normalize)
    model = None if vocabulary_model is None else str(vocabulary_model)
    return LabelOptions(
        Path(out),
        listed,
        path_of(vocabulary),
        model,
        least_score,
        layer,
        read,
        str(device),
        precision,
        overwrite,
        quiet,
    )


def run_label(
    outlines: str | Path, scene: str | Path, out: str | Path, model: Namer | None = None, **options: Any
) -> LabelResult:
    """Name outlines by what a scene shows inside them, as ``domainsam urban label`` does.

    Parameters
    ----------
    model
        A model of words that is loaded already.
    out, **options
        As ``-o``, and keywords of :func:`label_options`.

    Raises
    ------
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_urban.label import label_outlines

    check_keywords("urban label", options, keyword_names(label_options))
    return label_outlines(Path(outlines), str(scene), label_options(out=out, **options), model)
