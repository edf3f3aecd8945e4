"""The jobs by keyword: what Python and the command line share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from domainsam.errors import ConfigError
from domainsam.keywords import (
    PRECISIONS,
    check_choice,
    check_keywords,
    keyword_names,
    path_of,
)
from domainsam_photo.settings import (
    TRACKERS,
    EverythingJobOptions,
    FindOptions,
    RunOptions,
    SegmentOptions,
    TrackerName,
    TrackJobOptions,
)

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_photo.job import Batch, PictureResult
    from domainsam_photo.segment import PhotoSource
    from domainsam_photo.track import TrackResult

SAVED = ("overlay", "overwrite")
"""Keywords that say how something found in an opened picture is written."""


def run_options(
    *,
    out: str | Path,
    foundation: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    overlay: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
    made_by: str = "domainsam",
) -> RunOptions:
    """What every job is told, as one value.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    check_choice("precision", precision, PRECISIONS)
    return RunOptions(
        Path(out), foundation, str(device), precision, overlay, overwrite, resume, quiet, made_by
    )


def segment_options(
    *,
    out: str | Path,
    points: str | Path | None = None,
    boxes: str | Path | None = None,
    foundation: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    overlay: bool = True,
    overwrite: bool = False,
    quiet: bool = False,
    made_by: str = "domainsam",
) -> SegmentOptions:
    """The options of ``domainsam photo segment`` as one value.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    run = run_options(
        out=out,
        foundation=foundation,
        device=device,
        precision=precision,
        overlay=overlay,
        overwrite=overwrite,
        quiet=quiet,
        made_by=made_by,
    )
    return SegmentOptions(run, path_of(points), path_of(boxes))


def run_segment(inputs: str | Path, out: str | Path | None = None, **options: Any) -> PictureResult:
    """Segment what files of marks mark: ``domainsam.run("photo", "a.jpg", "masks/", points="p.json")``.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible, or no output is named.
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_photo.segment import segment_picture

    check_keywords("photo segment", options, keyword_names(segment_options))
    if out is None:
        raise ConfigError("photo segment: name a folder, such as domainsam.run('photo', 'a.jpg', 'masks/')")
    return segment_picture(Path(inputs), segment_options(out=out, **options))


def find_options(
    *,
    like: str | Iterable[str],
    unlike: str | Iterable[str] = (),
    finetune: bool = False,
    parity: bool = False,
    least: float = 0.5,
    most: int = 100,
    always: bool = False,
    **run: Any,
) -> FindOptions:
    """The options of ``domainsam photo find`` as one value; ``run`` as of :func:`run_options`.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    from domainsam.prompter.search import ExampleOptions

    listed = [(given,) if isinstance(given, str) else tuple(given) for given in (like, unlike)]
    search = ExampleOptions(least, most, always)
    return FindOptions(run_options(**run), search, listed[0], listed[1], finetune, parity)


def run_find(inputs: str | Path | Iterable[str | Path], out: str | Path, **options: Any) -> Batch:
    """Find in pictures what looks like examples; keywords of :func:`find_options`.

    Raises
    ------
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_photo.find import find_in_pictures

    check_keywords("photo find", options, keyword_names(find_options, run_options))
    return find_in_pictures(list_paths(inputs), find_options(out=out, **options))


def track_options(
    *,
    points: str | Path | None = None,
    boxes: str | Path | None = None,
    mask: str | Path | None = None,
    tracker: str = "features",
    tracker_weights: str | Path | None = None,
    video: str | Path | None = None,
    points_per_object: int = 16,
    pick: str = "kmedoids",
    extent: bool = True,
    likeness: bool | None = None,
    bends: bool = False,
    refinements: int = 3,
    least_iou: float = 0.5,
    reinit: str | None = None,
    horizon: int = 24,
    patches: bool = False,
    patience: int | None = None,
    seed: int = 0,
    **run: Any,
) -> TrackJobOptions:
    """The options of ``domainsam photo track`` as one value; ``run`` as of :func:`run_options`.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    from domainsam.prompter.track import TrackOptions

    check_choice("tracker", tracker, TRACKERS)
    if reinit is not None:
        check_choice("reinit", reinit, ("fixed", "median", "similar", "synced"))
    check_choice("pick", pick, ("kmedoids", "random", "shi-tomasi", "mixed"))
    chosen: Any = {"pick": pick, "reinit": reinit}
    track = TrackOptions(
        points=points_per_object,
        extent=extent,
        likeness=likeness,
        bends=bends,
        refinements=refinements,
        least_iou=least_iou,
        horizon=horizon,
        patches=patches,
        patience=patience,
        seed=seed,
        **chosen,
    )
    return TrackJobOptions(
        run_options(**run),
        track,
        path_of(points),
        path_of(boxes),
        path_of(mask),
        cast(TrackerName, tracker),
        path_of(tracker_weights),
        path_of(video),
    )


def run_track(film: str | Path, out: str | Path, **options: Any) -> TrackResult:
    """Follow objects through a film; keywords of :func:`track_options`.

    Raises
    ------
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_photo.track import track_film

    check_keywords("photo track", options, keyword_names(track_options, run_options))
    return track_film(Path(film), track_options(out=out, **options))


def everything_options(
    *,
    per_side: int | None = None,
    least_iou: float | None = None,
    least_stability: float | None = None,
    overlap: float = 0.7,
    least_area: int = 64,
    **run: Any,
) -> EverythingJobOptions:
    """The options of ``domainsam photo segment-everything``; ``run`` as of :func:`run_options`.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    from domainsam.prompter.everything import EverythingOptions

    keep = EverythingOptions(per_side, least_iou, least_stability, overlap, least_area)
    return EverythingJobOptions(run_options(**run), keep)


def run_everything(inputs: str | Path | Iterable[str | Path], out: str | Path, **options: Any) -> Batch:
    """Segment everything in pictures; keywords of :func:`everything_options`.

    Raises
    ------
    DomainSamError
        Whatever made it fail.
    """
    from domainsam_photo.everything import segment_everything

    check_keywords("photo segment-everything", options, keyword_names(everything_options, run_options))
    return segment_everything(list_paths(inputs), everything_options(out=out, **options))


def open_photo(path: str | Path) -> PhotoSource:
    """Open a picture for :func:`domainsam.open`.

    Raises
    ------
    MissingInputError, InputError
        If it cannot be read.
    """
    from domainsam_photo.segment import PhotoSource

    return PhotoSource(Path(path))


def save_found(
    source: PhotoSource, answer: EngineResult, out: str | Path, foundation: Foundation, **options: Any
) -> PictureResult:
    """Write what was found in an opened picture into a folder.

    Raises
    ------
    ConfigError
        If an option is unknown.
    OutputError
        If an output exists or cannot be written.
    """
    from domainsam_photo.segment import write_found

    check_keywords("save", options, SAVED)
    return write_found(source, answer, run_options(out=out, **options), foundation)


def formats() -> dict[str, dict[str, list[str]]]:
    """Endings of the files that the jobs read and write, by kind."""
    from domainsam_photo.read.films import FILMS
    from domainsam_photo.read.pictures import PICTURES

    return {
        "inputs": {"picture": list(PICTURES), "film": [*FILMS, "a folder of pictures"]},
        "outputs": {
            "masks": [".png"],
            "maps": [".png"],
            "objects": [".json"],
            "overlay": [".jpg"],
            "video": [".mp4"],
        },
    }


def list_paths(inputs: str | Path | Iterable[str | Path]) -> list[Path]:
    """One path or several as a list."""
    return [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
