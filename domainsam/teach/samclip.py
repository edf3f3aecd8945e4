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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.distil.asking import find_objects, start_prompts
from domainsam.distil.pictures import Material, ViewBatch, Views, find_material
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.decoders.sam import decode_all, sparse_tokens
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.keywords import check_choice
from domainsam.prompts import PromptSet
from domainsam.protocols import Features
from domainsam.teach.options import TeachOptions, pick
from domainsam.train.loop import Stage, StageOptions, run_stages
from domainsam.train.start import Trained, Training, start_run
from domainsam.vocabulary.sam_clip import SamClipNetwork, Teacher, merge, save_sam_clip
from domainsam.vocabulary.teachers import ImageTextTeacher, load_teacher
from domainsam.vocabulary.words import read_words

BEGINNINGS = ("sam", "random")
SCORE = "agreement"


@dataclass(frozen=True)
class Recipe:
    """What the paper sets; sides and prompts are smaller in tests alone.

    Parameters
    ----------
    low, high
        Sides of pictures that teach words, mixed by chance.
    side
        Of pictures that rehearse SAM.
    prompts
        Objects of such a picture.
    weight
        Of the rehearsal's loss beside that of words.
    focal, dice
        Of the two parts of the rehearsal's loss: SAM's 20 to 1.
    slow
        Share of the rate that trunk and HeadSAM learn with.
    """

    low: int = 224
    high: int = 448
    side: int = 1024
    prompts: int = 32
    weight: float = 10.0
    focal: float = 20.0
    dice: float = 1.0
    slow: float = 0.1


@dataclass(frozen=True)
class Published:
    """A stage as the paper has it: passes over the pictures, rate, what learns, which sides teach words."""

    name: str
    epochs: int
    rate: float
    joint: bool
    sides: tuple[str, ...]


STAGES = (
    Published("words", 20, 8e-4, False, ("low", "high")),
    Published("joint", 16, 4e-5, True, ("low", "high")),
    Published("sharp", 3, 4e-5, False, ("low", "high", "side")),
)
"""The paper ran 16 of the joint stage's 20 passes; the last stage's rate is unpublished: the joint one's."""


@dataclass(frozen=True)
class Mixed:
    """Pictures that teach words, and pictures that rehearse SAM, None outside the joint stage."""

    words: ViewBatch
    sam: ViewBatch | None
    step: int

    def to(self, device: torch.device) -> Mixed:
        """The same on another device."""
        return replace(self, words=self.words.to(device), sam=self.sam and self.sam.to(device))


class MixedViews:
    """Batches of both kinds by their number; the second kind only where it is wanted."""

    def __init__(self, words: Views, sam: Views | None) -> None:
        self.words, self.sam = words, sam

    def batch(self, step: int) -> Mixed:
        """The batch of a step."""
        return Mixed(self.words.batch(step), None if self.sam is None else self.sam.batch(step), step)


