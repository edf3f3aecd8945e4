"""Predict one year's scene with the engine of ``domainsam urban map``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.errors import InputError
from domainsam.infer.engine import map_scene
from domainsam.infer.specks import drop_specks
from domainsam.infer.store import RawRaster
from domainsam.io.cog import CogLayout, write_cog
from domainsam.io.rasters import Handles
from domainsam.progress import Progress, report_nothing
from domainsam_urban.finders import make_engine_options
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.read.bands import Radiometry, make_full_range
from domainsam_urban.read.place import measure_ground_pixel
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.read.workgrid import SURROUND
from domainsam_urban.settings import MapOptions, OutputOptions, ReadOptions, ShapeOptions
from domainsam_urban.trend.settings import TrendOptions

MOST_ENLARGED = 5.0
"""A scene is not enlarged beyond this on the way to the model's resolution: it would cost by the square and
show nothing new."""


@dataclass(frozen=True)
class Reading:
    """How a year's scene is read: the ground pixel in metres, and brightness matched to another year's."""

    read: ReadOptions
    resolution: float | None
    radiometry: Radiometry | None = None

    def open(self, path: str) -> RasterSource:
        """The scene as blocks for the networks."""
        rule = "auto" if self.read.normalize == "reference" else self.read.normalize
        return RasterSource(
            path,
            bands=self.read.bands,
            nodata=self.read.nodata,
            resolution=self.resolution,
            normalize=rule,
            stats=self.radiometry,
            on_ground=True,
            surround=SURROUND,
        )


def choose_resolution(path: str, read: ReadOptions, learnt: float | None) -> tuple[float | None, float]:
    """The ground pixel at which a scene is looked at, and how many times coarser than learnt the scene is.

    Raises
    ------
    InputError
        If the scene has no place on the Earth.
    """
    handles = Handles(path)
    try:
        with handles.reading("its header") as dataset:
            if dataset.crs is None or dataset.transform.is_identity:
                raise InputError(
                    f"{path}: has no place on the Earth, so it cannot be compared with other years; give it "
                    "a CRS and a geotransform (gdal_translate -a_srs ... -a_ullr ...)"
                )
            native = max(
                measure_ground_pixel(dataset.crs, dataset.transform, (dataset.height, dataset.width))
            )
    finally:
        handles.close()
    if read.resolution is not None or learnt is None:
        return read.resolution, 1.0 if learnt is None else native / learnt
    return max(learnt, native / MOST_ENLARGED), native / learnt


def to_map_options(options: TrendOptions) -> MapOptions:
    """The same options as ``domainsam urban map`` takes them, without outputs."""
    return MapOptions(
        OutputOptions(()),
        model=options.model,
        foundation=options.foundation,
        classifier=options.classifier,
        read=options.read,
        run=options.run,
        shape=ShapeOptions(options.threshold, options.products.objects.min_area),
        quiet=options.quiet,
    )


def predict_year(
    path: str,
    reading: Reading,
    options: MapOptions,
    model: SettlementModel,
    target: Path,
    progress: Progress = report_nothing,
) -> None:
    """Write a scene's probability on its work grid; goes on with what an earlier run left beside ``target``.

    Raises
    ------
    InputError
        If the scene cannot be read.
    OutputError
        If the folder cannot be written or the disk is full.
    """
    folder = target.with_suffix("")
    model = model.trimmed(options.run)
    with reading.open(path) as source:
        engine = make_engine_options(options, model, source.profile_info.work_pixel, source.work.anchor)
        answer = map_scene(
            source,
            model.specialist,
            model.foundation,
            folder,
            engine,
            device=model.device,
            identity=source.fingerprint,
            resume=True,
            progress=progress,
        )
        layout = CogLayout("probability", source.transform, source.work_crs, options.shape.threshold)
        # Areas are counted pixel by pixel: what is far too small to be a settlement is none of them.
        with (
            RawRaster.open(answer.probability, answer.shape) as staged,
            RawRaster.create(folder / "kept.u8", answer.shape) as kept,
        ):
            drop_specks(staged, kept, answer.level, engine.min_pixels)
            write_cog(kept, target, layout)
    shutil.rmtree(folder)


def match_scaling(scene: Radiometry, reference: Radiometry, shown: Radiometry) -> Radiometry:
    """A scaling under which a scene's percentiles come to lie where the reference's do.

    Parameters
    ----------
    scene, reference
        Percentiles of the scene and of the reference, as their stretches.
    shown
        How the reference itself is scaled to 0..1.
    """
    low, high = np.array(scene.low), np.array(scene.high)
    span = np.array(shown.high) - np.array(shown.low)
    start, end = ((np.array(edge) - np.array(shown.low)) / span for edge in (reference.low, reference.high))
    # A reference without contrast gives no scale; its span is taken for the whole range then.
    scale = (high - low) / np.where(end > start, end - start, 1.0)
    first = low - start * scale
    return Radiometry(tuple(first.tolist()), tuple((first + scale).tolist()), "scene")


def match_radiometry(path: str, reference: str, read: ReadOptions) -> Radiometry:
    """Brightness of a scene matched to the reference scene's, band by band, by their percentiles.

    Raises
    ------
    InputError
        If one of the two cannot be read.
    """
    stretched = replace(read, normalize="scene")
    with Reading(stretched, None).open(path) as one, Reading(stretched, None).open(reference) as other:
        percentiles, aim = one.radiometry, other.radiometry
        dtype: Any = np.dtype(other.profile_info.dtype)
        shown = make_full_range(dtype, len(other.bands)) if dtype == np.uint8 else aim
    return match_scaling(percentiles, aim, shown)
