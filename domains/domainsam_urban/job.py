"""Plan the output files of a run and check them before any work; results of scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import domainsam
from domainsam.errors import ConfigError
from domainsam.familiar import Judgement
from domainsam.foundations import tell_licences
from domainsam.infer import batch
from domainsam.infer.many import Entry
from domainsam.infer.outputs import OutputPlan, check_suffix, resolve_output, safe_name
from domainsam.limits import tell_changing
from domainsam.remote import tell_place
from domainsam.staging import check_apart
from domainsam_urban.settings import MapOptions, OutputOptions, find_grid_path, find_vector_format

FOLDER_NAMES = {
    "vector": "{stem}.gpkg",
    "probability": "{stem}_probability.tif",
    "mask": "{stem}_mask.tif",
    "preview": "{stem}_preview.png",
    "summary": "{stem}_summary.json",
}
"""What a file is called in a folder that was given instead of a file."""

NOT_VALIDATED = "the model has no validation score"
MARKED = "marked"
"""Method of a scene whose objects were marked and not found by a model."""
ALIKE = "like"
"""Method of a scene in which what looks like an example was found."""
WORDED = "words"
"""Method of a scene in which a model of words found what words say."""
ASKED = "ask"
"""Method of a scene in which a language model found what words mean."""
EVERYTHING = "everything"
"""Method of a scene in which everything that the foundation sees was outlined."""
RANKED = (ALIKE, WORDED, ASKED, EVERYTHING)
"""Methods whose objects are kept apart and ranked."""
BY_PROMPT = (MARKED, *RANKED)
"""Methods that no trained model of settlements has a part in."""
SUFFIXES = {
    "probability": (".tif", ".tiff"),
    "mask": (".tif", ".tiff"),
    "preview": (".png",),
    "summary": (".json",),
}


@dataclass(frozen=True)
class ScenePlan(OutputPlan):
    """One scene and every file that its run will write.

    Parameters
    ----------
    source
        What was given: a path, a ``/vsi`` path or anything else GDAL opens.
    vectors
        Polygon files; none where only rasters are wanted.
    probability, mask, preview, summary, stac
        Further files, or None.
    grid
        Side of the cells of the gridded output in metres, or None.
    when
        When the scene was taken, as a catalogue states it.
    """

    source: str
    vectors: tuple[Path, ...]
    probability: Path | None = None
    mask: Path | None = None
    preview: Path | None = None
    summary: Path | None = None
    stac: Path | None = None
    grid: float | None = None
    when: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file, styles and grids included."""
        rasters = (self.probability, self.mask, self.preview, self.summary, self.stac)
        vectors = [file for path in self.vectors for file in list_vector_files(path, self.grid is not None)]
        return (*dict.fromkeys(vectors), *(path for path in rasters if path is not None))

    @property
    def named(self) -> dict[str, Path]:
        """The files a person wants to hear about, by what they are."""
        kinds = {f"polygons {path.suffix[1:]}": path for path in self.vectors}
        if len(self.vectors) == 1:
            kinds = {"polygons": self.vectors[0]}
        others = {
            "probability": self.probability,
            "mask": self.mask,
            "preview": self.preview,
            "summary": self.summary,
            "stac": self.stac,
        }
        return kinds | {kind: path for kind, path in others.items() if path is not None}


def list_vector_files(path: Path, grid: bool) -> tuple[Path, ...]:
    """Files that one polygon output consists of; see :func:`domainsam_urban.write.vectors.write_vectors`."""
    if find_vector_format(path).many_layers:
        return (path,)
    tables = (path, find_grid_path(path)) if grid else (path,)
    return (*tables, *(table.with_suffix(".qml") for table in tables))


def plan_outputs(inputs: Sequence[str | Entry], outputs: OutputOptions) -> tuple[ScenePlan, ...]:
    """The files of every scene; an entry of a catalogue may name it.

    Raises
    ------
    ConfigError
        If an extension is unknown, or two scenes would share a file.
    OutputError
        If an output would replace one of the scenes.
    """
    entries = [Entry(given) if isinstance(given, str) else given for given in inputs]
    plans = tuple(_plan_scene(entry, outputs) for entry in entries)
    check_apart(
        (path for plan in plans for path in plan.files), (Path(entry.source) for entry in entries), "scenes"
    )
    return plans


def make_scene_stem(source: str) -> str:
    """A file name for a scene: the last part of its path without extension, safe on any system."""
    stem = Path(source.rstrip("/")).stem
    return safe_name(stem, "scene")


def _plan_scene(entry: Entry, outputs: OutputOptions) -> ScenePlan:
    source = entry.source
    stem = entry.name or make_scene_stem(source)
    vectors = tuple(resolve_output(path, stem, FOLDER_NAMES["vector"]) for path in outputs.vectors)
    for path in vectors:
        find_vector_format(path)
    further = {
        kind: None if path is None else resolve_output(path, stem, FOLDER_NAMES[kind])
        for kind, path in (
            ("probability", outputs.probability),
            ("mask", outputs.mask),
            ("preview", outputs.preview),
            ("summary", outputs.summary),
        )
    }
    for kind, file in further.items():
        if file is not None:
            check_suffix(file, kind, SUFFIXES[kind])
    first = next((path for path in (*vectors, *further.values()) if path is not None), None)
    if first is None:
        raise ConfigError(f"no output was asked for scene '{source}': name at least one")
    stac = first.with_name(f"{first.stem}.stac.json") if outputs.stac else None
    return ScenePlan(source, vectors, stac=stac, grid=outputs.grid, when=entry.when, **further)


