"""The training of Open-Vocabulary SAM, both stages: ``domainsam train-words --method ovsam``.

Stage 1, SAM2CLIP: the neck copies the features of SAM's encoder from pictures alone. Stage 2, CLIP2SAM: the
pyramid, the decoder and the label's convolution learn from named masks; CLIP, SAM2CLIP and the prompt
encoder are frozen. Lengths and rates are those of the published configurations (``sam2clip_vith_rn50x16``,
``clip2sam_coco_rn50x16``); the weight decay there is 0.05, in the paper's text 1e-4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from domainsam.distil.pictures import Views, find_material
from domainsam.errors import ConfigError
from domainsam.foundation.sam import SamFoundation
from domainsam.protocols import Foundation, Word
from domainsam.teach.options import TeachOptions, pick
from domainsam.teach.ovsam_data import (
    NamedPicture,
    NamedStream,
    find_annotations,
    read_named,
    split_named,
)
from domainsam.teach.ovsam_lessons import (
    POINTS,
    FeatureLesson,
    Learner,
    NameLesson,
    judge_features,
    judge_names,
)
from domainsam.tensorfile import write_safetensors
from domainsam.train.cache import TeacherCache
from domainsam.train.loop import Stage, StageOptions, run_stages
from domainsam.train.start import Trained, Training, start_run
from domainsam.vocabularies import CLIP_RN50X16
from domainsam.vocabulary.clip import WordTower, read_clip
from domainsam.vocabulary.loading import ENTRY, HEADER, find_file
from domainsam.vocabulary.open_vocabulary import collect_taught, read_network, read_taught
from domainsam.vocabulary.ovsam_network import OpenVocabularyNetwork, OpenVocabularySize
from domainsam.vocabulary.words import read_words
from domainsam.weights import file_sha256

NAME = "ovsam_coco"
TEACHER = "sam_vit_h"
PROMPTS = 40
BATCH = 16
"""Pictures in a step that the published rates are for; other sizes have them in proportion."""
WARMUP = 500
CACHE_BYTES = 50 * 10**9
FIRST = StageOptions(
    steps=0,
    lr=1e-4,
    weight_decay=0.05,
    warmup_start=1e-3,
    lr_floor=0.01,
    decay_vectors=False,
    clip=5.0,
    ema=0.0,
    keep="last",
)
SECOND = replace(FIRST, lr_floor=0.0, clip=0.01, schedule="milestones", milestones=(8 / 12, 11 / 12))
EPOCHS = {"1": 24, "2": 12}


@dataclass(frozen=True)
class Lessons:
    """What a run teaches with.

    Parameters
    ----------
    network
        That learns; CLIP has its weights.
    teacher
        SAM, whose features stage 1 copies.
    tower
        Vectors of words.
    stages
        Of ``"1"`` and ``"2"``.
    base
        The words that stage 2 learns; None for all categories.
    prompts, points
        Objects that are asked for in a picture, and places at which a mask is compared.
    words
        All that decides the answer beside the options, as JSON can hold it.
    """

    network: OpenVocabularyNetwork
    teacher: Foundation
    tower: WordTower
    stages: tuple[str, ...]
    base: tuple[Word, ...] | None = None
    prompts: int = PROMPTS
    points: int = POINTS
    words: tuple[Any, ...] = ()


def teach(
    data: Path,
    options: TeachOptions,
    *,
    stage: str | None = None,
    clip: Path | None = None,
    teacher: str | None = None,
    start: Path | None = None,
    base: Path | None = None,
    prompts: int | None = None,
) -> Trained:
    """Teach, or go on with a run that was interrupted, and write the file of what was learnt.

    Parameters
    ----------
    data
        A folder of pictures (stage 1), of COCO's layout with annotations (stage 2).
    stage
        ``"1"`` or ``"2"``; by default both.
    clip
        CLIP's RN50x16, a file or a folder that holds it; looked for where weight files are if not given.
    teacher
        A SAM, by name or weight file.
    start
        A folder with the official files, or a file of an earlier training, to begin with.
    base
        File of the words that stage 2 learns; others of the data are held back as new.
    prompts
        Objects that are asked for in a picture.

    Raises
    ------
    ConfigError
        If the teacher is no SAM, or stage 2 has nothing to begin with.
    InputError
        If the data cannot be used.
    WeightsError, CheckpointError, DependencyError
        If weights are absent or unfit, or a package is not installed.
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    stages = ("1", "2") if stage is None else (stage,)
    if stages == ("2",) and start is None:
        raise ConfigError("stage 2 begins with what stage 1 has learnt: give --start, a file or a folder")
    words = None if base is None else read_words(base)
    with start_run(options) as training:
        generalist = training.load_foundation(teacher or TEACHER, torch.float32)
        if not isinstance(generalist, SamFoundation):
            raise ConfigError(
                f"--teacher {generalist.name} is no SAM, whose decoder Open-Vocabulary SAM takes over: give "
                "sam_vit_h, sam_vit_l or sam_vit_b, or a weight file of one"
            )
        place = _find_clip(clip)
        network = begin(place, generalist, start)
        told = (file_sha256(place), None if start is None else str(start))
        lessons = Lessons(
            network, generalist, WordTower(network.clip), stages, words, prompts or PROMPTS, POINTS, told
        )
        return run(data, options, training, lessons)


