"""Options of ``domainsam urban map`` as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from domainsam.errors import ConfigError
from domainsam.infer.spread import SpreadOptions
from domainsam.marks import MarkFiles

if TYPE_CHECKING:
    from domainsam.prompter.everything import EverythingOptions
    from domainsam.prompter.language.speakers import AskOptions

MADE_BY = "domainsam"
LEAST_AREA_M2 = 500.0
"""Smaller settlements are specks: left out unless a person, or the model's file, says otherwise.

India's National Sample Survey (69th round, 2012, Report 561) calls a cluster a slum from 20 households on; at
25 m² of ground each that is 500 m².
"""
VIEWS = (1, 4, 8)
"""Pictures that a first look may be averaged over: one, its quarter turns, these and their mirror images."""
CONTEXT_PIXELS = 96
"""How far from an edge, in pixels that the network sees, its answer depends on what lies beyond."""
METHODS = ("full", "coarse")
"""``full``: prompts decoded by the foundation. ``coarse``: the prompter's first look alone, no foundation.

Which of them is the default, the model's file says: the better one on its validation ground."""


@dataclass(frozen=True)
class ReadOptions:
    """How scenes are read.

    ``bands`` are 1-based and in the order red, green, blue; ``nodata`` comes
    on top of what the file declares; ``resolution`` is the ground pixel in
    metres that the model sees, by default the one it was trained at. ``bbox``
    is west, south, east, north in ``bbox_crs``, by default in the scene's own
    CRS and of a catalogue in degrees; ``aoi`` is a file of polygons. Outside of
    either there is no data. Of a catalogue ``asset`` is the key of the pictures,
    and ``date`` the dates that are wanted.
    """

    bands: tuple[int, ...] | None = None
    nodata: float | None = None
    resolution: float | None = None
    normalize: str = "auto"
    allow_no_crs: bool = False
    bbox: tuple[float, ...] | None = None
    bbox_crs: str | None = None
    aoi: Path | None = None
    asset: str | None = None
    date: str | None = None


@dataclass(frozen=True)
class RunOptions:
    """How the networks are run.

    ``tile`` and ``overlap`` are in pixels of the model's resolution; ``views``
    is 1, or 4 or 8 for the mean of the first look over turned and mirrored
    pictures; ``runtime`` says who computes the foundation.
    """

    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    overlap: int | None = None
    batch_size: int = 4
    workers: int = 2
    method: str = "full"
    """What a model's file says comes by :func:`domainsam_urban.model.settlement.get_method`."""
    disabled: frozenset[str] = frozenset()
    """Prompt parts that are switched off: ``box``, ``mask``, ``sam_embedding``, ``segformer_embedding``."""
    views: int = 1
    runtime: str = "torch"