@dataclass(frozen=True)
class SceneResult:
    """One finished scene.

    ``hectares`` is the area of all polygons on the ellipsoid, NaN without a
    CRS; ``left_out`` and ``left_out_ha`` tell of those that were smaller than
    the least area; ``megapixels`` are of the grid that the networks saw; ``peak_rss_mb``
    is the whole process's, so far.
    """

    source: str
    paths: Mapping[str, Path]
    shape: tuple[int, int]
    work_shape: tuple[int, int]
    ground_pixel_m: float | None
    polygons: int
    hectares: float
    objects_found: int
    left_out: int
    left_out_ha: float
    valid_share: float
    crops: int
    resumed: bool
    seconds: Mapping[str, float]
    peak_rss_mb: float
    model: str
    foundation: str
    method: str
    options: MapOptions = field(repr=False)
    model_iou: float | None = None
    judgement: Judgement = field(default_factory=Judgement)
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def megapixels_per_second(self) -> float:
        """Speed from opening the scene to the last rename."""
        pixels = self.work_shape[0] * self.work_shape[1]
        return pixels / 1e6 / max(self.seconds["total"], 1e-9)

    def sentence(self) -> str:
        """The result in a line for a person."""
        rows, cols = self.shape
        size = f"{cols} x {rows} pixels"
        if self.ground_pixel_m is not None:
            size += f" of {self.ground_pixel_m:.2f} m"
        area = "" if self.hectares != self.hectares else f", {self.hectares:.1f} ha"
        speed = f"{self.seconds['total']:.1f} s, {self.megapixels_per_second:.2f} Mpx/s"
        found = count_objects(self.polygons, self.method)
        area += self._tell_left_out() + self._tell_trust()
        return f"{self.source} ({size}): {found}{area}; {speed}, {self.peak_rss_mb:.0f} MB"

    def _tell_trust(self) -> str:
        """How good the model is elsewhere, and whether this answer is to be doubted."""
        if self.method in BY_PROMPT:
            return ""
        score = (
            NOT_VALIDATED if self.model_iou is None else f"the model's IoU in validation {self.model_iou:.2f}"
        )
        return f"; {score}" + (f"; {self.judgement.line}" if self.judgement else "")

    def _tell_left_out(self) -> str:
        if not self.left_out:
            return ""
        if self.left_out_ha != self.left_out_ha:
            return f" ({self.left_out} smaller than {self.options.shape.min_area:g} pixels left out)"
        least, area = self.options.shape.min_area, self.left_out_ha
        return f" ({self.left_out} smaller than {least:g} m² left out, {area:.2f} ha in all)"

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        values = {
            "domainsam": domainsam.__version__,
            **{
                key: value
                for key, value in vars(self).items()
                if key not in ("paths", "options", "judgement", "told")
            },
            "hectares": None if self.hectares != self.hectares else self.hectares,
            "left_out_ha": None if self.left_out_ha != self.left_out_ha else self.left_out_ha,
            "seconds": tell_changing(self.seconds),
            "peak_rss_mb": tell_changing(self.peak_rss_mb),
            "resumed": bool(tell_changing(self.resumed)),
            "megapixels_per_second": tell_changing(self.megapixels_per_second),
            "licences": tell_licences(self.model, self.foundation),
            "paths": {kind: tell_place(path) for kind, path in self.paths.items()},
            "judgement": self.judgement.document(),
            "options": _told_options(self.options),
            **({str(self.told.get("way", ALIKE)): dict(self.told)} if self.told else {}),
        }
        return {key: _plain(value) for key, value in values.items()}


def count_objects(number: int, method: str) -> str:
    """``3 settlements``; of a scene in which a person marked the objects ``3 objects``."""
    what = "object" if method in BY_PROMPT else "settlement"
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass(frozen=True)
class Batch(batch.Batch[SceneResult]):
    """What became of several scenes; ``about`` are the files about all of them, by kind."""

    about: Mapping[str, Path] = field(default_factory=dict)

    key = "source"

    def document(self) -> dict[str, Any]:
        """Everything about every scene, as values that JSON can hold."""
        about = {kind: str(path) for kind, path in self.about.items()}
        return {**super().document(), **({"about": about} if about else {})}


def _told_options(options: MapOptions) -> dict[str, Any]:
    """The options that decide the answer; those of marks only where there are any."""
    left_out = {"made_by", "spread", "alone", "resume"}
    left_out |= set() if options.marks else {"marks"}
    left_out |= set() if options.like else {"like"}
    left_out |= set() if options.everything else {"everything"}
    left_out |= set() if options.ask else {"ask", "phrase"}
    left_out |= set() if options.words else {"words"}
    told = {name: value for name, value in asdict(options).items() if name not in left_out}
    return told | {"resume": bool(tell_changing(options.resume))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