class SamClipLesson(nn.Module):
    """What a batch costs.

    Parameters
    ----------
    network
        What learns.
    sam
        SAM as it was.
    teacher
        Whose vectors pictures are taught.
    stage, recipe
        Which parts learn, and the paper's constants.
    """

    def __init__(
        self,
        network: SamClipNetwork,
        sam: SamFoundation,
        teacher: ImageTextTeacher,
        stage: Published,
        recipe: Recipe,
    ) -> None:
        super().__init__()
        self.network, self.stage, self.recipe = network, stage, recipe
        # Tuples hide the teachers from the module's own lists: they neither learn nor are saved.
        self._teachers = (sam, teacher)

    def prepare(self) -> None:
        """Let HeadCLIP learn, and in the joint stage trunk and HeadSAM; the prompt encoder never does."""
        self.network.requires_grad_(False)
        self.network.clip_head.requires_grad_(True)
        if self.stage.joint:
            for part in (self.network.image_encoder, self.network.mask_decoder):
                part.requires_grad_(True)

    def factors(self) -> Mapping[str, float]:
        """Shares of the rate, by the beginnings of names."""
        slow = self.recipe.slow
        return {"network.image_encoder.": slow, "network.mask_decoder.": slow}

    def forward(self, batch: Mixed) -> dict[str, Tensor]:
        """``"loss"``, and its parts by name."""
        words = self.teach_words(batch.words, self._draw_side())
        if batch.sam is None:
            return {"loss": words, "cosine": 1 - words.detach()}
        focal, dice = self.rehearse(batch.sam)
        recipe = self.recipe
        loss = words + recipe.weight * (recipe.focal * focal + recipe.dice * dice)
        return {
            "loss": loss,
            "cosine": 1 - words.detach(),
            "focal": focal.detach(),
            "dice_loss": dice.detach(),
        }

    def _draw_side(self) -> int:
        names = self.stage.sides
        return int(getattr(self.recipe, names[int(torch.randint(len(names), ()))]))

    def teach_words(self, batch: ViewBatch, side: int) -> Tensor:
        """Mean of ``1 - cos`` to the teacher's vectors, of pictures at a side; 0 to 2."""
        wanted = self._teachers[1].encode_images(batch.images)
        images = scale_to(batch.images, side)
        if self.stage.joint:
            tokens = self.network.tokens(images)
        else:
            with torch.no_grad():
                tokens = self.network.tokens(images)
        return (1 - F.cosine_similarity(self.network.clip_head(tokens).float(), wanted, dim=1)).mean()

    def rehearse(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Focal and Dice loss against SAM's own scores, means over prompts; 0 where it sees nothing."""
        sam = self._teachers[0]
        with torch.no_grad():
            seen = sam.encode(batch.images)
            found = find_objects(sam, seen, batch.extents, self.recipe.prompts)
            boxed = bool(torch.rand(()) < 0.5)
            prompts = start_prompts(
                found.index, None if boxed else found.clicks, found.boxes if boxed else None
            )
            wanted = sam.decode(seen, prompts).logits.float().sigmoid() if len(prompts) else None
        own = self.network.encode_sam(self.network.tokens(batch.images))
        if wanted is None:
            return own.sum() * 0, own.sum() * 0
        logits = decode_trained(self.network, Features(own, (), seen.size), prompts)
        return soft_focal(logits, wanted).mean(), soft_dice(logits, wanted).mean()


def decode_trained(network: SamClipNetwork, features: Features, prompts: PromptSet) -> Tensor:
    """The single reading's logits ``(N, 1, H/4, W/4)``, with gradients to HeadSAM and the features."""
    encoder: Any = network.prompt_encoder
    grid = (features.image.shape[-2], features.image.shape[-1])
    tokens = sparse_tokens(encoder, prompts, features.size).float()
    dense = encoder.no_mask_embed.weight[..., None, None]
    image = features.image[prompts.image_index]
    masks = decode_all(network.mask_decoder, image, (), encoder.pe_layer(grid)[None], tokens, dense)
    return masks.logits[:, :1]


def soft_focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss of soft labels ``(N, K)``: cross entropy weighed by the squared error (Li et al. 2020, eq.
    4).

    Logits and labels are ``(N, K, h, w)``, labels in 0 to 1. The entropy of the labels themselves is taken
    off, so that a perfect copy costs nothing.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    sure = wanted.clamp(1e-6, 1 - 1e-6)
    least = -(sure * sure.log() + (1 - sure) * (1 - sure).log())
    return ((logits.sigmoid() - wanted).square() * (entropy - least).clamp(min=0)).mean(dim=(2, 3))


def soft_dice(logits: Tensor, wanted: Tensor) -> Tensor:
    """Dice loss of soft labels ``(N, K)``, squares below (Milletari et al. 2016): a copy costs 0."""
    inside = logits.sigmoid()
    overlap = 2 * (inside * wanted).sum(dim=(2, 3)) + 1
    return 1 - overlap / (inside.square().sum(dim=(2, 3)) + wanted.square().sum(dim=(2, 3)) + 1)


def scale_to(images: Tensor, side: int) -> Tensor:
    """Pictures ``(B, 3, S, S)`` scaled to a side."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


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
        return Stage(
            one.name,
            lesson,
            lesson,
            MixedViews(words, sam),
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
