"""``urban map`` as a job whose scenes can be spread; see :mod:`domainsam.infer.many`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from domainsam.errors import DomainSamError
from domainsam.infer.many import Entry, ManyJob, Size, WorkList
from domainsam.io.rasters import open_raster
from domainsam_urban.job import SceneResult, make_scene_stem
from domainsam_urban.map import STAGED_BYTES, WRITTEN_BYTES, list_work
from domainsam_urban.model.settlement import find_resolution
from domainsam_urban.read.catalogue import list_scenes, settle_area
from domainsam_urban.read.layout import RESAMPLE_FACTOR
from domainsam_urban.read.place import Place
from domainsam_urban.run import map_options


def list_entries(
    inputs: Sequence[str], options: Mapping[str, Any]
) -> tuple[tuple[Entry, ...], dict[str, Any]]:
    """The scenes of all inputs, each with the name that its files bear, and the options.

    Raises
    ------
    DomainSamError
        If a catalogue cannot be read, or an option is impossible.
    """
    read = settle_area(inputs, map_options(**options).read)
    entries = tuple(
        replace(entry, name=entry.name or make_scene_stem(entry.source))
        for entry in list_scenes(inputs, read)
    )
    return entries, {**options, "bbox_crs": read.bbox_crs}


def open_work(entries: Sequence[Entry], options: Mapping[str, Any], total: int) -> WorkList[Any, SceneResult]:
    """What is done with scenes.

    Raises
    ------
    DomainSamError
        If outputs clash, or an option is impossible.
    """
    return list_work(entries, map_options(**options))


def measure_scene(entry: Entry, options: Mapping[str, Any]) -> Size:
    """What mapping a scene takes, from its header; nothing where that cannot be read, which its run tells.

    The whole scene counts, whatever part of it is wanted.
    """
    chosen = map_options(**options)
    with suppress(DomainSamError, OSError), open_raster(entry.source) as dataset:
        place = Place.of(dataset)
        native = place.pixel_metres()
        wanted = chosen.read.resolution or find_resolution(chosen)
        rows, cols = place.shape
        finer = 1.0 if wanted is None or place.crs is None else native / wanted
        if 1 / RESAMPLE_FACTOR < finer < RESAMPLE_FACTOR:
            finer = 1.0
        pixels = round(rows * cols * finer**2)
        path = Path(entry.source)
        size = path.stat().st_size if path.is_file() else rows * cols * dataset.count
        outputs = chosen.outputs
        rasters = (outputs.mask is not None) + (outputs.probability is not None)
        return Size(pixels, size, rasters * rows * cols, pixels * (STAGED_BYTES + WRITTEN_BYTES))
    return Size(0, 0, 0, 0)


JOB = ManyJob("map", list_entries, open_work, measure_scene, tells_command=True)
