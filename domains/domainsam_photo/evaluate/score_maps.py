"""Score the maps that a model of words makes of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_decoder
from domainsam.protocols import Foundation, WordMapper
from domainsam.vocabulary import load_vocabulary_model
from domainsam_photo.evaluate.naming import read_classes, read_maps
from domainsam_photo.evaluate.word_scores import (
    PictureScore,
    WordEvaluation,
    count_confusion,
    mean_iou,
    pixel_accuracy,
)
from domainsam_photo.evaluate.word_work import Prepared, WordOptions, understand_some
from domainsam_photo.read.pictures import read_picture
from domainsam_photo.semantic import map_words


def prepare_maps(root: Path, options: WordOptions) -> Prepared:
    """Score maps: mean IoU over classes and pixel accuracy, from one confusion matrix.

    Raises
    ------
    ConfigError
        If the model makes no maps, or understands no class.
    InputError
        If the set is not of its layout.
    """
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