def _find_clip(given: Path | None) -> Path:
    if given is not None and given.is_file():
        return given
    return find_file(NAME, CLIP_RN50X16, given)


def begin(clip: Path, teacher: SamFoundation, start: Path | None) -> OpenVocabularyNetwork:
    """The network as training begins: with SAM's decoder and position code, or what ``start`` holds."""
    if start is not None and start.is_dir():
        return read_network(NAME, start)[0]
    size = OpenVocabularySize()
    network = OpenVocabularyNetwork(size, read_clip(clip, size.clip))
    adopt(network, teacher)
    if start is not None:
        read_taught(network, start)
    return network


def adopt(network: OpenVocabularyNetwork, teacher: SamFoundation) -> None:
    """Give a network SAM's prompt encoder, its decoder's first mask and, where it fits, its position code."""
    network.prompt_encoder.load_state_dict(teacher.model.prompt_encoder.state_dict())
    theirs, own = teacher.model.mask_decoder.state_dict(), network.mask_decoder.mask_decoder.state_dict()
    taken = {name: theirs[name][: own[name].shape[0]] for name in own if name in theirs}
    network.mask_decoder.mask_decoder.load_state_dict({**own, **taken})
    code = teacher.model.image_encoder.pos_embed
    if code is not None and code.shape == network.neck.pos_embed.shape:
        network.neck.pos_embed.copy_(code.detach())


def run(data: Path, options: TeachOptions, training: Training, lessons: Lessons) -> Trained:
    """Teach the stages one after another, judge on what is held back, and write the file."""
    device = torch.device(training.devices.device)
    network = lessons.network.to(device)
    learner = Learner(network).to(device)
    made: list[Stage] = []
    told: list[Any] = [
        "ovsam",
        lessons.teacher.sha256,
        lessons.stages,
        lessons.prompts,
        lessons.points,
        *lessons.words,
    ]
    notes: list[str] = []
    learnt: tuple[Word, ...] = lessons.base or ()
    if "1" in lessons.stages:
        stage, identity, more = _plan_first(data, options, training, lessons, learner)
        made.append(stage)
        told.append(identity)
        notes += more
    if "2" in lessons.stages:
        learnt, stage, identity = _plan_second(data, options, training, lessons, learner)
        made.append(stage)
        told.append(identity)
    told += [[stage.name, vars(stage.options)] for stage in made]
    with training.run(json.loads(json.dumps(told, default=str))) as shared:
        run_stages(shared, made)
    metrics = training.devices.shared(_judge_all(made) if training.writes else {})
    if training.writes:
        header = {
            ENTRY: NAME,
            "base": [word.name for word in learnt],
            "teacher": lessons.teacher.name,
            "stages": list(lessons.stages),
            "steps": {stage.name: stage.options.steps for stage in made},
            "scores": {name: round(value, 6) for name, value in metrics.items()},
            "licence": "as the pictures, CLIP and the teacher allow",
        }
        write_safetensors(options.out, collect_taught(network), {HEADER: json.dumps(header)})
    return training.made(metrics, tuple(notes))


