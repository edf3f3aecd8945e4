"""A student from a teacher and a folder of pictures: :func:`distil` does what ``domainsam distil`` does."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domainsam.distil.judge import SCORE, judge
from domainsam.distil.lessons import Lesson
from domainsam.distil.pairs import (
    PROBE,
    Pair,
    adopt_decoder,
    check_frames,
    describe_teacher,
    make_student,
    start_from,
)
from domainsam.distil.pictures import HELD_BACK_SHARE, FitRule, Views, find_material
from domainsam.distil.recipes import (
    LAYERS,
    TRAINS_DECODER,
    Constants,
    Published,
    check_recipe,
    choose_options,
    make_lesson,
    plan_stages,
)
from domainsam.distil.students import CompactStudent, SamStudent, Student
from domainsam.distil.taps import TappedTeacher, as_map, split_layers, tap
from domainsam.errors import ConfigError
from domainsam.foundations import find_foundations
from domainsam.protocols import Features, Foundation
from domainsam.train.cache import TeacherCache
from domainsam.train.loop import Stage, StageOptions, run_stages
from domainsam.train.start import RunOptions, Trained, Training, start_run
from domainsam.weights import file_sha256

CACHE_BYTES = 50 * 10**9
EVERY = 100


@dataclass(frozen=True)
class DistilOptions(RunOptions):
    """What is distilled, and how long.

    Parameters
    ----------
    images
        Folder of pictures; nobody need have marked anything in them.
    teacher
        Name or weight file of a foundation.
    student
        See :func:`domainsam.distil.pairs.make_student`.
    recipe
        One of :data:`domainsam.distil.recipes.RECIPES`.
    start
        Weights that the student begins with: a whole student's, or its trunk's.
    side
        Of the square input in pixels; by default the teacher's own.
    views
        Views of a picture: the whole one, and parts of it.
    batch_size
        Views in a batch.
    epochs, steps, rates
        Instead of the published ones, one a stage; the last also holds for those that follow.
    every
        Steps between judgements, at which states are saved.
    held_back
        Share of the pictures that judge and do not teach.
    cache, cache_bytes
        Folder of the teacher's features, by default beside the logs, and how large it may grow.
    """

    images: Path = Path()
    teacher: str = ""
    student: str = ""
    recipe: str = "mse"
    start: Path | None = None
    side: int | None = None
    views: int = 1
    batch_size: int = 8
    epochs: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    every: int = EVERY
    held_back: float = HELD_BACK_SHARE
    cache: Path | None = None
    cache_bytes: int = CACHE_BYTES


def distil(options: DistilOptions, constants: Constants | None = None) -> Trained:
    """Distil, or go on with a run that was interrupted, and write the student's weight file.

    Raises
    ------
    ConfigError
        If the recipe, the student or an option is unknown or impossible, or the pair does not fit.
    InputError
        If there are no pictures that can be used, or the cache is another teacher's.
    WeightsError, CheckpointError
        If weights are absent, damaged or another network's.
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    constants = constants or Constants()
    check_recipe(options.recipe)
    if options.views < 1 or options.batch_size < 1:
        raise ConfigError(f"views {options.views}, batch {options.batch_size}: expected 1 or more")
    with start_run(options) as training:
        return _Distillation(options, constants, training).run()


