"""Teach the small SAM 2-shaped foundation the embedded foundation's features; stop and go on at will.

    python -m recipes.scene.distil DATA --work runs/scene/distil --steps 1600
    python -m recipes.scene.distil DATA --work runs/scene/distil --export WEIGHTS
    python -m recipes.scene.distil DATA --work runs/scene/distil --compare

The encoder learns the teacher's three levels; the decoder learns boxes and
first clicks on them. The last state is in ``--work``; the same command goes on
from it. On a CPU set ``MALLOC_MMAP_MAX_=0`` and
``MALLOC_TRIM_THRESHOLD_=16000000000``: keeping freed memory halves the time of
a step.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from domainsam.foundation import embedded_sam2 as tiny_sam2
from domainsam.foundation import load_foundation
from domainsam.foundation.decoders.sam import decode_all, sparse_tokens
from domainsam.foundation.embedded import EmbeddedFoundation
from domainsam.foundation.sam2 import pad_beside_boxes
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks
from domainsam.train import distil
from domainsam.train.samples import Record, SampleStream, collate
from domainsam.weights import IMAGENET
from recipes.embedded.corpus import SHARES, load_once
from recipes.embedded.evaluate import GENERAL, evaluate, fit
from recipes.embedded.train import show

MASK_WEIGHT = 0.5
"""Of the decoder's loss beside the three levels' errors."""
LEVEL_WEIGHTS = (1.0, 0.4, 0.4)
"""Strides 16, 4 and 8."""


def begin_from_teacher(student: Any, teacher: Any) -> int:
    """Give the decoder what fits of the teacher's; the number of tensors taken."""
    names = {
        "decoder.hypernetworks.": "sam_mask_decoder.output_hypernetworks_mlps.",
        "decoder.iou_head.": "sam_mask_decoder.iou_prediction_head.",
        "decoder.up8.": "sam_mask_decoder.output_upscaling.0.",
        "decoder.up4.": "sam_mask_decoder.output_upscaling.3.",
        "decoder.": "sam_mask_decoder.",
        "prompt_encoder.": "sam_prompt_encoder.",
    }
    own, taken = student.state_dict(), 0
    for name, value in teacher.state_dict().items():
        start = next((start for start in names if name.startswith(start)), None)
        if start is None:
            continue
        other = names[start] + name.removeprefix(start)
        if "hypernetworks" in name or "iou_head" in name:
            # The teacher's perceptrons count their activations as layers.
            head, number, kind = other.rsplit(".", 2)
            other = f"{head}.layers.{int(number) // 2}.{kind}"
        if other in own and own[other].shape == value.shape:
            own[other].copy_(value)
            taken += 1
    return taken