@dataclass(frozen=True)
class ShapeOptions:
    """How probability becomes polygons: areas in square metres, lengths in metres.

    Raises
    ------
    ConfigError
        If the threshold does not lie between 0 and 1, or another value is negative.
    """

    threshold: float = 0.5
    min_area: float = 0.0
    simplify: float = 0.0
    close_holes: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold is {self.threshold}, expected a probability between 0 and 1")
        for name in ("min_area", "simplify", "close_holes"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 0 or more")


@dataclass(frozen=True)
class OutputOptions:
    """Where results go; every path may be a folder or hold ``{stem}``."""

    vectors: tuple[Path, ...]
    probability: Path | None = None
    mask: Path | None = None
    preview: Path | None = None
    summary: Path | None = None
    grid: float | None = None
    stac: bool = True
    datetime: str | None = None
    overwrite: bool = False
    collection: Path | None = None
    """Folder for one table and one STAC collection about all scenes."""
    merge: tuple[Path, ...] = ()
    """Files for one layer of all scenes, in which objects that lie in several are one."""


WAYS = ("texture", "persam")
"""How an example is looked for: ``texture``, outlines of a map of likeness; ``persam``, points that the
foundation makes masks of. The first is the default: on aerial pictures it finds several times as much."""


@dataclass(frozen=True)
class LikeOptions:
    """What is looked for by example, and how far.

    Parameters
    ----------
    like, unlike
        Files of outlines: what is looked for, and what looks alike and is not wanted.
    method
        One of :data:`WAYS`.
    finetune
        Learn PerSAM-F's two weights on the examples; only with ``persam``.
    least
        Least score of an object, 0 to 1; at 0.5 the example parts from its surroundings.
    most
        So many objects at most, the best.
    smaller, larger
        Least and greatest area, as factors of the examples'.
    """

    like: tuple[Path, ...] = ()
    unlike: tuple[Path, ...] = ()
    method: str = "texture"
    finetune: bool = False
    least: float = 0.5
    most: int = 1000
    smaller: float = 0.2
    larger: float = 5.0


AGAINST = ("ground", "road", "tree", "grass", "field", "water", "soil", "building", "car")
"""What objects may be called beside the words that are looked for, as far as a model knows them."""
LEAST_WORD_SCORE = 0.3


@dataclass(frozen=True)
class WordOptions:
    """What is looked for by words, and how far.

    Parameters
    ----------
    words, vocabulary
        Words one by one, synonyms behind commas, and a file of them.
    against
        Words that objects may be called instead and that are not wanted; None for :data:`AGAINST`.
    model
        Model of words: name, path or ``NAME:PATH``; None for the embedded one.
    proposals
        One of :data:`domainsam.prompter.words.PROPOSALS`.
    least, most
        Least score of an object, and the most objects.
    """

    words: tuple[str, ...] = ()
    vocabulary: Path | None = None
    against: tuple[str, ...] | None = None
    model: str | None = None
    proposals: str = "auto"
    least: float = LEAST_WORD_SCORE
    most: int = 1000


@dataclass(frozen=True)
class LabelOptions:
    """How outlines are named.

    Parameters
    ----------
    out
        The outlines with what they are called.
    words, vocabulary, model
        As of :class:`WordOptions`.
    least
        A word that fits less than this is none.
    layer
        Of the file of outlines, where it has several.
    """

    out: Path
    words: tuple[str, ...] = ()
    vocabulary: Path | None = None
    model: str | None = None
    least: float = 0.0
    layer: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    device: str = "auto"
    precision: str = "auto"
    overwrite: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class MapOptions:
    """One call of ``domainsam urban map``, without its inputs."""

    outputs: OutputOptions
    model: Path | None = None
    foundation: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    run: RunOptions = field(default_factory=RunOptions)
    shape: ShapeOptions = field(default_factory=ShapeOptions)
    resume: bool = False
    quiet: bool = False
    classifier: Path | None = None
    """A file that says which cells of ground are worth a closer look."""
    marks: MarkFiles = field(default_factory=MarkFiles)
    """Where objects are, if a person says it instead of the model."""
    like: LikeOptions | None = None
    """What an example shows, if that is looked for."""
    everything: EverythingOptions | None = None
    """What of all that the foundation sees is kept, if everything is asked for."""
    ask: AskOptions | None = None
    """Which language model is asked, if words say what is looked for."""
    phrase: str = ""
    """These words."""
    words: WordOptions | None = None
    """What words say, if that is looked for."""
    strict: bool = False
    """Whether a map that is to be doubted is refused."""
    made_by: str = MADE_BY
    """What rasters say they were made by: the command, or this."""
    spread: SpreadOptions = field(default_factory=SpreadOptions)
    """Who does the scenes, where there are many; or the pieces of one."""
    alone: bool = False
    """Whether the scene is the only one of its run."""


@dataclass(frozen=True)
class Format:
    """A kind of vector file.

    Parameters
    ----------
    name
        As people call it.
    media_type
        As STAC and HTTP call it.
    many_layers
        Whether one file holds several layers and their styles.
    """

    name: str
    media_type: str
    many_layers: bool = False


FORMATS: Mapping[str, Format] = {
    ".gpkg": Format("GeoPackage", "application/geopackage+sqlite3", many_layers=True),
    ".parquet": Format("GeoParquet", "application/vnd.apache.parquet"),
    ".fgb": Format("FlatGeobuf", "application/vnd.flatgeobuf"),
    ".geojson": Format("GeoJSON", "application/geo+json"),
}
"""Vector formats by extension, the default first."""
SETTLEMENTS = "settlements"
GRID = "grid"
"""Layers of a GeoPackage, and what other formats add to a file's name."""


def find_vector_format(path: Path | str) -> Format:
    """The format that a path's extension asks for.

    Raises
    ------
    ConfigError
        If no format has that extension; the message lists those that exist.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"'{path}' ends in '{suffix}', which is no known vector format: use one of {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def find_grid_path(path: Path) -> Path:
    """Where the grid goes beside polygons in a format of one layer."""
    return path.with_name(f"{path.stem}_{GRID}{path.suffix}")