class _Distillation:
    """One run: pair, material and stages."""

    def __init__(self, options: DistilOptions, constants: Constants, training: Training) -> None:
        self.options, self.constants, self.training = options, constants, training
        teacher = training.load_foundation(options.teacher)
        self.student, self.adopted, self.begun = self._make_student(teacher)
        self.side = options.side or teacher.image_size
        row = find_foundations().get(self.student.name)
        self.fit: FitRule = "longest" if row is None else row.fit
        self.material = find_material(options.images, self.side, self.fit, options.held_back)
        self.teacher, self.widths = self._tapped(teacher)
        self.cache = TeacherCache(
            options.cache or options.workroom / "features",
            self.teacher,
            options.cache_bytes,
            training.precision,
        )
        self.tapped = Pair(teacher, self.student, self._teach, self.adopted)
        self.pair = replace(self.tapped, teach=self._teach_plainly)

    def _teach(self, images: Tensor) -> Features:
        """The teacher's features, in its own precision, whoever asks."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self.cache.encode(images)

    def _teach_plainly(self, images: Tensor) -> Features:
        """The same without layers."""
        return split_layers(self._teach, images, len(self.widths[0]))[0]

    def _make_student(self, teacher: Foundation) -> tuple[Student, bool, bool]:
        """The student, whether it has its teacher's decoder, and whether it has been taught before."""
        options = self.options
        student = make_student(options.student, teacher, options.seed)
        student.to(teacher.device)
        check_frames(teacher, student)
        adopted = adopt_decoder(teacher, student)
        begun = options.start is not None and start_from(student, options.start)
        if not adopted and not begun and options.recipe not in TRAINS_DECODER:
            raise ConfigError(
                f"student {student.name} has a decoder of another kind than teacher {teacher.name}, "
                f"and recipe {options.recipe} trains none: use {' or '.join(TRAINS_DECODER)}"
            )
        if options.devices > 1 and teacher.device.type == "cuda":
            convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
            student.network = convert(student.network)
        if isinstance(student, SamStudent) and student.spec.channels_last:
            student.encoder.to(memory_format=torch.channels_last)
        return student, adopted, begun

    def _tapped(self, teacher: Foundation) -> tuple[Any, tuple[list[int], list[int]]]:
        """The teacher, with its last layers where the recipe asks for them, and the layers' widths."""
        if self.options.recipe != "layerwise":
            return teacher, ([], [])
        images = torch.zeros(1, 3, PROBE, PROBE, device=teacher.device)
        self.student.eval()
        with torch.no_grad(), tap(self.student.encoder) as seen:
            grid = self.student.encode(images).image.shape[-2:]
        own = [as_map(layer, (grid[0], grid[1])).shape[1] for layer in seen[-self.constants.layers :]]
        tapped = TappedTeacher(teacher, len(own))
        theirs = [part.shape[1] for part in tapped.encode(images).levels[-len(own) :]]
        return tapped, (own, theirs)

    def run(self) -> Trained:
        """Teach, judge and write."""
        held = self._views(self.material.held_back) if self.material.held_back else None
        before = self._judge(held)
        stages = self._stages(held)
        with self.training.run(self._words(stages)) as run:
            run_stages(run, stages)
        after = self._judge(held)
        metrics = {**after, **{f"{name}_before": value for name, value in before.items()}}
        if self.training.writes:
            self.student.save(self.options.out, self._about(metrics, stages))
        return self.training.made(metrics, (*self.material.notes, *self._notes()))

    def _views(self, pictures: Any) -> Views:
        options = self.options
        rank = self.training.devices.rank
        return Views(pictures, self.side, self.fit, options.batch_size, options.views, options.seed, rank)

    def _judge(self, held: Views | None) -> dict[str, float]:
        """Scores on the held-back pictures, in all processes; none where there are no such pictures."""
        return self.training.devices.shared(self._judge_alone(held) if self.training.writes else {})

    def _judge_alone(self, held: Views | None) -> dict[str, float]:
        """As :meth:`_judge`, for the first process alone: the loop shares what it says."""
        if held is None:
            return {}
        self.student.eval()
        return judge(self.pair, held)

    def _stages(self, held: Views | None) -> list[Stage]:
        options, made = self.options, []
        views: Any = self._views(self.material.learning)
        batch = options.batch_size * options.devices
        epoch = math.ceil(len(views) / batch)
        for number, published in enumerate(plan_stages(options.recipe, self.begun)):
            chosen = choose_options(
                published, number, epoch, batch, options.epochs, options.steps, options.rates
            )
            chosen = replace(chosen, eval_every=max(1, min(chosen.steps, options.every)))
            lesson = self._lesson(published, chosen)
            made.append(
                Stage(
                    published.name,
                    lesson,
                    lesson,
                    views,
                    lambda: self._judge_alone(held),
                    SCORE,
                    chosen,
                    lesson.prepare,
                )
            )
        return made

    def _lesson(self, published: Published, chosen: StageOptions) -> Lesson:
        pair = self.tapped if published is LAYERS else self.pair
        lesson = make_lesson(published, pair, self.constants, chosen.steps, self.widths, self.options.seed)
        return lesson.to(pair.teacher.device)

    def _words(self, stages: list[Stage]) -> list[Any]:
        """What decides the answer."""
        options = self.options
        start = None if options.start is None else file_sha256(options.start)
        return [
            "distil",
            options.recipe,
            asdict(self.constants),
            self.teacher.sha256,
            options.student,
            start,
            [self.side, self.fit, options.views, options.batch_size, options.devices],
            self.material.identity(),
            [[stage.name, asdict(stage.options)] for stage in stages],
        ]

    def _about(self, metrics: dict[str, float], stages: list[Stage]) -> dict[str, Any]:
        """What the file says of itself."""
        told = {
            **describe_teacher(self.pair.teacher),
            "recipe": self.options.recipe,
            "stages": {stage.name: stage.options.steps for stage in stages},
            "pictures": len(self.material.learning),
            "held_back": len(self.material.held_back),
            "side": self.side,
            "scores": {name: round(value, 6) for name, value in metrics.items()},
        }
        licence = f"as the pictures and the teacher allow; the teacher's: {told['teacher_licence']}"
        return {"name": self.student.name, "version": "1", "licence": licence, "distilled": told}

    def _notes(self) -> tuple[str, ...]:
        row = find_foundations().get(self.pair.teacher.name)
        notes = []
        if row is not None and "non-commercial" in row.licence:
            notes.append(f"the teacher's weights are under the {row.licence}: so is what is made of them")
        if isinstance(self.student, CompactStudent):
            notes.append("the file is of the embedded kind: --foundation takes its path")
        return tuple(notes)
