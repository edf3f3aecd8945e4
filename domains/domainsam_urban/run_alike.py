"""``urban find`` by keyword, by example or by words, and the same for scenes that are opened in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.errors import ConfigError
from domainsam.keywords import check_choice, check_keywords, keyword_names, list_words, path_of
from domainsam_urban.run import Paths, map_inputs, map_options, several
from domainsam_urban.settings import WAYS, LikeOptions, MapOptions, ShapeOptions, WordOptions

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.prompter.everything import EverythingOptions
    from domainsam.protocols import Foundation
    from domainsam_urban.job import Batch, SceneResult
    from domainsam_urban.read.scene import RasterSource

ANY_SCORE = 1 / 254
"""Threshold of a raster of scores: every pixel of an object belongs, whatever the object's score."""
NO_PART = (
    *("threshold", "model", "classifier", "points", "boxes", "marks_frame", "tile", "overlap", "method"),
    *("no_box", "no_mask", "no_sam_embedding", "no_segformer_embedding", "views", "strict"),
    *("batch_size", "workers", "runtime", "merge"),
)
"""Options of :func:`~domainsam_urban.run.map_options` that have no part in a search by example."""
SIZES = ("min_area", "simplify", "close_holes")
"""Options that say how an object's outline is made."""


def find_options(
    *,
    like: Paths = (),
    words: str | Iterable[str] = (),
    vocabulary: str | Path | None = None,
    against: str | Iterable[str] | None = None,
    vocabulary_model: str | Path | None = None,
    proposals: str = WordOptions.proposals,
    unlike: Paths = (),
    method: str = LikeOptions.method,
    finetune: bool = False,
    least_score: float | None = None,
    most: int = LikeOptions.most,
    smallest: float = LikeOptions.smaller,
    largest: float = LikeOptions.larger,
    **options: Any,
) -> MapOptions:
    """The options of ``domainsam urban find`` as one value.

    Parameters
    ----------
    like, unlike
        Files of outlines: what is looked for, and what looks alike and is not wanted.
    words, vocabulary
        In their place: words that say what is looked for, and a file of such words.
    against, vocabulary_model, proposals
        As of :class:`~domainsam_urban.settings.WordOptions`; with words alone.
    method
        One of :data:`~domainsam_urban.settings.WAYS`.
    finetune
        Learn PerSAM-F's two weights on the examples; goes with ``persam``.
    least_score, most
        Least score of an object (0.5 by example, 0.3 by words), and the most objects.
    smallest, largest
        Least and greatest area, as factors of the examples'.
    **options
        Keywords of :func:`~domainsam_urban.run.map_options` but those of :data:`NO_PART`.

    Raises
    ------
    ConfigError
        If one is unknown or impossible.
    """
    known = tuple(name for name in keyword_names(map_options) if name not in NO_PART)
    check_keywords("urban find", options, (*known, *keyword_names(find_options)))
    asked = gather_asked(words, vocabulary, against, vocabulary_model, proposals, least_score, most)
    least = LikeOptions.least if least_score is None else least_score
    files = _paths(like), _paths(unlike)
    chosen = LikeOptions(*files, method, finetune, least, most, smallest, largest)
    check_one_way(chosen, asked)
    by_word = bool(asked.words or asked.vocabulary)
    return replace(
        search_options(options), like=None if by_word else chosen, words=asked if by_word else None
    )


def search_options(options: Mapping[str, Any]) -> MapOptions:
    """What a search in scenes has in common with a map: all of an object is outlined, whatever its score.

    Parameters
    ----------
    options
        Keywords of :func:`~domainsam_urban.run.map_options` but those of :data:`NO_PART`.

    Raises
    ------
    ConfigError
        If one is impossible.
    """
    job = map_options(**options)
    sizes = {name: options[name] for name in SIZES if options.get(name) is not None}
    return replace(job, shape=ShapeOptions(ANY_SCORE, **sizes), run=replace(job.run, method="full"))


def gather_asked(
    words: str | Iterable[str],
    vocabulary: str | Path | None,
    against: str | Iterable[str] | None,
    model: str | Path | None,
    proposals: str,
    least: float | None,
    most: int,
) -> WordOptions:
    """What is asked for by words, as one value; parameters as of :func:`find_options`."""
    listed = list_words(words)
    beside = (against,) if isinstance(against, str) else against
    return WordOptions(
        listed,
        path_of(vocabulary),
        tuple(beside) if beside else None,
        None if model is None else str(model),
        proposals,
        WordOptions.least if least is None else least,
        most,
    )


def check_one_way(like: LikeOptions, asked: WordOptions) -> None:
    """Refuse a search by example and by words at once, and options of the one with the other.

    Raises
    ------
    ConfigError
        If there is neither, or an option belongs to the other.
    """
    by_word = bool(asked.words or asked.vocabulary)
    if like.like and by_word:
        raise ConfigError("say what to look for in one way: --like an example, or --words")
    if not by_word:
        model, proposals = asked.model, asked.proposals != WordOptions.proposals
        words_own = {"against": asked.against, "vocabulary-model": model, "proposals": proposals}
        _refuse(words_own, "--words")
        check_search(like)
        return
    from domainsam.prompter.words import WordOptions as SearchOptions
    from domainsam.vocabulary.words import gather_words

    usual = LikeOptions()
    own: dict[str, object] = {
        "not": like.unlike,
        "finetune": like.finetune,
        **{
            name: getattr(like, field) != getattr(usual, field)
            for name, field in (("method", "method"), ("smallest", "smaller"), ("largest", "larger"))
        },
    }
    _refuse(own, "--like")
    SearchOptions(least=asked.least, most=asked.most, proposals=asked.proposals)  # type: ignore[arg-type]
    gather_words(asked.words, asked.vocabulary)
    if asked.against:
        gather_words(asked.against, what="--against")


