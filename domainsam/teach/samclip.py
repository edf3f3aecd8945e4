"""SAM-CLIP's training: HeadCLIP alone, then all together with rehearsal of SAM, then HeadCLIP at high
resolution.

Wang et al. 2024, section 3.2 and appendix A: pictures teach ``1 - cos`` to a CLIP's vectors; SAM, a frozen
copy of itself, teaches its own mask scores, so that the trunk does not forget. One step of the joint stage
is a batch of pictures at 224 or 448 pixels and one of SAM's at 1024, weighed ``1`` and ``10``. The paper
asks SAM by the objects of SA-1B; here the frozen copy is clicked on anywhere
(:mod:`domainsam.distil.asking`), so nobody need mark pictures.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from domainsam.distil.asking import find_objects, start_prompts
from domainsam.distil.pictures import Material, Views, find_material
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.keywords import check_choice
from domainsam.protocols import Features
from domainsam.teach.options import TeachOptions, pick
from domainsam.teach.samclip_lesson import (
    STAGES,
    MixedViews,
    Published,
    Recipe,
    SamClipLesson,
    decode_trained,
)
from domainsam.train.loop import Stage, StageOptions, run_stages
from domainsam.train.start import Trained, Training, start_run
from domainsam.vocabulary.sam_clip import Teacher, merge, save_sam_clip
from domainsam.vocabulary.teachers import load_teacher
from domainsam.vocabulary.words import read_words

BEGINNINGS = ("sam", "random")
SCORE = "agreement"


def teach(
    data: Path,
    options: TeachOptions,
    teacher: str = "sam_vit_b",
    clip: str | Path | None = None,
    rehearsal: Path | None = None,
    clip_head_init: str = "sam",
    vocabulary: Path | None = None,
    stage: str | None = None,
    recipe: Recipe | None = None,
) -> Trained:
    """Merge a SAM and a CLIP, or go on with a run that was interrupted, and write the file.

    Parameters
    ----------
    data
        Folder of pictures that teach words.
    teacher
        The SAM: name, or weight file.
    clip
        The CLIP, see :func:`domainsam.vocabulary.teachers.load_teacher`.
    rehearsal
        Folder of pictures that rehearse SAM; by default ``data``.
    clip_head_init
        ``"sam"`` or ``"random"``.
    vocabulary
        A file of words whose vectors go into the file, so that they need no text tower.
    stage
        ``"1"`` for HeadCLIP alone, ``"2"`` for that and the joint stage; by default all three.

    Raises
    ------
    ConfigError
        If an option is impossible, or no CLIP is named.
    InputError
        If there are no pictures that can be used.
    WeightsError, CheckpointError
        If weights are absent, damaged or another network's.
    """
    check_choice("--clip-head-init", clip_head_init, BEGINNINGS)
    if clip is None:
        raise ConfigError("SAM-CLIP learns from a CLIP: name it by --clip")
    with start_run(options) as training:
        run = _Teaching(data, options, training, recipe or Recipe(), rehearsal or data)
        run.load(teacher, str(clip), clip_head_init)
        return run.run(int(stage or 3), vocabulary)


class _Teaching:
    """One run: networks, pictures and stages."""

    def __init__(
        self, data: Path, options: TeachOptions, training: Training, recipe: Recipe, rehearsal: Path
    ) -> None:
        self.options, self.training, self.recipe = options, training, recipe
        self.words = find_material(data, recipe.high, "squash", options.held_back)
        self.sam_pictures = find_material(rehearsal, recipe.side, "longest", options.held_back)

    def load(self, sam: str, clip: str, begin: str) -> None:
        """SAM, its CLIP, and what they are merged into."""
        device = self.training.devices.device
        foundation = load_foundation(sam, device, torch.float32)
        if not isinstance(foundation, SamFoundation):
            raise ConfigError(
                f"SAM-CLIP begins with SAM's ViT trunk, which {foundation.name} has not: give sam_vit_b"
            )
        self.sam = foundation
        self.teacher = load_teacher(clip, device)
        size = read_size(foundation.model)
        torch.manual_seed(self.options.seed)
        self.network = merge(foundation.model, size, self.teacher.vector, begin).to(device)  # type: ignore[arg-type]
        self.begin = begin

    def run(self, last: int, vocabulary: Path | None) -> Trained:
        """Teach, judge and write."""
        words = read_words(vocabulary) if vocabulary is not None else ()
        trunk = digest_tensors(self.network.image_encoder.state_dict())
        stages = [self._stage(number, one) for number, one in enumerate(STAGES[:last])]
        with self.training.run(self._told(stages)) as run:
            run_stages(run, stages)
        metrics = self.training.devices.shared(self._judge() if self.training.writes else {})
        same = digest_tensors(self.network.image_encoder.state_dict()) == trunk
        vectors = self.teacher.encode_texts([word.name for word in words]) if words else None
        if self.training.writes:
            about = {
                "version": "1",
                "licence": "as the pictures, the SAM and the CLIP allow",
                "trunk_as_it_was": same,
                "clip_head_init": self.begin,
                "stages": {stage.name: stage.options.steps for stage in stages},
                "scores": {name: round(value, 6) for name, value in metrics.items()},
            }
            told = Teacher(self.teacher.name, self.teacher.vector)
            named = {} if vectors is None else {w.name: v for w, v in zip(words, vectors, strict=True)}
            save_sam_clip(self.options.out, self.network, told, named, about)
        notes = (*self.words.notes, *self.sam_pictures.notes)
        return self.training.made(metrics, notes)

    def _stage(self, number: int, one: Published) -> Stage:
        options, recipe = self.options, self.recipe
        lesson = SamClipLesson(self.network, self.sam, self.teacher, one, recipe)
        words = self._views(self.words, recipe.high, "squash")
        sam = self._views(self.sam_pictures, recipe.side, "longest") if one.joint else None
        epoch = math.ceil(len(self.words.learning) / options.batch_size)
        steps = options.count_steps(number, epoch, one.epochs)
        chosen = StageOptions(
            steps,
            lr=pick(options.rates, number, one.rate),
            warmup=min(50, steps // 10),
            eval_every=max(1, min(steps, options.every)),
            ema=0.0,
            keep="last",
        )
        views: Any = MixedViews(words, sam)
        return Stage(
            one.name,
            lesson,
            lesson,
            views,
            self._judge,
            SCORE,
            chosen,
            lesson.prepare,
            lesson.factors(),
        )

    def _views(self, material: Material, side: int, fit: Any, held: bool = False) -> Views:
        pictures = material.held_back if held else material.learning
        rank = self.training.devices.rank
        return Views(pictures, side, fit, self.options.batch_size, 1, self.options.seed, rank)

    @torch.no_grad()
    def _judge(self) -> dict[str, float]:
        """Mean cosine to the CLIP and IoU with SAM's masks on held-back pictures; none without such."""
        self.network.eval()
        scores: dict[str, float] = {}
        if self.words.held_back:
            found = []
            for batch in _each(self._views(self.words, self.recipe.high, "squash", True)):
                images = batch.to(self.training.devices.device).images
                own = self.network.clip_head(self.network.tokens(images))
                found += F.cosine_similarity(own, self.teacher.encode_images(images)).tolist()
            scores["cosine"] = float(np.mean(found))
        if self.sam_pictures.held_back:
            scores["iou"] = self._judge_masks()
        return {SCORE: float(np.mean(list(scores.values()))), **scores} if scores else {}

    def _judge_masks(self) -> float:
        found: list[float] = []
        for batch in _each(self._views(self.sam_pictures, self.recipe.side, "longest", True)):
            batch = batch.to(self.training.devices.device)
            seen = self.sam.encode(batch.images)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                objects = find_objects(self.sam, seen, batch.extents, self.recipe.prompts)
            if not len(objects):
                continue
            prompts = start_prompts(objects.index, objects.clicks, None)
            wanted = self.sam.decode(seen, prompts).logits > 0
            own = self.network.encode_sam(self.network.tokens(batch.images))
            guess = decode_trained(self.network, Features(own, (), seen.size), prompts) > 0
            either = (wanted | guess).sum(dim=(1, 2, 3)).clamp(min=1)
            found += ((wanted & guess).sum(dim=(1, 2, 3)) / either).tolist()
        return float(np.mean(found)) if found else math.nan

    def _told(self, stages: list[Stage]) -> list[Any]:
        """What decides the answer."""
        return [
            "samclip",
            asdict(self.recipe),
            self.sam.sha256,
            self.teacher.name,
            self.begin,
            self.options.batch_size,
            self.words.identity(),
            self.sam_pictures.identity(),
            [[stage.name, asdict(stage.options)] for stage in stages],
        ]


def _each(views: Views) -> Any:
    return (views.batch(step) for step in range(math.ceil(len(views) / views.batch_size)))


def read_size(network: SamNetwork) -> SamSize:
    """The sizes of a SAM network's trunk."""
    encoder: Any = network.image_encoder
    blocks = list(encoder.blocks)
    windows = [block.window_size for block in blocks]
    return SamSize(
        width=int(encoder.pos_embed.shape[-1]),
        depth=len(blocks),
        heads=int(blocks[0].attn.num_heads),
        global_blocks=tuple(number for number, side in enumerate(windows) if not side),
        image_size=int(encoder.img_size),
        window=max(windows),
    )
