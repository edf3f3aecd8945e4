"""Write every output of a scene together, or none."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from affine import Affine

import domainsam
from domainsam.errors import InputError
from domainsam.familiar import Judgement
from domainsam.infer.objects import EngineResult
from domainsam.infer.specks import Specks, drop_specks
from domainsam.infer.store import RawRaster
from domainsam.infer.workroom import WorkRoom
from domainsam.io.cog import CogLayout, Kind, write_cog
from domainsam.machine import measure_peak_rss
from domainsam.staging import Staging
from domainsam_urban.job import EVERYTHING, MARKED, RANKED, ScenePlan, SceneResult, count_objects
from domainsam_urban.model.gate import judge_answer, judge_scene
from domainsam_urban.model.settlement import MarkedObjects, SettlementModel
from domainsam_urban.read.geodesy import parse_crs
from domainsam_urban.read.place import Place
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions, find_vector_format
from domainsam_urban.write.footprint import outline_data
from domainsam_urban.write.gridcells import compute_grid_shares
from domainsam_urban.write.polygons import PolygonOptions, polygonise
from domainsam_urban.write.provenance import Provenance, find_acquisition
from domainsam_urban.write.ranked import polygonise_ranked
from domainsam_urban.write.scenegrid import lay_on_scene
from domainsam_urban.write.stac import (
    Output,
    describe_mask,
    describe_preview,
    describe_probability,
    describe_summary,
    describe_vector,
    make_item,
    write_item,
)
from domainsam_urban.write.vectors import write_vectors

log = logging.getLogger(__name__)

KEPT_FILE = "kept.u8"
"""The answer without its specks, where there are any to leave out."""


@dataclass(frozen=True)
class Mapped:
    """A scene that the engine is done with. ``begin`` is ``perf_counter()`` when the scene was opened."""

    source: RasterSource
    answer: EngineResult
    model: SettlementModel | MarkedObjects
    options: MapOptions
    begin: float

    @property
    def provenance(self) -> Provenance:
        """What every output says about its making."""
        name = Path(self.source.path).name
        given = self.options.outputs.datetime
        acquired = find_acquisition(name, self.source.profile_info.tags, given)
        return Provenance(name, acquired, self.model.name, self.method)

    @property
    def method(self) -> str:
        """The method as it stands in the outputs: ``full``, ``coarse``, ``full without box``, ``marked``."""
        if isinstance(self.model, MarkedObjects):
            return str(self.answer.told.get("way", MARKED))
        run = self.options.run
        off = ", ".join(sorted(part.replace("_", " ") for part in run.disabled))
        return f"{run.method} without {off}" if off else run.method


def write_products(plan: ScenePlan, mapped: Mapped, room: WorkRoom) -> SceneResult:
    """Write every planned file, or none.

    Parameters
    ----------
    room
        Takes the rasters that polygons are made from and nobody asked for.

    Raises
    ------
    OutputError
        If a file cannot be written; those that existed are untouched then.
    """
    options = mapped.options
    with Staging(
        plan.files, overwrite=plan.may_replace(options.outputs.overwrite, options.resume)
    ) as staging:
        room.note_staged({staging[path].parent for path in plan.files})
        products = _Products(plan, mapped, staging, room.folder)
        products.write_rasters()
        polygons = products.write_polygons()
        if plan.preview is not None:
            products.draw(polygons)
        # The summary tells the time until it is written; flushing and renaming take no part in it.
        result = products.result(polygons)
        tell_doubts(result)
        if plan.summary is not None:
            text = json.dumps(result.document(), indent=2) + "\n"
            staging.write_text(plan.summary, text)
        if plan.stac is not None:
            products.describe()
    return result


def tell_doubts(result: SceneResult) -> None:
    """Warn of an answer that is to be doubted, or refuse it if that was asked for.

    Raises
    ------
    InputError
        With ``options.strict``, if there is a doubt.
    """
    for text in result.judgement.texts:
        log.warning("%s: %s", result.source, text)
    if result.options.strict and result.judgement:
        raise InputError(
            f"{result.source}: {result.judgement.line}, and --strict was given; leave it out to have the map "
            "all the same"
        )


class _Products:
    """The outputs of one scene in the making."""

    def __init__(self, plan: ScenePlan, mapped: Mapped, staging: Staging, room: Path) -> None:
        self.plan, self.mapped, self.staging = plan, mapped, staging
        self.provenance = mapped.provenance
        self.room = room
        # Who asks for a resolution gets it; otherwise rasters lie on the scene, pixel on pixel.
        source, asked = mapped.source, mapped.options.read.resolution
        self.relaid = not source.on_own_grid and (asked is None or source.on_ground)
        self.shape = source.find_shape_at(asked)
        self.specks, self.dropped = Specks(), list[float]()
        self.kept: Path | None = None
        self.judgement = Judgement()
        if isinstance(mapped.model, SettlementModel):
            self.judgement = judge_scene(source, mapped.model.known, mapped.model.resolution)
        self.mask = room / "mask.tif"
        self.probability = room / "probability.tif"
        if plan.mask is not None and not self.relaid:
            self.mask = staging[plan.mask]
        if plan.probability is not None and not self.relaid:
            self.probability = staging[plan.probability]

    def write_rasters(self) -> None:
        """Probability and mask as Cloud-Optimised GeoTIFFs, as far as they are wanted or needed.

        Polygons are made from those on the work grid, where the model has looked: what is laid on the
        scene's own grid is interpolated between its pixels and can tell nothing more.
        """
        wanted: list[tuple[Kind, Path]] = []
        if self.plan.probability is not None or self.plan.vectors:
            wanted.append(("probability", self.probability))
        wanted.append(("mask", self.mask))
        answer, source = self.mapped.answer, self.mapped.source
        self._drop_specks()
        place = source.transform, source.work_crs
        for kind, path in wanted:
            self._write_raster(kind, self._staged(kind), answer.shape, place, path)
        if self.relaid:
            self._write_on_scene()

    def _drop_specks(self) -> None:
        """Leave out of the mask, and of all that is made from it, what is too small to become a polygon."""
        shape, answer = self.mapped.options.shape, self.mapped.answer
        if not shape.min_area or answer.labels is not None:
            return
        # Places may still grow where holes are closed. Polygons are measured more exactly afterwards.
        share = 0.5 if shape.close_holes else 0.99
        least = max(1, int(share * shape.min_area / self._pixel_m2))
        self.kept = self.room / KEPT_FILE
        with (
            RawRaster.open(answer.probability, answer.shape) as probability,
            RawRaster.create(self.kept, answer.shape) as kept,
        ):
            self.specks = drop_specks(probability, kept, answer.level, least)

    @property
    def _pixel_m2(self) -> float:
        """Square metres of a pixel of the work grid; 1 without a CRS."""
        pixel = self.mapped.source.profile_info.work_pixel
        return 1.0 if pixel is None else pixel[0] * pixel[1]

    def _staged(self, kind: Kind) -> Path:
        """The engine's answer that a raster is made from."""
        answer = self.mapped.answer
        if kind == "probability":
            return answer.probability
        return answer.labels or self.kept or answer.probability

    def _write_raster(
        self, kind: Kind, staged: Path, shape: tuple[int, int], place: tuple[Affine, Any], path: Path
    ) -> None:
        if kind == "mask" and self.mapped.answer.labels is not None:
            kind = "classes"
        threshold = self.mapped.options.shape.threshold
        layout = CogLayout(kind, *place, threshold, tags=self.tags())
        with RawRaster.open(staged, shape) as raster:
            write_cog(raster, path, layout)

    def _write_on_scene(self) -> None:
        """What was asked for, on the scene's own grid, or one of its extent with the pixels asked for."""
        answer, source = self.mapped.answer, self.mapped.source
        laid = self.room / "on_scene.u8"
        wanted: tuple[tuple[Kind, Path | None], ...] = (
            ("probability", self.plan.probability),
            ("mask", self.plan.mask),
        )
        for kind, path in wanted:
            if path is None:
                continue
            nearest = kind == "mask" and answer.labels is not None
            with RawRaster.open(self._staged(kind), answer.shape) as raster:
                own = self.shape == source.scene_shape
                lay_on_scene(raster, source, laid, nearest, None if own else self.shape)
            rows, cols = self.shape
            scale = Affine.scale(source.scene_shape[1] / cols, source.scene_shape[0] / rows)
            place = source.scene_transform @ scale, source.crs
            self._write_raster(kind, laid, self.shape, place, self.staging[path])
            laid.unlink()

    def tags(self) -> dict[str, str]:
        """What the rasters say about their making."""
        return {
            "SOFTWARE": f"domainsam {domainsam.__version__}",
            "MODEL": self.provenance.model,
            "FOUNDATION": self.mapped.model.foundation_name,
            "METHOD": self.provenance.method,
            "SOURCE": self.provenance.source,
            "COMMAND": self.mapped.options.made_by,
        }

    def _classes(self) -> Mapping[int, str]:
        """Names of the mask's values."""
        if isinstance(self.mapped.model, SettlementModel):
            return {1: "settlement"}
        return dict(enumerate(self.mapped.answer.names or ("object",), start=1))

    def _title(self) -> str:
        """What the objects of the scene are, in a word."""
        return "settlement" if isinstance(self.mapped.model, SettlementModel) else "object"

    def write_polygons(self) -> Any:
        """Polygons, and the grid if it is wanted, in all formats; returns the table of polygons."""
        shape = self.mapped.options.shape
        options = PolygonOptions(
            min_area=shape.min_area,
            close_holes=shape.close_holes,
            simplify=shape.simplify,
            allow_no_crs=self.mapped.options.read.allow_no_crs,
            labels=self._classes(),
        )
        confidence = self.probability if self.probability.exists() else None
        answer = self.mapped.answer
        if answer.told.get("way") in RANKED:
            table = polygonise_ranked(
                answer.ranked,
                self.mask,
                self.room / "ranks.tif",
                options,
                self.provenance,
                self.dropped,
                smaller_first=answer.told["way"] == EVERYTHING,
            )
        else:
            table = polygonise(
                self.mask,
                options,
                probability_path=confidence,
                provenance=self.provenance,
                dropped=self.dropped,
            )
        source = self.mapped.source
        if source.crs is not None and parse_crs(source.work_crs) != parse_crs(source.crs):
            table = table.to_crs(parse_crs(source.crs))
        size = self.plan.grid if self.plan.vectors else None
        cells = None if size is None else compute_grid_shares(self.mask, size)
        for path in self.plan.vectors:
            # One at a time: the staged names of files from different folders lie in different folders too.
            written = write_vectors([self.staging[path]], table, cells, overwrite=True)
            self._collect(path, written)
        return table

    def _collect(self, path: Path, written: tuple[Path, ...]) -> None:
        """Make sure that the files written are those that were planned beside ``path``."""
        planned = {self.staging[file] for file in self.plan.files if file.parent == path.parent}
        unplanned = [file for file in written if file not in planned]
        assert not unplanned, f"{unplanned} would be lost"

    def draw(self, polygons: Any) -> None:
        """The preview picture."""
        # Matplotlib takes a second to import and 25 MB of every worker, none of which draws.
        from domainsam_urban.write.preview import Caption, draw_preview

        assert self.plan.preview is not None
        profile = self.mapped.source.profile_info
        result = self.result(polygons)
        area = "" if math.isnan(result.hectares) else f", {result.hectares:.1f} ha"
        found = count_objects(len(polygons), result.method)
        facts = f"{found}{area}; model {self.provenance.model}, {self.provenance.method}"
        facts += f"; {result.judgement.line}" if result.judgement else ""
        draw_preview(
            self.staging[self.plan.preview],
            profile.path,
            polygons,
            Caption(self.provenance.source, facts),
            bands=profile.bands,
            window=self.mapped.source.window,
            names=list(dict.fromkeys(self._classes().values())),
            probability_path=None if self.plan.probability is None else self.staging[self.plan.probability],
            overwrite=True,
        )

    def describe(self) -> None:
        """The STAC item, which names files by where they will be."""
        plan = self.plan
        assert plan.stac is not None
        outputs: list[Output] = []
        for path in plan.vectors:
            form = find_vector_format(path)
            key = "polygons" if len(plan.vectors) == 1 else f"polygons-{path.suffix[1:]}"
            outputs.append(describe_vector(path, form.media_type, key, self._title()))
        if plan.mask is not None:
            outputs.append(describe_mask(plan.mask, self._classes(), self._title()))
        if plan.probability is not None:
            outputs.append(describe_probability(plan.probability, self._title()))
        if plan.preview is not None:
            outputs.append(describe_preview(plan.preview))
        if plan.summary is not None:
            outputs.append(describe_summary(plan.summary))
        raster = self.mask if plan.mask is None else self.staging[plan.mask]
        source = self.mapped.source
        # Nobody is given a raster of the work grid where others lie on the scene.
        own = Place(source.scene_shape, source.scene_transform, source.crs)
        item = make_item(
            plan.stac,
            raster,
            outputs,
            scene=source.path,
            provenance=self.provenance,
            place=own if self.relaid and plan.mask is None else None,
            seen=self._outline_data,
        )
        write_item(item, self.staging[plan.stac], overwrite=True)

    def _outline_data(self, outline: Any) -> Any:
        """The part of the scene's footprint that holds data."""
        answer, source = self.mapped.answer, self.mapped.source
        if answer.valid_pixels == answer.pixels:
            return outline
        return outline_data(answer.probability, answer.shape, source.transform, source.work_crs, outline)

    def _left_out_ha(self) -> float:
        """Hectares of settlement that were left out for being small; NaN without a CRS."""
        if self.mapped.source.crs is None:
            return math.nan
        return (self.specks.pixels * self._pixel_m2 + sum(self.dropped)) / 1e4

    def _find_valid_share(self) -> float:
        """Share of the scene that holds data; the work grid may reach beyond the scene."""
        answer, source = self.mapped.answer, self.mapped.source
        if not source.on_ground:
            return answer.valid_pixels / answer.pixels
        ground, rows, cols = source.profile_info.ground_pixel or (1.0, 1.0), *source.scene_shape
        return min(1.0, answer.valid_pixels * self._pixel_m2 / (rows * cols * ground[0] * ground[1]))

    def result(self, polygons: Any) -> SceneResult:
        """The run in figures, up to now."""
        mapped, profile = self.mapped, self.mapped.source.profile_info
        answer, area = mapped.answer, polygons["area_ha"]
        ground = profile.ground_pixel
        return SceneResult(
            source=profile.path,
            paths=self.plan.named,
            shape=profile.shape,
            work_shape=answer.shape,
            ground_pixel_m=None if ground is None else math.sqrt(ground[0] * ground[1]),
            polygons=len(polygons),
            hectares=float(area.sum()) if profile.crs is not None else math.nan,
            objects_found=answer.kept,
            left_out=self.specks.count + len(self.dropped),
            left_out_ha=self._left_out_ha(),
            valid_share=self._find_valid_share(),
            crops=answer.crops,
            resumed=answer.resumed,
            seconds={**answer.seconds, "total": perf_counter() - mapped.begin},
            peak_rss_mb=measure_peak_rss(),
            model=self.provenance.model,
            foundation=mapped.model.foundation_name,
            method=self.provenance.method,
            options=mapped.options,
            model_iou=self._get_score(),
            judgement=self._judge(polygons),
            told=answer.told,
        )

    def _get_score(self) -> float | None:
        model = self.mapped.model
        return model.get_score(self.mapped.options.run.method) if isinstance(model, SettlementModel) else None

    def _judge(self, polygons: Any) -> Judgement:
        """The scene and what was found in it; what a person marked is not judged."""
        if not isinstance(self.mapped.model, SettlementModel):
            return self.judgement
        seen = self._find_valid_share() * self._measure_scene_ha()
        return self.judgement.joined(judge_answer(polygons["area_ha"], polygons["confidence"], seen))

    def _measure_scene_ha(self) -> float:
        """Hectares of the whole scene, NaN without a CRS."""
        ground, (rows, cols) = self.mapped.source.profile_info.ground_pixel, self.mapped.source.scene_shape
        return math.nan if ground is None else rows * cols * ground[0] * ground[1] / 1e4