def _refuse(given: Mapping[str, object], partner: str) -> None:
    for name, value in given.items():
        if value:
            raise ConfigError(f"--{name} goes with {partner}: leave it out, or give {partner}")


def check_search(like: LikeOptions) -> None:
    """Refuse a search that says not what to look for, or how in a way that there is not.

    Raises
    ------
    ConfigError
        If there is no example or no such way, it has no weights to learn, or a limit is impossible.
    """
    from domainsam_urban.alike import make_search_options

    check_choice("method", like.method, WAYS)
    if like.finetune and like.method != "persam":
        raise ConfigError("--finetune learns PerSAM-F's weights: it goes with --method persam")
    if not like.like:
        raise ConfigError(
            "nothing says what to look for: name an example, such as --like example.gpkg, or a word, such as "
            "--words roof"
        )
    make_search_options(like)


def _paths(given: Paths) -> tuple[Path, ...]:
    return tuple(map(Path, several(given)))


def run_find(inputs: Any, out: Paths, **options: Any) -> SceneResult | Batch:
    """Find in scenes what looks like an example, or what words say, as ``domainsam urban find`` does.

    Parameters
    ----------
    inputs
        A path or ``/vsi`` path, or several of them; the example has to lie in each.
    out, **options
        As ``-o``, and keywords of :func:`find_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    DomainSamError
        Of a single scene, whatever made it fail.
    """
    return map_inputs(inputs, find_options(out=out, **options))


def find_in(
    source: RasterSource,
    folder: Path,
    foundation: Callable[[], Foundation],
    *,
    like: Any = None,
    words: Any = (),
    vocabulary: str | Path | None = None,
    against: Any = None,
    vocabulary_model: Any = None,
    proposals: str = WordOptions.proposals,
    unlike: Any = (),
    method: str = LikeOptions.method,
    finetune: bool = False,
    least_score: float | None = None,
    most: int = LikeOptions.most,
    smallest: float = LikeOptions.smaller,
    largest: float = LikeOptions.larger,
    everything: bool = False,
    per_side: int | None = None,
    least_iou: float | None = None,
    least_stability: float | None = None,
    overlap: float = 0.7,
    least_area: int = 64,
) -> tuple[EngineResult, Foundation]:
    """Find what an example shows, words say, or everything, for :meth:`domainsam.opened.scene.Opened.find`.

    Parameters
    ----------
    folder
        Takes the staged answer.
    foundation
        Loads the foundation.
    vocabulary_model
        As of :func:`find_options`, or a model that is loaded already.
    like, words, vocabulary, against, proposals, unlike, method, finetune
    least_score, most, smallest, largest
        As of :func:`find_options`.
    everything
        Whether all that the foundation sees is found, whatever it looks like.
    per_side, least_iou, least_stability, overlap, least_area
        Then what is kept, as of :class:`domainsam.prompter.everything.EverythingOptions`.

    Raises
    ------
    ConfigError
        If there is no example.
    InputError
        If an example has no outline, lies outside or where there is no data, or covers everything.
    """
    import torch

    from domainsam.marks import MarkFiles
    from domainsam.prompter.everything import EverythingOptions
    from domainsam_urban.alike import find_alike
    from domainsam_urban.model.alike import AlikeObjects

    named = vocabulary_model if isinstance(vocabulary_model, str | Path) else None
    asked = gather_asked(words or (), vocabulary, against, named, proposals, least_score, most)
    folder.mkdir(parents=True, exist_ok=True)
    if everything:
        if like or asked.words or asked.vocabulary:
            raise ConfigError("find in one way: what an example shows, what words say, or everything=True")
        keep = EverythingOptions(per_side, least_iou, least_stability, overlap, least_area)
        return _find_everything(source, folder, foundation, keep)
    least = LikeOptions.least if least_score is None else least_score
    files = _paths(like or ()), _paths(unlike)
    chosen = LikeOptions(*files, method, finetune, least, most, smallest, largest)
    check_one_way(chosen, asked)
    if asked.words or asked.vocabulary:
        return _find_words(source, folder, foundation, asked, vocabulary_model)
    loaded = foundation()
    model = AlikeObjects(MarkFiles(), loaded, torch.device(loaded.device), "float32", like=chosen)
    return find_alike(source, source, model, folder), loaded


def _find_everything(
    source: RasterSource, folder: Path, foundation: Callable[[], Foundation], keep: EverythingOptions
) -> tuple[EngineResult, Foundation]:
    import torch

    from domainsam.marks import MarkFiles
    from domainsam_urban.everything import find_everything
    from domainsam_urban.model.settlement import MarkedObjects

    loaded = foundation()
    model = MarkedObjects(MarkFiles(), loaded, torch.device(loaded.device), "float32")
    return find_everything(source, model, keep, folder), loaded


def _find_words(
    source: RasterSource,
    folder: Path,
    foundation: Callable[[], Foundation],
    asked: WordOptions,
    model: Any,
) -> tuple[EngineResult, Foundation]:
    import torch

    from domainsam.marks import MarkFiles
    from domainsam.vocabulary import load_vocabulary_model
    from domainsam.vocabulary.words import gather_words
    from domainsam_urban.model.worded import WordedObjects
    from domainsam_urban.worded import find_worded

    words = gather_words(asked.words, asked.vocabulary, "words")
    namer = load_vocabulary_model(model) if model is None or isinstance(model, str | Path) else model
    namer.understand(words)
    loaded = foundation()
    device = torch.device(loaded.device)
    worded = WordedObjects(
        MarkFiles(), loaded, device, "float32", name=namer.name, namer=namer, words=words, asked=asked
    )
    return find_worded(source, worded, folder), loaded