def _judge_all(stages: Sequence[Stage]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for stage in stages:
        stage.objective.eval()
        scores |= {
            name: value for name, value in stage.evaluate().items() if name not in ("nearness", "both")
        }
    return scores


def _plan_first(
    data: Path, options: TeachOptions, training: Training, lessons: Lessons, learner: Learner
) -> tuple[Stage, list[str], tuple[str, ...]]:
    side = lessons.network.size.image_size
    material = find_material(data if data.is_dir() else data.parent, side, "longest", options.held_back)
    teacher: Any = TeacherCache(
        options.workroom / "features", lessons.teacher, CACHE_BYTES, training.precision
    )
    lesson = FeatureLesson(learner, teacher)

    def views(pictures: Any) -> Views:
        rank = training.devices.rank
        return Views(pictures, side, "longest", options.batch_size, 1, options.seed, rank)

    held = views(material.held_back) if material.held_back else None

    def evaluate() -> dict[str, float]:
        return judge_features(lesson, _once(held, training.devices.device))

    stream: Any = views(material.learning)
    chosen = choose_options(options, 0, "1", len(material.learning))
    stage = Stage("1-sam2clip", lesson, learner, stream, evaluate, "nearness", chosen, lesson.prepare)
    return stage, material.identity(), material.notes


def _plan_second(
    data: Path, options: TeachOptions, training: Training, lessons: Lessons, learner: Learner
) -> tuple[tuple[Word, ...], Stage, list[Any]]:
    learnt, pictures = read_named(data, lessons.base)
    teaching, held = split_named(pictures, options.held_back)
    vectors = lessons.tower.embed(learnt).to(training.devices.device)
    lesson = NameLesson(learner, vectors, lessons.points)
    side, rank = lessons.network.size.image_size, training.devices.rank

    def stream(shown: Sequence[NamedPicture], still: bool = False) -> NamedStream:
        return NamedStream(shown, side, options.batch_size, lessons.prompts, options.seed, rank, still)

    judging = stream(held, True) if held else None

    def evaluate() -> dict[str, float]:
        return judge_names(lesson, _once(judging, training.devices.device))

    number = lessons.stages.index("2")
    chosen = choose_options(options, number, "2", len(teaching))
    batches: Any = stream(teaching)
    stage = Stage("2-clip2sam", lesson, learner, batches, evaluate, "both", chosen, lesson.prepare)
    file = find_annotations(data)
    digest = None if file is None else file_sha256(file)
    return learnt, stage, [digest, [word.name for word in learnt]]


def _once(stream: Views | NamedStream | None, device: torch.device) -> Iterator[Any]:
    """Every batch of an epoch, on a device; none without a stream."""
    count = 0 if stream is None else math.ceil(len(stream) / stream.batch_size)
    for step in range(count):
        assert stream is not None
        yield stream.batch(step).to(device)


def choose_options(options: TeachOptions, number: int, stage: str, pictures: int) -> StageOptions:
    """Length and rate of a stage: as told, else as published, the rate in proportion to the batch."""
    published = FIRST if stage == "1" else SECOND
    batch = options.batch_size * options.devices
    steps = options.count_steps(number, math.ceil(pictures / batch), EPOCHS[stage])
    return replace(
        published,
        steps=steps,
        lr=pick(options.rates, number, published.lr * batch / BATCH),
        warmup=min(WARMUP, steps // 4),
        eval_every=max(1, min(steps, options.every)),
    )
