"""Marked objects of a picture, named by words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.foundation import load_decoder
from domainsam.infer.pictures import PictureView
from domainsam.prompter.search import cut_out
from domainsam.protocols import Foundation, Namer, SceneObject, Window
from domainsam.staging import check_targets
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.names import Named, choose_names, count_names, name_all, tell_understood
from domainsam.vocabulary.words import gather_words
from domainsam_photo.job import Shown, plan_pictures, write_annotations, write_picture
from domainsam_photo.read.marked import read_marked
from domainsam_photo.read.pictures import read_picture
from domainsam_photo.segment import decode_marked
from domainsam_photo.settings import LabelOptions

NOTHING = "object"
"""What an object is called in files where no word fits."""


@dataclass(frozen=True)
class LabelResult:
    """What the objects of a picture are called."""

    picture: Path
    model: str
    objects: tuple[dict[str, Any], ...]
    counts: dict[str, Any]
    understood: dict[str, Any]
    paths: dict[str, Path]

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {
            "picture": str(self.picture),
            "model": self.model,
            "objects": list(self.objects),
            **self.counts,
            "understood": self.understood,
            "outputs": {kind: str(path) for kind, path in self.paths.items()},
        }

    def lines(self) -> list[str]:
        """The result for a person."""
        count = len(self.objects)
        told = [f"{self.picture.name}: {count} object{'s' * (count != 1)} by {self.model}"]
        for one in self.objects:
            second = "" if one["second"] is None else f"  (next {one['second']}, {one['second_score']:.2f})"
            name = one["word"] or ("none fits" if one["answered"] else "no answer")
            told.append(f"  {one['number']:>3}  {name:<24} {one['score']:.2f}{second}")
        for word, how in self.understood.items():
            if how["known"] != word:
                told.append(f"  {word!r} is taken as {how['known']!r} (nearness {how['nearness']:.2f})")
        return told


def label_picture(picture: Path, options: LabelOptions, namer: Namer | None = None) -> LabelResult:
    """Name the objects that are marked in a picture, and write them if a folder is named.

    Boxes and points are outlined first by the foundation; a model of words that outlines boxes by itself
    does so where no foundation is named.

    Raises
    ------
    ConfigError
        If nothing is marked, no word is given, or an option is impossible.
    InputError
        If a file cannot be read, or a word is not understood.
    OutputError
        If an output exists or cannot be written.
    WeightsError, CheckpointError, DependencyError
        If a model cannot be loaded.
    """
    if options.points is None and options.boxes is None and options.masks is None:
        raise ConfigError("nothing says what to name; give --boxes, --points or --masks")
    run = options.run
    plan = plan_pictures([picture], run.out, run.overlay)[0]
    if options.writes:
        check_targets(plan.files, run.overwrite)
    words = gather_words(options.words, options.vocabulary)
    image = read_picture(picture)
    namer = namer or load_vocabulary_model(options.model, run.device, run.precision)
    understood = namer.understand(words)
    foundation = getattr(namer, "foundation", None) if run.foundation is None else None
    if foundation is None:
        foundation, _ = load_decoder(run.foundation, run.device, run.precision)
    view = PictureView(lambda _: image, 1, foundation, namer.side)
    objects = outline(image, view, options, foundation, namer)
    named = [
        name if name.score >= options.least else Named(None, name.score, name.word, name.score, name.answered)
        for name in choose_names(name_all(namer, view, objects, words), words)
    ]
    paths: dict[str, Path] = {}
    if options.writes:
        shown = [
            Shown(_enlarge(view, one), name.score, name.word or NOTHING)
            for one, name in zip(objects, named, strict=True)
        ]
        paths = write_picture(plan, image, shown, run.overwrite).paths
        write_annotations([plan], run.out, run.made_by, namer.name)
    told = tuple(
        _describe(number, one, name, view)
        for number, (one, name) in enumerate(zip(objects, named, strict=True), 1)
    )
    return LabelResult(picture, namer.name, told, count_names(named), tell_understood(understood), paths)


def outline(
    image: NDArray[np.uint8],
    view: PictureView,
    options: LabelOptions,
    foundation: Foundation,
    namer: Namer,
) -> list[SceneObject]:
    """Marked objects in the pixels of the view, with masks where the model of words does not make its own."""
    marked = read_marked(view, options.points, options.boxes, options.masks)
    boxes_do = getattr(namer, "outlines_boxes", False) and options.run.foundation is None
    found: list[SceneObject] = []
    for one in marked:
        if one.mask is not None or (boxes_do and one.box is not None):
            found.append(one)
            continue
        (shown,) = decode_marked(image, view, [one], foundation)
        found.append(view.shrink_mask(shown.mask) if shown.mask.any() else _as_box(one))
    return found


def _as_box(one: SceneObject) -> SceneObject:
    return one if one.box is not None else SceneObject.marked(box=one.bounds.box)


def _enlarge(view: PictureView, one: SceneObject) -> NDArray[np.bool_]:
    """The mask of an object at the size of the picture; of one without a mask, its box."""
    if one.mask is not None:
        return view.enlarge_mask(one)
    whole = np.zeros(view.shape, bool)
    whole[one.bounds.slices] = True
    bounds, part = cut_out(whole, Window(0, 0, *view.shape))
    return view.enlarge_mask(SceneObject(bounds, mask=part))


def _describe(number: int, one: SceneObject, name: Named, view: PictureView) -> dict[str, Any]:
    """An object as values that JSON can hold; its box in pixels of the picture."""
    across, down = view.original[1] / view.shape[1], view.original[0] / view.shape[0]
    left, top, right, bottom = one.box if one.box is not None else one.bounds.box
    return {
        "number": number,
        "box": [round(side, 2) for side in (left * across, top * down, right * across, bottom * down)],
        "word": name.word,
        "score": round(name.score, 4),
        "second": name.second,
        "second_score": round(name.second_score, 4),
        "answered": name.answered,
    }
