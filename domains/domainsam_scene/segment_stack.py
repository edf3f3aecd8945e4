"""From georeferenced sensors to finished maps: ``domainsam scene segment --geotiff``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

import domainsam
from domainsam.errors import InputError
from domainsam.infer.staged import Swept
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam.io.cog import CogLayout, write_cog
from domainsam.progress import report_progress
from domainsam.protocols import Window
from domainsam.staging import Staging
from domainsam_scene.job import Batch, Maker, SamplePlan, SegmentResult, plan_outputs
from domainsam_scene.model.predict import NODATA, SCALE, ScenePrediction
from domainsam_scene.model.scene import SceneModel
from domainsam_scene.model.sweep import CONTRIBUTION, TileOptions, segment_stack
from domainsam_scene.read.layouts.base import check_given
from domainsam_scene.read.rasters import SceneSource
from domainsam_scene.read.reading import settle_reading
from domainsam_scene.segment import check_known, load_chosen_model, run_single
from domainsam_scene.settings import SegmentOptions
from domainsam_scene.write.maps import make_class_tags, make_colour_table
from domainsam_scene.write.preview import Picture, draw_preview

log = logging.getLogger(__name__)

PICTURE_SIDE = 640
"""Longest side in pixels to which a stack is reduced for its preview."""
ROWS = 512


def segment_rasters(
    paths: Mapping[str, Path | str],
    options: SegmentOptions,
    bands: Mapping[str, tuple[int, ...]] | None = None,
    model: SceneModel | None = None,
) -> Batch:
    """Segment a stack of georeferenced rasters, whatever their resolutions and CRSs.

    The map has the grid of the first raster. A raster that cannot be read is
    left out and named, unless ``options.read.strict``.

    Parameters
    ----------
    paths
        Rasters by sensor.
    bands
        By sensor, up to three band numbers from 1.
    model
        A model that is loaded already; otherwise ``options`` says which.

    Raises
    ------
    DomainSamError
        If no raster can be read, one lies elsewhere, the model does not know a
        sensor, or an output cannot be written.
    """
    begin = perf_counter()

    def prepare() -> Callable[[SamplePlan], SegmentResult]:
        loaded = model or load_chosen_model(options)
        check_known(tuple(paths), loaded)
        asked = replace(options.read, bands=bands or {})
        settled = replace(options, read=settle_reading(asked, loaded.reading, tuple(paths), rasters=True))
        return lambda plan: _segment_stack(paths, plan, settled, loaded, begin)

    return run_single(plan_stack(paths, options), prepare, options)


def plan_stack(paths: Mapping[str, Path | str], options: SegmentOptions) -> SamplePlan:
    """The files to be made from a stack of rasters, which is called as the first one is.

    Raises
    ------
    InputError
        If there is no raster.
    DomainSamError
        As :func:`~domainsam_scene.job.plan_outputs`.
    """
    if not paths:
        raise InputError("no raster was given; expected for example --geotiff optical=o.tif sar=s.tif")
    stem = Path(str(next(iter(paths.values())))).stem
    files = [Path(path) for path in paths.values() if "://" not in str(path)]
    (plan,) = plan_outputs([stem], options.outputs, files, geo=True)
    return plan


def _segment_stack(
    paths: Mapping[str, Path | str],
    plan: SamplePlan,
    options: SegmentOptions,
    model: SceneModel,
    begin: float,
) -> SegmentResult:
    tile = options.run.tile or model.image_size
    overlap = tile // 4 if options.run.overlap is None else options.run.overlap
    tiles = TileOptions(tile, overlap, "probability" in plan.paths, options.resume)
    readable, missing = find_readable(paths, options.read.strict)
    with SceneSource(readable, options.read.bands, options.read.ranges) as source:
        rows, cols = source.map_grid.shape
        each = 2 + len(readable) + (len(model.labels) if tiles.keep_probability else 0)
        require_space(plan.work.parent, 2 * each * rows * cols, f"a map of {cols} x {rows} pixels")
        with WorkRoom(plan.work, options.resume) as room:
            with report_progress(plan.name, options.quiet) as progress:
                answer = segment_stack(source, model, room.folder, tiles, progress)
            products = StackProducts(
                plan, source, answer, model, missing, options.made_by, options.read.notes
            )
            overwrite = plan.may_replace(options.outputs.overwrite, options.resume)
            return products.write(overwrite, room, begin)


def find_readable(
    paths: Mapping[str, Path | str], strict: bool
) -> tuple[dict[str, Path | str], dict[str, str]]:
    """Rasters that open and hold more than one value, and why the others do not.

    Raises
    ------
    MissingInputError
        If a file that was named is not there.
    InputError
        If none is left, or one is not and ``strict``.
    """
    check_given(paths)
    good: dict[str, Path | str] = {}
    missing: dict[str, str] = {}
    for name, path in paths.items():
        try:
            with SceneSource({name: path}, None, {name: (0.0, 1.0)}) as source:
                if source.sensors[name].is_blank():
                    raise InputError(f"{path}: {name} delivered nothing (one value everywhere)")
                good[name] = path
        except InputError as error:
            if strict or len(paths) == 1:
                raise
            missing[name] = str(error)
    if not good:
        raise InputError(f"no raster can be read: {'; '.join(missing.values())}")
    for reason in missing.values():
        log.warning("%s; going on with %s", reason, ", ".join(good))
    return good, missing


@dataclass(frozen=True)
class StackProducts:
    """The outputs of one stack in the making."""

    plan: SamplePlan
    source: SceneSource
    answer: Swept
    model: Maker
    missing: Mapping[str, str]
    made_by: str
    notes: tuple[str, ...] = ()

    def write(self, overwrite: bool, room: WorkRoom, begin: float) -> SegmentResult:
        """Write everything that was planned, or nothing."""
        with Staging(self.plan.files, overwrite=overwrite) as staging:
            room.note_staged({staging[path].parent for path in self.plan.files})
            for kind, path in self.plan.paths.items():
                if kind == "preview":
                    draw_preview(staging[path], self._picture())
                elif kind != "summary":
                    self._write_raster(kind, staging[path])
            result = self._result(begin)
            if "summary" in self.plan.paths:
                text = json.dumps(result.document(), indent=2) + "\n"
                staging.write_text(self.plan.paths["summary"], text)
        return result

    def _write_raster(self, kind: str, path: Path) -> None:
        names = self.answer.outputs("labels" if kind == "map" else kind)
        titles = tuple(name.rpartition("/")[2] for name in names)
        if kind == "probability":
            titles = self.model.labels
        layout = CogLayout(
            "classes" if kind == "map" else "shares",
            self.source.map_grid.transform,
            self.source.map_grid.crs,
            bands=("class",) if kind == "map" else titles,
            colours=make_colour_table(self.model.labels) if kind == "map" else None,
            tags=self._tags(kind),
        )
        staged = [self.answer.open(name) for name in names]
        try:
            write_cog(staged, path, layout)
        finally:
            for band in staged:
                band.close()

    def _tags(self, kind: str) -> dict[str, str]:
        meaning = f"value / {SCALE} is a share from 0 to 1, {NODATA} no data"
        tags = {
            "SOFTWARE": f"domainsam {domainsam.__version__}",
            "MODEL": self.model.name,
            "FOUNDATION": self.model.foundation_name,
            "SENSORS": ", ".join(self.source.sensors),
            "COMMAND": self.made_by,
            "VALUES": f"class numbers, {NODATA} no data" if kind == "map" else meaning,
        }
        return tags | (make_class_tags(self.model.labels) if kind == "map" else {})

    def _rows(self, name: str, step: int = 1) -> NDArray[np.uint8]:
        """A staged result, every ``step``-th pixel."""
        rows, cols = self.answer.shape
        with self.answer.open(name) as staged:
            lines = [staged.read(Window(row, 0, 1, cols))[0, ::step] for row in range(0, rows, step)]
        return np.stack(lines)

    def _contributions(self) -> list[tuple[str, str]]:
        """Staged contributions, each with its sensor; none where no model told the sensors apart."""
        return [(name, name.partition("/")[2]) for name in self.answer.outputs(CONTRIBUTION)]

    def _picture(self) -> Picture:
        rows, cols = self.answer.shape
        step = max(1, -(-max(rows, cols) // PICTURE_SIDE))
        prediction = ScenePrediction(
            labels=self._rows("labels", step),
            probability=np.zeros((0, 1, 1), np.float16),
            confidence=self._rows("confidence", step),
            contribution={sensor: self._rows(name, step) for name, sensor in self._contributions()},
        )
        images = {name: plane.image for name, plane in self.source.overview(prediction.labels.shape).items()}
        facts = f"{', '.join(images)}; {cols} x {rows} pixels; model {self.model.name}"
        return Picture(self.plan.name, facts, images, prediction, self.model.labels)

    def _result(self, begin: float) -> SegmentResult:
        rows, cols = self.answer.shape
        counts = self._histogram("labels")
        judged = int(counts[:NODATA].sum())
        found = {label: int(counts[index]) for index, label in enumerate(self.model.labels) if counts[index]}
        return SegmentResult(
            name=self.plan.name,
            paths=self.plan.paths,
            shape=(rows, cols),
            sensors=tuple(self.source.sensors),
            missing=self.missing,
            notes=(
                *self.notes,
                *(
                    f"{name}: {sensor.limits[0]:g} to {sensor.limits[1]:g} became 0 to 1"
                    for name, sensor in self.source.sensors.items()
                ),
            ),
            shares={label: count / max(1, judged) for label, count in found.items()},
            contribution={sensor: self._mean(name) for name, sensor in self._contributions()},
            confidence=self._mean("confidence"),
            valid_share=judged / (rows * cols),
            seconds=perf_counter() - begin,
            model=self.model.name,
            foundation=self.model.foundation_name,
        )

    def _histogram(self, name: str) -> NDArray[np.int64]:
        rows, cols = self.answer.shape
        counts = np.zeros(256, np.int64)
        with self.answer.open(name) as staged:
            for row in range(0, rows, ROWS):
                values = staged.read(Window(row, 0, min(ROWS, rows - row), cols))
                counts += np.bincount(values.ravel(), minlength=256)
        return counts

    def _mean(self, name: str) -> float:
        counts = self._histogram(name)[:NODATA]
        total = int(counts.sum())
        return float((counts * np.arange(NODATA)).sum() / total / SCALE) if total else 0.0
