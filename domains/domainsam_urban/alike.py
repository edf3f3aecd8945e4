"""Find in a scene what looks like an example: one target over the whole scene, ranked objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from domainsam.errors import InputError
from domainsam.infer.found import UNNAMED
from domainsam.infer.networks import Networks
from domainsam.infer.objects import EngineResult
from domainsam.infer.view import SceneView
from domainsam.io.marks import read_marks
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.dense import DenseSource, learn_dense
from domainsam.prompter.descriptors import lay_windows
from domainsam.prompter.example import ExampleOptions, ExampleSource, learn_examples
from domainsam.prompter.search import overlap
from domainsam.protocols import Features, PromptSource, SceneObject, View, Window
from domainsam_urban.job import ALIKE
from domainsam_urban.model.alike import AlikeObjects
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import LikeOptions
from domainsam_urban.write.staged import stage_found

OWN_SHARE = 0.5
"""A found object that covers an example by this share of the smaller is that example itself."""


class WatchedView(SceneView):
    """A scene's view that reports how many of its windows were looked at for the first time."""

    def __init__(self, *args: Any, progress: Progress, side: int) -> None:
        super().__init__(*args)
        self._progress, self._seen = progress, set[Window]()
        self._total = len(lay_windows(self.shape, side))

    def features(self, window: Window) -> Features:
        """As of the class above."""
        features = super().features(window)
        if window not in self._seen and len(self._seen) < self._total:
            self._seen.add(window)
            self._progress("search", len(self._seen), self._total)
        return features


def find_alike(
    source: RasterSource,
    shown: RasterSource,
    model: AlikeObjects,
    folder: Path,
    progress: Progress = report_nothing,
) -> EngineResult:
    """Find what looks like the examples, best first; finding nothing is an answer.

    Parameters
    ----------
    source
        The scene, or the part of it that is searched.
    shown
        The scene that the examples lie in, read with the same pixels; it may be ``source``.
    folder
        Takes the staged answer.

    Raises
    ------
    InputError
        If an example has no outline, lies outside or where there is no data, or covers everything.
    OutputError
        If the folder cannot be written.
    """
    begin = perf_counter()
    networks = Networks(model.foundation, model.device, model.precision)
    view = WatchedView(
        source, networks, model.foundation, progress=progress, side=model.foundation.image_size
    )
    beside = view if shown is source else SceneView(shown, networks, model.foundation)
    examples = read_examples(model.like.like, shown)
    against = read_examples(model.like.unlike, shown)
    pairs = [(beside, one) for one in examples], [(beside, one) for one in against]
    try:
        search, learnt_of = learn_search(model, *pairs)
    except InputError as error:
        names = ", ".join(path.name for path in (*model.like.like, *model.like.unlike))
        raise InputError(f"{names}: {error}") from error
    learnt = perf_counter()
    found = tuple(search.find(view))
    label = next((one.label for one in examples if one.label), UNNAMED)
    own = [any(overlap(one, example) >= OWN_SHARE for example in examples) for one in found]
    same_place = shown is source
    told = {
        "way": ALIKE,
        "examples": len(examples),
        "counterexamples": len(against),
        "method": model.like.method,
        **learnt_of,
        "found": len(found),
        "examples_found_again": sum(own) if same_place else None,
    }
    seconds = {"learn": learnt - begin, "search": perf_counter() - learnt}
    return stage_found(source, found, (label,), folder, told, seconds)


Pairs = Sequence[tuple[View, SceneObject]]


def learn_search(model: AlikeObjects, examples: Pairs, against: Pairs) -> tuple[PromptSource, dict[str, Any]]:
    """The search for what examples show, and what was learnt of them, as JSON can hold it.

    Raises
    ------
    InputError
        If an example has no outline, lies outside or where there is no data, or covers everything.
    """
    options = make_search_options(model.like)
    if model.like.method == "texture":
        dense = learn_dense(examples, model.foundation, against)
        dice = None if math.isnan(dense.dice) else round(dense.dice, 3)
        return DenseSource(dense, model.foundation, options), {"dice_on_examples_left_out": dice}
    target = learn_examples(examples, model.foundation, against, finetune=model.like.finetune)
    calibration = target.calibration
    told = {
        "finetuned": None if target.weights is None else [round(part, 4) for part in target.weights],
        "similarity": {
            "surroundings": round(calibration.low, 4),
            "cut": round(calibration.cut, 4),
            "example": round(calibration.high, 4),
        },
    }
    return ExampleSource(target, model.foundation, options), told


def make_search_options(like: LikeOptions) -> ExampleOptions:
    """How far the search goes."""
    return ExampleOptions(least=like.least, most=like.most, smaller=like.smaller, larger=like.larger)


def read_examples(paths: Sequence[Path], scene: RasterSource) -> tuple[SceneObject, ...]:
    """Outlines of examples in pixels of a scene's work grid; files may be in any CRS.

    An outline that holds no pixel's centre stands for the pixels that it touches.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If one cannot be read, is empty, or lies outside the scene.
    """
    examples = [one for path in paths for one in read_marks(path, scene.grid)]
    return tuple(_outlined(one) for one in examples)


def _outlined(one: SceneObject) -> SceneObject:
    if one.mask is not None or one.box is None:
        return one
    return replace(one, mask=np.ones((one.bounds.height, one.bounds.width), bool))
