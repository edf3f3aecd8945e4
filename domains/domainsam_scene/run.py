"""The main job by keyword: what ``domainsam.run("scene", ...)`` and ``domainsam scene segment`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.errors import ConfigError
from domainsam.keywords import (
    PRECISIONS,
    RUNTIMES,
    check_choice,
    check_keywords,
    check_least,
    keyword_names,
    parts_of,
    path_of,
    refuse_with_marks,
)
from domainsam.marks import MarkFiles
from domainsam_scene.settings import OutputOptions, Range, ReadOptions, RunOptions, SegmentOptions

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_scene.job import Batch, SegmentResult
    from domainsam_scene.segment_marked import PlaneSource, SensorSource


SAVED = ("confidence", "preview", "summary", "overwrite")
"""Options of :func:`segment_options` that say how something found is written."""


def segment_options(
    *,
    out: str | Path,
    probability: str | Path | None = None,
    confidence: str | Path | None = None,
    contribution: str | Path | None = None,
    preview: str | Path | None = None,
    summary: str | Path | None = None,
    modalities: str | Iterable[str] | None = None,
    range: Mapping[str, Range] | Iterable[str] = (),
    align: bool = False,
    strict: bool = False,
    dilate: int | None = None,
    model: str | Path | None = None,
    foundation: str | None = None,
    points: str | Path | None = None,
    boxes: str | Path | None = None,
    marks_frame: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torch",
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    made_by: str = "domainsam",
) -> SegmentOptions:
    """The options of ``domainsam scene segment`` as one value; ``range`` by sensor, or ``depth=0,40``.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    check_least(32, tile=tile)
    check_least(0, overlap=overlap)
    check_least(1, dilate=dilate)
    names = () if modalities is None else parts_of(modalities, str)
    marks = MarkFiles(path_of(points), path_of(boxes), marks_frame)
    if marks:
        refuse_with_marks(model=model)
    elif check_choice("runtime", runtime, RUNTIMES) != "torch":
        raise ConfigError(
            f"--runtime {runtime} is for marks: a model of scenes trains inside the foundation's encoder, "
            "which only torch computes; leave it out"
        )
    return SegmentOptions(
        outputs=OutputOptions(
            map=Path(out),
            probability=path_of(probability),
            confidence=path_of(confidence),
            contribution=path_of(contribution),
            preview=path_of(preview),
            summary=path_of(summary),
            overwrite=overwrite,
        ),
        model=path_of(model),
        foundation=foundation,
        modalities=tuple(name for name in names if name),
        read=ReadOptions(_ranges(range), align, strict, dilate),
        run=RunOptions(str(device), check_choice("precision", precision, PRECISIONS), tile, overlap, runtime),
        marks=marks,
        resume=resume,
        quiet=quiet,
        made_by=made_by,
    )


def run_segment(inputs: Any, out: str | Path | None = None, **options: Any) -> SegmentResult | Batch:
    """Segment one scene, a folder of scenes, or a stack of georeferenced rasters.

    Parameters
    ----------
    inputs
        Files by sensor; with ``layout`` a folder.
    out
        Map or folder, as ``-o``.
    **options
        Keywords of :func:`segment_options` and :func:`segment_inputs`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible, or no output is named.
    DomainSamError
        Of a single scene, whatever made it fail.
    """
    check_keywords("scene segment", options, keyword_names(segment_options, segment_inputs))
    if out is None:
        raise ConfigError("scene segment: name an output, such as domainsam.run('scene', files, 'map.png')")
    ways = {name: options.pop(name) for name in keyword_names(segment_inputs) if name in options}
    batch = segment_inputs(inputs, segment_options(out=out, **options), **ways)
    return batch.results[0] if ways.get("layout") is None and batch.results else batch


