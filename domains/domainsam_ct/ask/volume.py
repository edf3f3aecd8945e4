"""Ask about the slices of a scan, join the answers into one organ, and paint it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.answers import KeptAnswers
from domainsam.infer.blend import LEVELS
from domainsam.infer.networks import identify
from domainsam.infer.objects import EngineResult
from domainsam.infer.pictures import PictureView
from domainsam.prompter.descriptors import lay_windows
from domainsam.prompter.language.decoding import Place, decode_place
from domainsam.prompter.language.source import LanguageSource
from domainsam.prompter.language.speakers import AskOptions, Speaker
from domainsam.protocols import Box, Foundation, SceneObject, Window
from domainsam_ct.alike.answer import Painter
from domainsam_ct.ask.chains import Chain, boxes_between, join_slices
from domainsam_ct.ask.look import Slices
from domainsam_ct.model.sweep import SliceRun
from domainsam_ct.read.geometry import axial_grid
from domainsam_ct.read.volume import Volume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asking:
    """What is asked, whom, and how densely.

    Parameters
    ----------
    speaker, foundation
        Who says where it is, and who makes masks.
    options
        How it is asked.
    phrase, label
        What is looked for, and what the mask calls it.
    window
        Hounsfield units that become black and white.
    every
        Distance in millimetres of slices that are asked about.
    parts
        The most parts that do not touch.
    """

    speaker: Speaker
    foundation: Foundation
    options: AskOptions
    phrase: str
    label: str
    window: tuple[float, float]
    every: float
    parts: int = 1

    def identity(self) -> dict[str, Any]:
        """What decides the answers, for the journal."""
        return {
            "phrase": self.phrase,
            "model": self.speaker.identity,
            "foundation": identify(self.foundation),
            "window": list(self.window),
            "every": self.every,
        }


def ask_volume(volume: Volume, asking: Asking, run: SliceRun) -> EngineResult:
    """Ask a language model where in a scan something is; not finding it is an answer.

    Every so many millimetres a slice is shown. Answers that go on from slice to slice are one organ; the
    one for which most speaks is taken, and others, such as a stray answer far away, are left out and told.
    On slices between, boxes lie between those of their neighbours. It ends where the model sees it no more.

    Raises
    ------
    InputError
        If the run to go on with was another one.
    CheckpointError, EndpointError
        If the model cannot be asked.
    OutputError
        If the disk refuses.
    """
    slices = Slices(volume, asking.window)
    view = slices.view(asking.foundation)
    asked = choose_slices(view.frames, volume.spacing[2], asking.every)

    def shown(window: Window) -> NDArray[np.uint8]:
        return slices.show(window.frame)

    identity = {**run.identity, **asking.identity()}
    with KeptAnswers(run.folder, identity, run.resume) as memory:
        source = LanguageSource(
            asking.speaker,
            asking.phrase,
            asking.foundation,
            asking.options,
            memory=memory,
            shown=shown,
            progress=run.progress,
        )
        found = dict(source.look_through(view, asked))
        resumed = memory.resumed
    source.tell()
    chains = join_slices(found, asked)
    kept, strays = chains[: asking.parts], chains[asking.parts :]
    with Painter(run.folder, slices.own, view.frames) as painter:
        for chain in kept:
            _paint(chain, painter, slices, view, asking.foundation)
        told = {
            "found": bool(kept),
            "words": asking.phrase,
            "model": asking.speaker.name,
            "mode": asking.options.mode,
            "slices_asked": len(asked),
            "parts": [_tell(chain, asked, found, volume) for chain in kept],
            "strays": [{"slices": list(chain.objects), "weight": round(chain.weight, 3)} for chain in strays],
            **source.tally.document(),
        }
        if not kept:
            log.warning("%s: not found; %s sees it on no slice", asking.label, asking.speaker.name)
        return painter.finish([asking.label], resumed, {"asked": {asking.label: told}})


def choose_slices(frames: int, spacing: float, every: float) -> list[int]:
    """Slices about ``every`` millimetres apart, in rising order, as many left out at either end."""
    step = max(1, round(every / spacing))
    start = (frames - 1) % step // 2
    return list(range(start, frames, step))


def _paint(chain: Chain, painter: Painter, slices: Slices, view: PictureView, foundation: Foundation) -> None:
    """Paint an organ on the slices that were answered and on those between."""
    for frame, one in chain.objects.items():
        _paint_one(frame, one, painter, slices, view)
    between = boxes_between(chain, range(view.frames))
    sure = chain.weight / len(chain.objects)
    for frame, box in between.items():
        made = _decode_box(frame, box, sure, view, foundation)
        if made is not None:
            _paint_one(frame, made, painter, slices, view)


def _paint_one(frame: int, one: SceneObject, painter: Painter, slices: Slices, view: PictureView) -> None:
    mask = slices.place(one, view)
    stored = np.full(mask.shape, round(one.score * LEVELS), np.uint8)
    painter.paint(frame, 1, mask, stored)


def _decode_box(
    frame: int, box: Box, sure: float, view: PictureView, foundation: Foundation
) -> SceneObject | None:
    (window,) = lay_windows(view.shape, foundation.image_size, frame)
    rows, cols = view.shape
    place = Place((box[0] / cols, box[1] / rows, box[2] / cols, box[3] / rows), (), sure)
    return decode_place(place, view, window, view.features(window), foundation)


def _tell(
    chain: Chain, asked: Sequence[int], found: Mapping[int, Sequence[SceneObject]], volume: Volume
) -> dict[str, Any]:
    """Where a part ends, in slices and millimetres, and why."""
    frames = sorted(chain.objects)
    grid = axial_grid(volume.grid)

    def tell_end(frame: int, step: int) -> dict[str, Any]:
        z = float(np.ravel(grid.to_world(np.array([[float(frame), 0.0, 0.0]])))[2])
        beyond = asked.index(frame) + step
        if not 0 <= beyond < len(asked):
            words = "the scan ends"
        elif found.get(asked[beyond]):
            words = "what the model points at next lies elsewhere"
        else:
            words = "the model sees it no more"
        return {"slice": frame, "z_mm": round(z, 2), "words": words}

    return {
        "slices_found": len(frames),
        "towards_feet": tell_end(frames[0], -1),
        "towards_head": tell_end(frames[-1], 1),
        "score": round(chain.weight / len(frames), 3),
    }
