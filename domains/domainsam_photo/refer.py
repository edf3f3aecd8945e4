"""What words mean in a picture, as a language model sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.foundation import load_decoder
from domainsam.infer.answers import KeptAnswers
from domainsam.infer.batch import run_batch
from domainsam.infer.engine import prompt_scene
from domainsam.infer.networks import identify
from domainsam.infer.objects import EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.infer.pictures import PictureView
from domainsam.infer.workroom import WorkRoom
from domainsam.progress import report_progress
from domainsam.prompter.clicks import Clicks
from domainsam.prompter.language.source import LanguageSource
from domainsam.prompter.language.speakers import AskOptions, Speaker, load_speaker
from domainsam.prompter.language.wording import check_phrase
from domainsam.prompter.search import cut_out
from domainsam.protocols import Foundation, SceneObject, Window
from domainsam_photo.job import (
    Batch,
    PicturePlan,
    PictureResult,
    Shown,
    plan_pictures,
    write_annotations,
    write_picture,
)
from domainsam_photo.read.pictures import read_picture
from domainsam_photo.segment import PhotoSource
from domainsam_photo.settings import ReferOptions

LONGEST = 1536
"""Longest side of a picture as a model is shown it: what is larger its processor would make smaller."""


def refer_picture(picture: Path, phrase: str, options: ReferOptions) -> Batch:
    """Ask a language model what a phrase means in a picture, and write the masks of it.

    Nothing of the kind is an answer, and so is no answer: both are told, and the mask is empty.

    Raises
    ------
    InputError
        If the picture cannot be read, or the phrase says nothing.
    ConfigError, WeightsError, CheckpointError, EndpointError
        If the model cannot be asked.
    OutputError
        If an output exists or cannot be written.
    """
    run = options.run
    phrase = check_phrase(phrase)
    plans = plan_pictures([picture], run.out, run.overlay)

    def prepare() -> Callable[[PicturePlan], PictureResult]:
        speaker = load_speaker(options.ask, run.device, run.precision)
        foundation, _ = load_decoder(run.foundation, run.device, run.precision)
        return lambda plan: _refer(plan, phrase, options, speaker, foundation)

    return run_batch(
        plans,
        lambda plan: str(plan.picture),
        prepare,
        Batch,
        resume=run.resume,
        overwrite=lambda plan: plan.may_replace(run.overwrite, run.resume),
    )


def _refer(
    plan: PicturePlan, phrase: str, options: ReferOptions, speaker: Speaker, foundation: Foundation
) -> PictureResult:
    """Ask about one picture, and write every file or none."""
    run, ask = options.run, options.ask
    image = read_picture(plan.picture)
    view, large = PictureView(lambda _: image, 1, foundation), limit_picture(image)

    def shown(_: Window) -> NDArray[np.uint8]:
        return large

    identity = {"phrase": phrase, "model": speaker.identity, "foundation": identify(foundation)}
    with (
        WorkRoom(plan.work, run.resume) as room,
        KeptAnswers(room.folder, identity, run.resume) as memory,
        report_progress(plan.picture.name, run.quiet) as progress,
    ):
        source = LanguageSource(
            speaker, phrase, foundation, ask, memory=memory, shown=shown, progress=progress
        )
        found = [Shown(view.enlarge_mask(one), one.score, phrase) for one in source.find(view)]
        told = {"words": phrase, "model": speaker.name, "mode": ask.mode, **source.tally.document()}
        overwrite = plan.may_replace(run.overwrite, run.resume)
        result = write_picture(plan, image, found, overwrite, told)
    write_annotations([plan], run.out, run.made_by, foundation.name)
    return result


def find_referred(
    source: PhotoSource, folder: Path, foundation: Foundation, phrase: str, ask: AskOptions, device: str
) -> EngineResult:
    """What a phrase means in an opened picture, staged in ``folder``; the model is shown all of it.

    Raises
    ------
    InputError
        If the words say nothing, or nothing was found.
    ConfigError, WeightsError, CheckpointError, EndpointError
        If the model cannot be asked.
    """
    phrase = check_phrase(phrase)
    image = source.picture
    view = PictureView(lambda _: image, 1, foundation)
    large = limit_picture(image)
    search = LanguageSource(load_speaker(ask, device), phrase, foundation, ask, shown=lambda _: large)
    marks = []
    for one in search.find(view):
        mask = view.enlarge_mask(one)
        if mask.any():
            bounds, part = cut_out(mask, Window(0, 0, *view.original))
            marks.append(SceneObject(bounds, phrase, one.score, mask=part, box=bounds.box, text=phrase))
    options = EngineOptions(overlap=0, workers=1)
    answer = prompt_scene(source, Clicks(marks, "answers"), foundation, folder, options)
    told = {"words": phrase, "model": search.speaker.name, "mode": ask.mode, **search.tally.document()}
    return replace(answer, told=told)


def limit_picture(picture: NDArray[np.uint8], longest: int = LONGEST) -> NDArray[np.uint8]:
    """A picture ``(H, W, 3)`` whose longest side is at most so many pixels."""
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
