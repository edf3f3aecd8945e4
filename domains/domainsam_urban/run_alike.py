"""``urban find`` by keyword, and the same for scenes that are opened in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.errors import ConfigError
from domainsam.keywords import check_choice, check_keywords, keyword_names
from domainsam_urban.run import Paths, map_options, several
from domainsam_urban.settings import WAYS, LikeOptions, MapOptions, ShapeOptions

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_urban.job import Batch, SceneResult
    from domainsam_urban.read.scene import RasterSource

ANY_SCORE = 1 / 254
"""Threshold of a raster of scores: every pixel of an object belongs, whatever the object's score."""
NO_PART = (
    *("threshold", "model", "classifier", "points", "boxes", "marks_frame", "tile", "overlap", "method"),
    *("no_box", "no_mask", "no_sam_embedding", "no_segformer_embedding", "views", "strict"),
    *("batch_size", "workers", "runtime"),
)
"""Options of :func:`~domainsam_urban.run.map_options` that have no part in a search by example."""


def find_options(
    *,
    like: Paths,
    unlike: Paths = (),
    method: str = LikeOptions.method,
    finetune: bool = False,
    least_score: float = LikeOptions.least,
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
    method
        One of :data:`~domainsam_urban.settings.WAYS`.
    finetune
        Learn PerSAM-F's two weights on the examples; goes with ``persam``.
    least_score, most
        Least score of an object, and the most objects.
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
    files = _paths(like), _paths(unlike)
    chosen = LikeOptions(*files, method, finetune, least_score, most, smallest, largest)
    check_search(chosen)
    job = map_options(**options)
    sizes = ("min_area", "simplify", "close_holes")
    shape = ShapeOptions(
        ANY_SCORE, **{name: options[name] for name in sizes if options.get(name) is not None}
    )
    return replace(job, like=chosen, shape=shape, run=replace(job.run, method="full"))


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
        raise ConfigError("nothing says what to look for: name an example, such as --like example.gpkg")
    make_search_options(like)


def _paths(given: Paths) -> tuple[Path, ...]:
    return tuple(map(Path, several(given)))


def run_find(inputs: Any, out: Paths, **options: Any) -> SceneResult | Batch:
    """Find in scenes what looks like an example, as ``domainsam urban find`` does.

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
    from domainsam_urban.map import map_scenes

    scenes = list(map(str, several(inputs)))
    batch = map_scenes(scenes, find_options(out=out, **options))
    return batch.results[0] if len(scenes) == len(batch.results) == batch.count == 1 else batch


def find_in(
    source: RasterSource,
    folder: Path,
    foundation: Callable[[], Foundation],
    *,
    like: Any = None,
    unlike: Any = (),
    method: str = LikeOptions.method,
    finetune: bool = False,
    least_score: float = LikeOptions.least,
    most: int = LikeOptions.most,
    smallest: float = LikeOptions.smaller,
    largest: float = LikeOptions.larger,
) -> tuple[EngineResult, Foundation]:
    """Find what looks like an example in an opened scene, for :meth:`domainsam.opened.Opened.find`.

    Parameters
    ----------
    folder
        Takes the staged answer.
    foundation
        Loads the foundation.
    like, unlike, method, finetune, least_score, most, smallest, largest
        As of :func:`find_options`.

    Raises
    ------
    ConfigError
        If there is no example.
    InputError
        If an example has no outline, lies outside or where there is no data, or covers everything.
    """
    import torch

    from domainsam.marks import MarkFiles
    from domainsam_urban.alike import find_alike
    from domainsam_urban.model.alike import AlikeObjects

    files = _paths(like or ()), _paths(unlike)
    chosen = LikeOptions(*files, method, finetune, least_score, most, smallest, largest)
    check_search(chosen)
    loaded = foundation()
    model = AlikeObjects(MarkFiles(), loaded, torch.device(loaded.device), "float32", like=chosen)
    folder.mkdir(parents=True, exist_ok=True)
    return find_alike(source, source, model, folder), loaded
