"""The main job by keyword: what ``domainsam.run("urban", ...)`` and ``domainsam urban map`` share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.errors import ConfigError
from domainsam.infer.spread import spread_options
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
from domainsam_urban.settings import (
    FORMATS,
    MADE_BY,
    METHODS,
    VIEWS,
    MapOptions,
    OutputOptions,
    ReadOptions,
    RunOptions,
)

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_urban.job import Batch, SceneResult
    from domainsam_urban.model.settlement import SettlementModel
    from domainsam_urban.read.scene import RasterSource

SAVED = (
    *("probability", "mask", "preview", "summary", "grid", "stac", "datetime"),
    *("min_area", "simplify", "close_holes", "overwrite"),
)
"""Options of :func:`map_options` that say how something found is written."""

Paths = str | Path | Iterable[str | Path]


def map_options(
    *,
    out: Paths = (),
    probability: str | Path | None = None,
    mask: str | Path | None = None,
    preview: str | Path | None = None,
    summary: str | Path | None = None,
    grid: float | None = None,
    stac: bool = True,
    datetime: str | None = None,
    collection: str | Path | None = None,
    merge: Paths = (),
    bands: str | Iterable[int] | None = None,
    nodata: float | None = None,
    resolution: float | None = None,
    normalize: str = "auto",
    allow_no_crs: bool = False,
    bbox: str | Iterable[float] | None = None,
    bbox_crs: str | None = None,
    aoi: str | Path | None = None,
    asset: str | None = None,
    date: str | None = None,
    threshold: float | None = None,
    min_area: float | None = None,
    simplify: float | None = None,
    close_holes: float | None = None,
    model: str | Path | None = None,
    foundation: str | None = None,
    classifier: str | Path | None = None,
    points: str | Path | None = None,
    boxes: str | Path | None = None,
    marks_frame: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    method: str | None = None,
    no_box: bool = False,
    no_mask: bool = False,
    no_sam_embedding: bool = False,
    no_segformer_embedding: bool = False,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torch",
    batch_size: int = 4,
    workers: int = 2,
    views: int | str = 1,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    scheduler: str | None = None,
    gpus_per_task: float = 0.0,
    memory_per_task: int | str | None = None,
    retries: int = 2,
    max_failures: int | None = None,
    log: str | Path | None = None,
    metrics: str | Path | None = None,
    made_by: str = MADE_BY,
) -> MapOptions:
    """The options of ``domainsam urban map`` as one value; what is left open about shapes, the model says.

    Raises
    ------
    ConfigError
        If a value is impossible.
    CheckpointError
        If the model file is absent or damaged.
    """
    from domainsam_urban.model.settlement import get_method, get_shape_settings, marked_shape

    check_least(64, tile=tile)
    check_least(1, batch_size=batch_size, workers=workers, grid=grid)
    check_least(0, overlap=overlap)
    box = None if bbox is None else parts_of(bbox, float)
    if box is not None and len(box) != 4:
        raise ConfigError(f"bbox has {len(box)} numbers, expected four: west, south, east, north")
    without = {
        "box": no_box,
        "mask": no_mask,
        "sam_embedding": no_sam_embedding,
        "segformer_embedding": no_segformer_embedding,
    }
    disabled = frozenset(part for part, left_out in without.items() if left_out)
    shape = {"threshold": threshold, "min_area": min_area, "simplify": simplify, "close_holes": close_holes}
    chosen = None if method is None else check_choice("method", method, METHODS)
    marks = MarkFiles(path_of(points), path_of(boxes), marks_frame)
    if marks:
        refuse_with_marks(model=model, classifier=classifier, method=method is not None)
    return MapOptions(
        model=path_of(model),
        foundation=foundation,
        classifier=path_of(classifier),
        read=ReadOptions(
            bands=None if bands is None else parts_of(bands, int),
            nodata=nodata,
            resolution=resolution,
            normalize=normalize,
            allow_no_crs=allow_no_crs,
            bbox=box,
            bbox_crs=bbox_crs,
            aoi=path_of(aoi),
            asset=asset,
            date=date,
        ),
        run=RunOptions(
            device=str(device),
            views=int(check_choice("views", str(views), tuple(map(str, VIEWS)))),
            precision=check_choice("precision", precision, PRECISIONS),
            runtime=check_choice("runtime", runtime, RUNTIMES),
            tile=tile,
            overlap=overlap,
            batch_size=batch_size,
            workers=workers,
            # Marks are prompts.
            method="full" if marks else get_method(path_of(model), chosen, disabled),
            disabled=disabled,
        ),
        shape=marked_shape(shape) if marks else get_shape_settings(path_of(model), shape),
        marks=marks,
        outputs=OutputOptions(
            vectors=tuple(map(Path, several(out))),
            probability=path_of(probability),
            mask=path_of(mask),
            preview=path_of(preview),
            summary=path_of(summary),
            grid=grid,
            stac=stac,
            datetime=datetime,
            overwrite=overwrite,
            collection=path_of(collection),
            merge=tuple(map(Path, several(merge))),
        ),
        strict=strict,
        resume=resume,
        quiet=quiet,
        made_by=made_by,
        spread=spread_options(scheduler, gpus_per_task, memory_per_task, retries, max_failures, log, metrics),
    )


def run_map(inputs: Any, out: Paths | None = None, **options: Any) -> SceneResult | Batch | Any:
    """Map one scene or several.

    Parameters
    ----------
    inputs
        A path or ``/vsi`` path, a catalogue or folder of scenes, several of these, or an
        ``xarray.DataArray`` of shape ``(band, y, x)`` or ``(y, x)`` with a CRS that rioxarray knows of.
    out
        Polygon files or a folder, as ``-o``. Without it a DataArray is answered
        by a Dataset, see :func:`domainsam_urban.arrays.map_array`.
    **options
        Keywords of :func:`map_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible, or no output is named.
    DomainSamError
        Of a single scene, whatever made it fail.
    """
    check_keywords("urban map", options, keyword_names(map_options))
    if hasattr(inputs, "dims") and hasattr(inputs, "coords"):
        from domainsam_urban.arrays import map_array

        return map_array(inputs, out, options, run_map)
    if out is None and not {"probability", "mask"} & options.keys():
        raise ConfigError("urban map: name an output, such as domainsam.run('urban', scene, 'out.gpkg')")
    return map_inputs(inputs, map_options(out=out or (), **options))


def map_inputs(inputs: Any, options: MapOptions) -> SceneResult | Batch:
    """Run a job over one input or several; of a single scene its result alone.

    Raises
    ------
    DomainSamError
        Of a single scene, whatever made it fail.
    """
    from domainsam_urban.map import map_scenes

    scenes = [os.fspath(scene) for scene in several(inputs)]
    batch = map_scenes(scenes, options)
    return batch.results[0] if len(scenes) == len(batch.results) == batch.count == 1 else batch


def open_scene(
    path: str | Path,
    *,
    bands: str | Iterable[int] | None = None,
    nodata: float | None = None,
    resolution: float | None = None,
    normalize: str = "auto",
) -> RasterSource:
    """Open a scene for :func:`domainsam.open`; one without a CRS is taken in pixels.

    Parameters
    ----------
    path
        Anything that GDAL opens.
    bands, nodata, resolution, normalize
        As of :func:`map_options`.

    Raises
    ------
    MissingInputError, InputError
        If it cannot be read.
    """
    from domainsam_urban.read.scene import RasterSource

    chosen = None if bands is None else parts_of(bands, int)
    return RasterSource(path, chosen, nodata, resolution=resolution, normalize=normalize, allow_no_crs=True)


def save_found(
    source: RasterSource, answer: EngineResult, out: Paths, foundation: Foundation, **options: Any
) -> SceneResult:
    """Write what was found in an opened scene: polygons, and the further files of ``options``.

    Parameters
    ----------
    options
        Those keywords of :func:`map_options` that :data:`SAVED` names.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    OutputError
        If an output exists or cannot be written.
    """
    from domainsam.infer.blend import LEVELS
    from domainsam_urban.map import write_marked

    check_keywords("save", options, SAVED)
    settings = map_options(out=out, allow_no_crs=source.crs is None, **options)
    shape = {name: options.get(name) for name in ("min_area", "simplify", "close_holes")}
    if shape["min_area"] is None:
        # Of objects that lie upon one another slivers are left, which no polygon is made of.
        shape["min_area"] = answer.told.get("least_m2")
    return write_marked(source, answer, settings, {**shape, "threshold": answer.level / LEVELS}, foundation)


def formats() -> dict[str, dict[str, list[str]]]:
    """Endings of the files that the job reads and writes, by kind."""
    from domainsam_urban.job import SUFFIXES

    return {
        "inputs": {"scene": ["anything that GDAL reads: .tif, .vrt, /vsi paths"]},
        "outputs": {"polygons": list(FORMATS), **{kind: list(endings) for kind, endings in SUFFIXES.items()}},
    }


def load_model(
    path: str | Path | None = None,
    foundation: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> SettlementModel:
    """A settlement model on the foundation it fits.

    Parameters
    ----------
    path
        Model file; None for the one inside the package.
    foundation
        Name or weight file; None for the one the model file names.
    device, precision
        As ``--device`` and ``--precision``.

    Raises
    ------
    CheckpointError
        If the model file is absent, damaged, of another pack, or fits another foundation.
    WeightsError
        If the foundation's weights are absent, or the package has no model of its own.
    ConfigError
        If the device or precision is unknown.
    """
    from domainsam_urban.model import settlement

    run = RunOptions(device=str(device), precision=check_choice("precision", precision, PRECISIONS))
    options = MapOptions(OutputOptions(()), model=path_of(path), foundation=foundation, run=run)
    return settlement.load_model(options)


def several(given: Paths) -> tuple[str | Path, ...]:
    """One path, or several, as several."""
    return (given,) if isinstance(given, str | Path) else tuple(given)
