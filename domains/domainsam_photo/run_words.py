"""Jobs that take words, by keyword: ``photo refer``, ``label``, ``semantic``; and asking an open picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.keywords import check_keywords, check_least, keyword_names, list_words, path_of
from domainsam_photo.run import list_paths, run_options
from domainsam_photo.settings import LabelOptions, ReferOptions, SemanticOptions

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation, Namer
    from domainsam_photo.job import Batch, PictureResult
    from domainsam_photo.label import LabelResult
    from domainsam_photo.segment import PhotoSource
    from domainsam_photo.semantic import Maps


def refer_options(
    *,
    out: str | Path,
    mllm: str | Path,
    foundation: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    overlay: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
    made_by: str = "domainsam",
    **ask: Any,
) -> ReferOptions:
    """The options of ``domainsam photo refer`` as one value.

    ``ask`` as of :func:`domainsam.prompter.language.keywords.ask_options`, the others of :func:`run_options`.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    from domainsam.prompter.language.keywords import ask_options

    check_keywords("photo refer", ask, keyword_names(ask_options, refer_options))
    run = run_options(
        out=out,
        foundation=foundation,
        device=device,
        precision=precision,
        overlay=overlay,
        overwrite=overwrite,
        resume=resume,
        quiet=quiet,
        made_by=made_by,
    )
    return ReferOptions(run, ask_options(mllm=mllm, **ask))


def run_refer(picture: str | Path, phrase: str, out: str | Path, **options: Any) -> PictureResult | Batch:
    """Segment in a picture what a phrase means; keywords of :func:`refer_options`.

    Raises
    ------
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_photo.refer import refer_picture

    batch = refer_picture(Path(picture), phrase, refer_options(out=out, **options))
    return batch.results[0] if batch.results else batch


def label_options(
    *,
    out: str | Path | None = None,
    words: str | Iterable[str] = (),
    vocabulary: str | Path | None = None,
    vocabulary_model: str | Path | None = None,
    points: str | Path | None = None,
    boxes: str | Path | None = None,
    masks: str | Path | None = None,
    least_score: float = 0.0,
    foundation: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    overlay: bool = True,
    overwrite: bool = False,
    quiet: bool = False,
    made_by: str = "domainsam",
) -> LabelOptions:
    """The options of ``domainsam photo label`` as one value; without ``out`` nothing is written.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    check_least(0, least_score=least_score)
    run = run_options(
        out=out or Path(),
        foundation=foundation,
        device=device,
        precision=precision,
        overlay=overlay,
        overwrite=overwrite,
        quiet=quiet,
        made_by=made_by,
    )
    return LabelOptions(
        run,
        list_words(words),
        path_of(vocabulary),
        None if vocabulary_model is None else str(vocabulary_model),
        path_of(points),
        path_of(boxes),
        path_of(masks),
        least_score,
        out is not None,
    )


def run_label(picture: str | Path, model: Namer | None = None, **options: Any) -> LabelResult:
    """Name what is marked in a picture; keywords of :func:`label_options`.

    Parameters
    ----------
    model
        A model of words that is loaded already.

    Raises
    ------
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_photo.label import label_picture

    check_keywords("photo label", options, keyword_names(label_options))
    return label_picture(Path(picture), label_options(**options), model)


def semantic_options(
    *,
    words: str | Iterable[str] = (),
    vocabulary: str | Path | None = None,
    vocabulary_model: str | Path | None = None,
    refine: bool = False,
    **run: Any,
) -> SemanticOptions:
    """The options of ``domainsam photo semantic`` as one value; ``run`` as of :func:`run_options`.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    listed = list_words(words)
    model = None if vocabulary_model is None else str(vocabulary_model)
    return SemanticOptions(run_options(**run), listed, path_of(vocabulary), model, refine)


def run_semantic(inputs: str | Path | Iterable[str | Path], out: str | Path, **options: Any) -> Maps:
    """Make maps of words of pictures; keywords of :func:`semantic_options`.

    Raises
    ------
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_photo.semantic import map_pictures

    check_keywords("photo semantic", options, keyword_names(semantic_options, run_options))
    return map_pictures(list_paths(inputs), semantic_options(out=out, **options))


def ask_in(
    source: PhotoSource,
    folder: Path,
    foundation: Callable[[], Foundation],
    *,
    device: str = "auto",
    **how: Any,
) -> tuple[EngineResult, Foundation]:
    """Find what words mean in an opened picture: the part ``ask`` of :class:`~domainsam.packs.DomainPack`.

    Parameters
    ----------
    device
        As ``--device``.
    **how
        As of :func:`domainsam.prompter.language.keywords.read_asked`.

    Raises
    ------
    DomainSamError
        If the words say nothing, nothing was found, or the model cannot be asked.
    """
    from domainsam.prompter.language.keywords import read_asked
    from domainsam_photo.refer import find_referred

    phrase, chosen = read_asked("photo refer", **how)
    loaded = foundation()
    return find_referred(source, folder, loaded, phrase, chosen, device), loaded