def segment_inputs(
    inputs: Mapping[str, str | Path] | str | Path,
    settings: SegmentOptions,
    *,
    layout: str | None = None,
    split: str | None = None,
    geotiff: bool = False,
    bands: Mapping[str, Iterable[int]] | None = None,
    watch: Callable[[SegmentResult], None] | None = None,
) -> Batch:
    """Segment files by sensor, a folder laid out as ``layout`` says, or with ``geotiff`` rasters by sensor.

    Parameters
    ----------
    bands
        Up to three band numbers, from 1, by sensor; for rasters.
    watch
        Shown every result of a folder as soon as it is there.

    Raises
    ------
    ConfigError
        If inputs are not of the form that these ways take.
    """
    from domainsam_scene.segment import segment_files, segment_layout
    from domainsam_scene.segment_marked import segment_marked_files, segment_marked_rasters
    from domainsam_scene.segment_stack import segment_rasters

    if layout is not None:
        if geotiff or isinstance(inputs, Mapping):
            raise ConfigError("layout takes one folder, and no files by sensor")
        if settings.marks:
            raise ConfigError("marks belong to one scene, and layout means many: give one scene's files")
        return segment_layout(layout, Path(inputs), split, settings, watch=watch)
    if not isinstance(inputs, Mapping):
        raise ConfigError(f"what is {str(inputs)!r}? name its sensor, for example {{'rgb': {str(inputs)!r}}}")
    if geotiff:
        if settings.read.align:
            raise ConfigError(
                "align moves pictures of one view, and georeferenced rasters lie where they say: leave align "
                "out, and mend a raster that lies wrong (gdal_translate -a_ullr, gdalwarp) before"
            )
        numbers = {name: parts_of(given, int) for name, given in (bands or {}).items()}
        if settings.marks:
            return segment_marked_rasters(
                {name: str(path) for name, path in inputs.items()}, settings, numbers
            )
        return segment_rasters({name: str(path) for name, path in inputs.items()}, settings, numbers)
    work = segment_marked_files if settings.marks else segment_files
    return work({name: Path(path) for name, path in inputs.items()}, settings)


def open_scene(
    inputs: Mapping[str, str | Path] | str | Path,
    *,
    geotiff: bool = False,
    bands: Mapping[str, Iterable[int]] | None = None,
    range: Mapping[str, Range] | Iterable[str] = (),
) -> PlaneSource | SensorSource:
    """Open a picture, pictures by sensor, or with ``geotiff`` rasters by sensor, for :func:`domainsam.open`.

    The foundation is shown ``rgb``, or the first sensor where there is none of that name.

    Parameters
    ----------
    inputs
        Files by sensor; a file alone is ``rgb``.
    geotiff, bands, range
        As of :func:`segment_options` and :func:`segment_inputs`.

    Raises
    ------
    MissingInputError, InputError
        If nothing can be read.
    """
    from domainsam_scene.segment_marked import SensorSource, open_pictures
    from domainsam_scene.segment_stack import find_readable

    files = inputs if isinstance(inputs, Mapping) else {"rgb": inputs}
    reading = ReadOptions(_ranges(range))
    if not geotiff:
        return open_pictures({name: Path(path) for name, path in files.items()}, reading)
    from domainsam_scene.read.rasters import SceneSource

    readable, missing = find_readable({name: str(path) for name, path in files.items()}, reading.strict)
    numbers = {name: parts_of(given, int) for name, given in (bands or {}).items()}
    return SensorSource(SceneSource(readable, numbers, reading.ranges), missing)


def save_found(
    source: PlaneSource | SensorSource,
    answer: EngineResult,
    out: str | Path,
    foundation: Foundation,
    **options: Any,
) -> SegmentResult:
    """Write what was found in an opened scene: a map of labels, and the further files of ``options``.

    Parameters
    ----------
    options
        Those keywords of :func:`segment_options` that :data:`SAVED` names.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    OutputError
        If an output exists or cannot be written.
    """
    from domainsam_scene.segment_marked import write_found

    check_keywords("save", options, SAVED)
    return write_found(source, answer, segment_options(out=out, **options), foundation)


def formats() -> dict[str, dict[str, list[str]]]:
    """Endings of the files that the job reads and writes, by kind."""
    from domainsam_scene.job import GEO_SUFFIXES, SUFFIXES
    from domainsam_scene.read.images import SUFFIXES as IMAGES

    rasters = {f"{kind} of rasters": list(endings) for kind, endings in GEO_SUFFIXES.items()}
    return {
        "inputs": {"sensor": list(IMAGES), "rasters": ["anything that GDAL reads: .tif, .vrt"]},
        "outputs": {**{kind: list(endings) for kind, endings in SUFFIXES.items()}, **rasters},
    }


def _ranges(given: Mapping[str, Range] | Iterable[str]) -> dict[str, Range]:
    from domainsam_scene.read.modalities import parse_range

    if isinstance(given, Mapping):
        return {name: (float(low), float(high)) for name, (low, high) in given.items()}
    return dict(map(parse_range, (given,) if isinstance(given, str) else given))
