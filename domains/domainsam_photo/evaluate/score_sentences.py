"""Score masks that answer sentences about pictures: of a language model, of a function, or in a folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam_photo.evaluate.asking import AskedSentences, open_asked
from domainsam_photo.evaluate.sentences import Sentence, decode_segmentation, iterate, read_sentences
from domainsam_photo.evaluate.word_scores import PictureScore, Score, WordEvaluation, score_answer
from domainsam_photo.evaluate.word_work import Prepared, WordOptions
from domainsam_photo.read.pictures import read_numbers, read_picture

Refer = Callable[[NDArray[np.uint8], Sentence], NDArray[np.bool_]]
"""From a picture and a sentence to the mask of what it means; an empty one where nothing is."""
Watch = Callable[[str, float, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]], None]
"""Is shown the name of a sentence, its IoU, the picture, truth and answer."""


def prepare_sentences(
    root: Path, options: WordOptions, refer: Refer | None, watch: Watch | None, stack: ExitStack
) -> Prepared:
    """Score answers to sentences: cIoU, gIoU and the share with IoU of a half or more.

    Parameters
    ----------
    refer, watch
        As of :func:`~domainsam_photo.evaluate.words.evaluate_words`.
    stack
        Holds what is open while sentences are answered.

    Raises
    ------
    ConfigError
        If nobody answers, or two do.
    InputError
        If the set is not of its layout.
    """
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