class Sam2Student:
    """A network of SAM 2's shape as the trainer sees it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))

    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, S, S)`` in 0 to 1."""
        at4, at8, at16 = self.model.forward_image((images - self.mean) / self.std)["backbone_fpn"]
        return Features(at16, (at4, at8), (images.shape[-2], images.shape[-1]))

    def decode_all(self, features: Features, prompts: PromptSet) -> Masks:
        """The four masks of every prompt: the single reading first, then the three."""
        encoder, own = self.model.sam_prompt_encoder, features[prompts.image_index]
        return decode_all(
            self.model.sam_mask_decoder,
            own.image,
            own.levels,
            encoder.pe_layer((own.image.shape[-2], own.image.shape[-1]))[None],
            sparse_tokens(encoder, pad_beside_boxes(prompts), features.size),
            self._dense_prompts(prompts, features.size),
        )

    def _dense_prompts(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """What is added to the image; a mask prompt that is 0 everywhere is none."""
        drawn, given = tiny_sam2.draw_on_mask(prompts, size).mask_logits, prompts.mask_logits
        assert drawn is not None, "every prompt here has a box or a click"
        if given is not None:
            without = tiny_sam2.draw_on_mask(prompts.replace(mask_logits=None), size).mask_logits
            assert without is not None
            drawn = torch.where(given.flatten(1).any(1)[:, None, None, None], drawn, without)
        dense: Tensor = self.model.sam_prompt_encoder.mask_downscaling(drawn.float())
        return dense


def batches(
    records: list[Record], options: argparse.Namespace, step: int, shares: Mapping[str, float] = SHARES
) -> Iterator[distil.Batch]:
    """Endless batches, sets as often as ``shares`` say; the order after a step is the same in every run."""
    seed = options.seed * 1_000_003 + step
    stream = iter(SampleStream(records, options.size, options.masks, seed, shares))
    while True:
        yield collate([next(stream) for _ in range(options.batch)])


def train(options: argparse.Namespace) -> None:
    """Distil, or go on from the last state, until the last step."""
    torch.manual_seed(options.seed)
    records = load_once(options.data, options.work)
    teacher = cast("EmbeddedFoundation", load_foundation("embedded", dtype=torch.bfloat16))
    student = tiny_sam2.build().train()
    begin_from_teacher(student, teacher.model)
    for name, part in student.named_parameters():
        part.requires_grad_(name.split(".")[0] not in tiny_sam2.MEMORY_PARTS)
    learning = nn.ModuleList([student.image_encoder, student.sam_mask_decoder, student.sam_prompt_encoder])
    levels = distil.LevelLoss(LEVEL_WEIGHTS)
    distil.train(
        distil.Distillation(student, learning, Sam2Student(student), teacher, levels, MASK_WEIGHT),
        lambda step: batches(records, options, step),
        distil.DistilOptions(options.steps, options.rate, 100, options.every, options.seed),
        options.work,
        progress=show,
    )


def export(options: argparse.Namespace) -> None:
    """Write the averaged weights, and say how they do on the held-back images."""
    state = torch.load(options.work / "latest.pt", weights_only=True)
    student = tiny_sam2.build()
    student.load_state_dict(state["average"])
    facts = {"name": tiny_sam2.NAME, "version": "1", "steps": state["step"], "teacher": "embedded"}
    tiny_sam2.save(student, options.export, facts)
    foundation = load_foundation(tiny_sam2.NAME)
    print(
        json.dumps(
            evaluate(foundation, load_once(options.data, options.work), options.size, limit=options.limit),
            indent=1,
        )
    )


@torch.inference_mode()
def compare(options: argparse.Namespace) -> None:
    """Say how near the shipped weights are to the teacher on held-back images, and how both segment."""
    records = load_once(options.data, options.work)
    pair = {name: load_foundation(name) for name in ("embedded", tiny_sam2.NAME)}
    missed, spread, alike = np.zeros(3), np.zeros(3), np.zeros(3)
    chosen = [
        record
        for source in GENERAL
        for record in [one for one in records if one.source == source and one.held_back][: options.limit]
    ]
    for record in chosen:
        image, _ = fit(record.image, options.size)
        wanted, found = (foundation.encode(image) for foundation in pair.values())
        levels = zip((wanted.image, *wanted.levels), (found.image, *found.levels), strict=True)
        for number, (teacher, student) in enumerate(levels):
            missed[number] += float((teacher - student).square().sum())
            spread[number] += float((teacher - teacher.mean((2, 3), keepdim=True)).square().sum())
            alike[number] += float(nn.functional.cosine_similarity(teacher, student).mean())
    for number, stride in enumerate((16, 4, 8)):
        kept, cosine = 1 - missed[number] / spread[number], alike[number] / len(chosen)
        print(f"stride {stride}: cosine {cosine:.3f}, share of the teacher's variance {kept:.3f}")
    for name, foundation in pair.items():
        print(name, json.dumps(evaluate(foundation, records, options.size, limit=options.limit)))


def main() -> None:
    """Parse the command line, then train, export or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/scene/distil"))
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--masks", type=int, default=4, help="objects of an image that are asked for")
    parser.add_argument("--size", type=int, default=256, help="side of crops")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--every", type=int, default=100, help="steps between saved states")
    parser.add_argument("--limit", type=int, default=12, help="held-back images of each set in the judgement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the averaged weights here instead of training")
    parser.add_argument("--compare", action="store_true", help="compare the shipped weights with the teacher")
    options = parser.parse_args()
    if options.compare:
        compare(options)
    elif options.export is None:
        train(options)
    else:
        export(options)


if __name__ == "__main__":
    main()
