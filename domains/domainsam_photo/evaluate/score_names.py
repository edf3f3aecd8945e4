"""Score the names that a model of words gives to true objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from domainsam.errors import ConfigError, InputError
from domainsam.infer.pictures import PictureView
from domainsam.prompter.search import cut_out
from domainsam.protocols import Namer, SceneObject, Window, Word
from domainsam.vocabulary import load_vocabulary_model
from domainsam_photo.evaluate.naming import Annotation, NamedPicture, read_named
from domainsam_photo.evaluate.sentences import decode_segmentation
from domainsam_photo.evaluate.word_scores import PictureScore, WordEvaluation, accuracy, class_mean
from domainsam_photo.evaluate.word_work import Prepared, WordOptions, understand_some
from domainsam_photo.read.pictures import read_picture

GROUPS = {"r": "rare", "c": "common", "f": "frequent"}
"""LVIS's kinds of classes by how many pictures have them: 1 to 10, 11 to 100, more."""


def prepare_naming(root: Path, options: WordOptions) -> Prepared:
    """Score names: the share of true objects that get their own class's, and its mean over classes.

    Raises
    ------
    ConfigError
        If the model understands no class.
    InputError
        If the set is not of its layout.
    """
    data = read_named(root, options.layout, options.annotations)
    model = load_vocabulary_model(options.vocabulary_model, options.device, options.precision)
    present = sorted({one.category for picture in data.pictures for one in picture.objects})
    words, refused = understand_some(model, {number: data.names[number] for number in present})
    if not words:
        raise ConfigError(f"{model.name} understands none of the {len(present)} classes of {root}")
    kinds: dict[str, list[int]] = {GROUPS.get(kind, kind): [] for kind in data.groups.values()}
    for place, number in enumerate(present):
        if number in data.groups:
            kinds[GROUPS.get(data.groups[number], data.groups[number])].append(place)
    scores = {"accuracy": accuracy(len(present)), "class mean": class_mean(len(present))}
    scores |= {
        f"{kind} class mean": class_mean(len(present), places) for kind, places in kinds.items() if places
    }
    method = "names of true boxes" if options.boxes else "names of true objects"
    result = WordEvaluation(options.layout, method, model.name, scores, seed=options.seed, left_out=refused)

    def work(picture: NamedPicture) -> PictureScore:
        return name_picture(picture, model, words, present, options.boxes)

    return result, work, list(data.pictures)


def name_picture(
    picture: NamedPicture, model: Namer, words: dict[int, Word], classes: list[int], boxes: bool
) -> PictureScore:
    """Right and all objects of every class of one picture: statistics ``(2 * classes,)``."""
    image = read_picture(picture.path)
    if image.shape[:2] != picture.size:
        raise InputError(f"is {image.shape[1]} x {image.shape[0]}, its annotations say otherwise")
    view = PictureView(lambda _: image, 1, None, max(image.shape[:2]))
    objects = [_as_object(one, picture.size, boxes) for one in picture.objects]
    kept = [(one, made) for one, made in zip(picture.objects, objects, strict=True) if made is not None]
    order = list(words)
    found = model.name_objects(view, [made for _, made in kept], list(words.values()))
    statistics = np.zeros((2, len(classes)))
    for (one, _), row in zip(kept, found, strict=True):
        place = classes.index(one.category)
        statistics[1, place] += 1
        if np.isfinite(row).all() and order[int(row.argmax())] == one.category:
            statistics[0, place] += 1
    right, total = statistics.sum(axis=1)
    return PictureScore(picture.path.name, statistics.ravel(), {"objects": total, "right": right})


def _as_object(one: Annotation, size: tuple[int, int], boxes: bool) -> SceneObject | None:
    """A true object: its mask, or its box cut at the picture; None where nothing of it is inside."""
    left, top, width, height = one.box
    right, bottom = min(left + width, size[1]), min(top + height, size[0])
    left, top = max(left, 0.0), max(top, 0.0)
    if right - left < 1 or bottom - top < 1:
        return None
    plain = SceneObject.marked(box=(left, top, right, bottom))
    if boxes or one.segmentation is None:
        return plain
    mask = decode_segmentation(one.segmentation, size)
    if not mask.any():
        return plain
    bounds, part = cut_out(mask, Window(0, 0, *size))
    return SceneObject(bounds, mask=part)
