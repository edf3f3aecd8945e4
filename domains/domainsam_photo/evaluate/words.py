"""Score models of words: names of true objects, maps of words, and answers to sentences."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError, DomainSamError, EndpointError, InputError, explain
from domainsam.foundation import load_decoder
from domainsam.infer.pictures import PictureView
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.language.speakers import AskOptions
from domainsam.prompter.search import cut_out
from domainsam.protocols import Foundation, Namer, SceneObject, Window, Word, WordMapper
from domainsam.vocabulary import load_vocabulary_model
from domainsam_photo.evaluate.asking import AskedSentences, open_asked
from domainsam_photo.evaluate.naming import (
    MAP_LAYOUTS,
    NAMING_LAYOUTS,
    Annotation,
    NamedPicture,
    read_classes,
    read_maps,
    read_named,
)
from domainsam_photo.evaluate.sentences import Sentence, decode_segmentation, iterate, read_sentences
from domainsam_photo.evaluate.word_scores import (
    PictureScore,
    Score,
    WordEvaluation,
    accuracy,
    class_mean,
    count_confusion,
    mean_iou,
    pixel_accuracy,
    score_answer,
)
from domainsam_photo.read.pictures import read_numbers, read_picture
from domainsam_photo.semantic import map_words

Refer = Callable[[NDArray[np.uint8], Sentence], NDArray[np.bool_]]
"""From a picture and a sentence to the mask of what it means; an empty one where nothing is."""
Watch = Callable[[str, float, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]], None]
"""Is shown the name of a sentence, its IoU, the picture, truth and answer."""
GROUPS = {"r": "rare", "c": "common", "f": "frequent"}
"""LVIS's kinds of classes by how many pictures have them: 1 to 10, 11 to 100, more."""


@dataclass(frozen=True)
class WordOptions:
    """What is scored.

    Parameters
    ----------
    layout
        One of :data:`domainsam_photo.evaluate.naming.WORD_LAYOUTS`.
    vocabulary_model
        The model of words; None for the embedded one.
    annotations
        The JSON, or RefCOCO's list, where it is not found by itself.
    answers
        Folder of masks ``SENTENCE.png``, for sentences.
    split, limit
        The list of pictures; only the first so many.
    boxes
        Whether true objects are given as boxes even where they have masks.
    refine
        Whether a foundation sharpens maps.
    ask
        The language model that answers sentences, and how it is asked.
    work, resume
        Hidden folder in which its answers are kept while it runs, and whether those of a run that was
        interrupted are taken.
    """

    layout: str
    vocabulary_model: str | None = None
    annotations: Path | None = None
    answers: Path | None = None
    split: str | None = None
    limit: int | None = None
    boxes: bool = False
    refine: bool = False
    foundation: str | Path | None = None
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    ask: AskOptions | None = None
    work: Path | None = None
    resume: bool = False


def evaluate_words(
    root: Path,
    options: WordOptions,
    progress: Progress = report_nothing,
    refer: Refer | None = None,
    watch: Watch | None = None,
) -> WordEvaluation:
    """Score a model of words on a published layout.

    COCO and LVIS: the share of true objects that get their own class's name, and its mean over classes.
    ADE20K, VOC, Pascal Context and the like: mean IoU over classes, from one confusion matrix. RefCOCO:
    cIoU (sums of intersections and unions), gIoU (mean IoU) and the share with IoU of a half or more.

    Parameters
    ----------
    refer
        Answers sentences, instead of the masks in ``options.answers`` and of the model ``options.ask``.
    watch
        Is shown every sentence's answer.

    Raises
    ------
    ConfigError
        If the model cannot do what the layout asks for, or nothing could be scored.
    InputError
        If the set is not of its layout.
    WeightsError, CheckpointError, DependencyError
        If a model cannot be loaded.
    EndpointError
        If a server that answers sentences does not: what it said so far is kept in ``options.work``.
    """
    with ExitStack() as stack:
        if options.layout in NAMING_LAYOUTS:
            result, work, items = _prepare_naming(root, options)
        elif options.layout in MAP_LAYOUTS:
            result, work, items = _prepare_maps(root, options)
        else:
            result, work, items = _prepare_sentences(root, options, refer, watch, stack)
        items = items[: options.limit]
        for done, item in enumerate(items, 1):
            try:
                result.units.append(work(item))
            except EndpointError:
                # A server that is down would make every picture to come one that could not be scored.
                raise
            except DomainSamError as error:
                result.skipped.append((_name_of(item), explain(error)[0]))
            progress("score", done, len(items))
    if not result.units:
        reason = result.skipped[0][1] if result.skipped else "it holds no picture"
        raise ConfigError(f"{root}: nothing could be scored ({reason})")
    return result


Prepared = tuple[WordEvaluation, Callable[[Any], PictureScore], list[Any]]


def _name_of(item: Any) -> str:
    path: Path = item[0] if isinstance(item, tuple) else item.path
    return path.name


