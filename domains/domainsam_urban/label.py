"""Name outlines that any tool has drawn, by what a scene shows inside them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from domainsam.errors import InputError
from domainsam.infer.networks import Networks
from domainsam.infer.view import PixelView, SceneView
from domainsam.io.marks.vector import place_outlines
from domainsam.io.vectors import PARQUET, list_layers, read_table
from domainsam.progress import report_progress
from domainsam.protocols import Namer, SceneObject, View, Word
from domainsam.staging import Staging, check_apart, check_targets
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.names import AT_ONCE, Named, choose_names, count_names, tell_understood
from domainsam.vocabulary.words import gather_words
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import LabelOptions, ReadOptions, find_vector_format
from domainsam_urban.write.vectors import write_table

log = logging.getLogger(__name__)

NAMED, NONE_FITS, OUTSIDE, UNSEEN, NO_OUTLINE = "named", "none fits", "outside", "no data", "no outline"
"""What became of an outline, as the column ``answer`` says it."""
COLUMNS = ("word", "word_score", "second_word", "second_score", "answer")
"""Columns that are added, under a free name where one is taken."""


@dataclass(frozen=True)
class LabelResult:
    """What became of the outlines of one file."""

    out: Path
    outlines: int
    model: str
    words: dict[str, int]
    answers: dict[str, int]
    columns: tuple[str, ...]
    understood: dict[str, Any]
    seconds: float

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {**vars(self), "out": str(self.out), "columns": list(self.columns)}

    def lines(self) -> list[str]:
        """The result for a person."""
        told = [f"{self.outlines} outline{'s' * (self.outlines != 1)} by {self.model}: {self.out}"]
        told += [f"  {word:<24} {count}" for word, count in self.words.items()]
        told += [
            f"  ({answer}) {count}" for answer, count in self.answers.items() if answer != NAMED and count
        ]
        for word, how in self.understood.items():
            if how["known"] != word:
                told.append(f"  {word!r} is taken as {how['known']!r} (nearness {how['nearness']:.2f})")
        return told


def label_outlines(
    outlines: Path, scene: str, options: LabelOptions, namer: Namer | None = None
) -> LabelResult:
    """Name the outlines of a file by words, and write the file with what they are called.

    Rows, attributes, geometry and CRS stay as they are; outlines outside of the scene stay too, and say so.

    Parameters
    ----------
    namer
        A model that is loaded already; otherwise the options say which.

    Raises
    ------
    ConfigError
        If no word is given, or an option is impossible.
    InputError
        If a file cannot be read, holds no outline, or a word is not understood.
    OutputError
        If the output exists or cannot be written.
    WeightsError, CheckpointError, DependencyError
        If the model cannot be loaded.
    """
    begin = perf_counter()
    find_vector_format(options.out)
    check_apart([options.out], [outlines, Path(scene)], "inputs")
    check_targets([options.out], options.overwrite)
    words = gather_words(options.words, options.vocabulary)
    layer = choose_layer(outlines, options.layer)
    table = read_outlines(outlines, layer)
    namer = namer or load_vocabulary_model(options.model, options.device, options.precision)
    understood = namer.understand(words)
    with open_plain(scene, options.read) as source:
        for note in source.notes:
            log.warning(note)
        objects = place_outlines(outlines, table, source.grid)
        with report_progress(outlines.name, options.quiet) as progress:
            named = name_outlines(namer, make_view(source, namer), objects, words, progress)
    answers = [
        _tell(one, shape, name) for one, shape, name in zip(objects, table.geometry, named, strict=True)
    ]
    columns = add_columns(table, named, answers, options.least)
    with Staging([options.out], overwrite=options.overwrite) as staging:
        write_table(staging[options.out], options.out, layer or options.out.stem, table)
    counted = count_names([one for one in named if one is not None and one.score >= options.least])
    return LabelResult(
        options.out,
        len(table),
        namer.name,
        counted["words"],
        {answer: answers.count(answer) for answer in (NAMED, NONE_FITS, OUTSIDE, UNSEEN, NO_OUTLINE)},
        columns,
        tell_understood(understood),
        perf_counter() - begin,
    )


def open_plain(scene: str, read: ReadOptions) -> RasterSource:
    """A scene as its options read it, with its own pixels unless a resolution is asked for."""
    return RasterSource(
        scene,
        bands=read.bands,
        nodata=read.nodata,
        resolution=read.resolution,
        normalize=read.normalize,
        on_ground=True,
    )


def choose_layer(path: Path, wanted: str | None) -> str | None:
    """The layer of outlines: the one asked for, or the only one; None for files without layers.

    Raises
    ------
    InputError
        If there are several and none is named, or there is no such layer.
    """
    layers = list_layers(path, "outlines")
    if path.suffix.lower() in PARQUET:
        return None
    if wanted is not None and wanted not in layers:
        raise InputError(f"{path}: has no layer {wanted!r}; it has {', '.join(layers) or 'none'}")
    if wanted is None and len(layers) != 1:
        raise InputError(
            f"{path}: has {len(layers)} layers ({', '.join(layers)}); say by --layer which one it is"
        )
    return wanted or layers[0]


def read_outlines(path: Path, layer: str | None) -> Any:
    """The outlines of a file as a GeoDataFrame, rows as they are.

    Raises
    ------
    InputError
        If it holds none, or does not say where they lie.
    """
    table = read_table(path, layer, "outlines")
    if "geometry" not in table or not len(table):
        raise InputError(f"{path}: holds no outline; expected polygons")
    if table.crs is None:
        raise InputError(f"{path}: has no CRS, so its place is unknown; assign the one it was drawn in")
    return table.reset_index(drop=True)


def make_view(source: RasterSource, namer: Namer) -> View:
    """A scene as a model of words looks at it: with features where the model takes those of a foundation."""
    foundation = getattr(namer, "foundation", None)
    if foundation is None:
        return PixelView(source)
    return SceneView(source, Networks(foundation, foundation.device, "float32"), foundation)


def name_outlines(
    namer: Namer,
    view: View,
    objects: Sequence[SceneObject | None],
    words: Sequence[Word],
    progress: Any,
) -> list[Named | None]:
    """What each object is called; None where there is none."""
    present = [number for number, one in enumerate(objects) if one is not None]
    named: list[Named | None] = [None] * len(objects)
    for start in range(0, len(present), AT_ONCE):
        part = present[start : start + AT_ONCE]
        shown = [one for number in part if (one := objects[number]) is not None]
        scores = namer.name_objects(view, shown, words)
        scores[[not is_seen(view, one) for one in shown]] = np.nan
        for number, name in zip(part, choose_names(scores, words), strict=True):
            named[number] = name
        progress("name", min(start + AT_ONCE, len(present)), len(present))
    return named


def is_seen(view: View, one: SceneObject) -> bool:
    """Whether an object holds any valid pixel."""
    valid = view.block(one.bounds).valid
    return bool((valid if one.mask is None else valid & one.mask).any())


def _tell(one: SceneObject | None, shape: Any, name: Named | None) -> str:
    if one is None or name is None:
        drawn = shape is not None and shape.geom_type in ("Polygon", "MultiPolygon") and not shape.is_empty
        return OUTSIDE if drawn else NO_OUTLINE
    if not name.answered:
        return UNSEEN
    return NONE_FITS if name.word is None else NAMED


def add_columns(
    table: Any, named: Sequence[Named | None], answers: list[str], least: float
) -> tuple[str, ...]:
    """Add what outlines are called to a table, in place; returns the names of the columns.

    A word that fits less than ``least`` is as none: the answer is then that none fits.
    """
    for number, one in enumerate(named):
        if answers[number] == NAMED and one is not None and one.score < least:
            answers[number] = NONE_FITS
    kept = [answer == NAMED for answer in answers]
    rows = list(zip(named, kept, strict=True))
    values: dict[str, list[Any]] = {
        "word": [one.word if one is not None and keep else None for one, keep in rows],
        "word_score": [round(one.score, 4) if one is not None and keep else np.nan for one, keep in rows],
        "second_word": [one.second if one is not None and one.answered else None for one, _ in rows],
        "second_score": [
            round(one.second_score, 4) if one is not None and one.second is not None else np.nan
            for one, _ in rows
        ],
        "answer": answers,
    }
    names = []
    for name in COLUMNS:
        free = _find_free(name, {str(column).lower() for column in table.columns})
        table[free] = np.array(values[name], dtype=float if name.endswith("score") else object)
        names.append(free)
    return tuple(names)


def _find_free(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