def understand_some(model: Namer, names: dict[int, str]) -> tuple[dict[int, Word], dict[str, str]]:
    """Words by class number, and those that the model refuses, with its reason."""
    words, refused = {}, {}
    with suppress(InputError):
        # Together first: a model that reads words reads all of them at once, and keeps them.
        model.understand([Word(name) for name in names.values()])
    for number, name in names.items():
        try:
            model.understand([Word(name)])
        except InputError as error:
            refused[name] = str(error)
            continue
        words[number] = Word(name)
    return words, refused


def _prepare_naming(root: Path, options: WordOptions) -> Prepared:
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


def _prepare_maps(root: Path, options: WordOptions) -> Prepared:
    data = read_maps(root, options.layout, options.split)
    model = load_vocabulary_model(options.vocabulary_model, options.device, options.precision)
    if not isinstance(model, WordMapper):
        raise ConfigError(f"{model.name} makes no maps: take another --vocabulary-model")
    words, refused = understand_some(model, dict(enumerate(data.names)))
    if not words:
        raise ConfigError(f"{model.name} understands none of the {len(data.names)} classes of {root}")
    foundation: Foundation | None = None
    if options.refine:
        foundation = load_decoder(options.foundation, options.device, options.precision)[0]
    count = len(data.names)
    background = next((place for place, name in enumerate(data.names) if name == "background"), None)
    # What is none of the words is background, where the set has such a class, even one that is no word.
    table = np.array([count if background is None else background, *words], np.int64)
    scores = {"mIoU": mean_iou(count), "pixel accuracy": pixel_accuracy(count)}
    result = WordEvaluation(
        options.layout, "map of words", model.name, scores, seed=options.seed, left_out=refused
    )

    def work(pair: Any) -> PictureScore:
        picture, truth = read_picture(pair.path), read_classes(pair, data.numbers)
        if picture.shape[:2] != truth.shape:
            raise InputError(f"is {picture.shape[:2]}, its class map {truth.shape}: expected one size")
        numbers, _ = map_words(picture, model, list(words.values()), foundation)
        matrix = count_confusion(truth, table[numbers], count)
        return PictureScore(
            pair.path.name, matrix.ravel(), {"pixels": matrix.sum(), "right": np.trace(matrix)}
        )

    return result, work, list(data.pictures)


def _prepare_sentences(
    root: Path, options: WordOptions, refer: Refer | None, watch: Watch | None, stack: ExitStack
) -> Prepared:
    sentences = read_sentences(root, options.split, options.annotations)
    if options.ask is not None and options.answers is not None:
        raise ConfigError("--answers and --mllm both say who answers: give one of them")
    if refer is None and options.answers is None and options.ask is None:
        raise ConfigError(
            f"layout {options.layout} scores masks: name a model by --mllm, or a folder of SENTENCE.png by "
            "--answers"
        )
    method, model = ("answers", str(options.answers)) if refer is None else ("refer", "model")
    asked: AskedSentences | None = None
    if refer is None and options.ask is not None:
        asked = stack.enter_context(
            open_asked(
                options.ask,
                options.foundation,
                options.device,
                options.precision,
                options.work,
                options.resume,
            )
        )
        method, model = f"refer ({options.ask.mode})", asked.name
    answer = refer or asked or _read_answers(options.answers or root)
    scores: dict[str, Score] = {
        "cIoU": lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1),
        "gIoU": lambda sums: sums[:, 2] / np.maximum(sums[:, 4], 1),
        "Pr@0.5": lambda sums: sums[:, 3] / np.maximum(sums[:, 4], 1),
    }
    result = WordEvaluation(
        options.layout, method, model, scores, seed=options.seed, told=asked.document if asked else None
    )

    def work(item: tuple[Path, list[Sentence]]) -> PictureScore:
        path, sentences = item
        return score_sentences(path, sentences, answer, watch)

    return result, work, list(iterate(sentences))


def score_sentences(
    path: Path, sentences: list[Sentence], answer: Refer, watch: Watch | None = None
) -> PictureScore:
    """Sums of :func:`score_answer` over the sentences of one picture: statistics ``(5,)``.

    Raises
    ------
    InputError
        If the picture cannot be read, or is of another size than its annotations say.
    """
    picture = read_picture(path)
    rows = []
    for one in sentences:
        truth, found = decode_segmentation(one.segmentation, one.size), answer(picture, one)
        rows.append(score_answer(truth, found))
        if watch is not None:
            watch(f"{path.name}: {one.text}", float(rows[-1][2]), picture, truth, found)
    sums = np.sum(rows, axis=0)
    told = {"sentences": sums[4], "intersection": sums[0], "union": sums[1], "gIoU": sums[2] / sums[4]}
    return PictureScore(path.name, sums, told)


def _read_answers(folder: Path) -> Refer:
    def answer(picture: NDArray[np.uint8], sentence: Sentence) -> NDArray[np.bool_]:
        path = folder / f"{sentence.key}.png"
        if not path.is_file():
            # No file is no answer, and counts as an empty one: leaving out what is hard must not pay.
            return np.zeros(picture.shape[:2], bool)
        return np.asarray(read_numbers(path) > 0)

    return answer
