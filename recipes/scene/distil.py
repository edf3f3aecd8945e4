"""Teach the small SAM 2-shaped foundation the embedded foundation's features; stop and go on at will.

    python recipes/scene/distil.py DATA --work runs/scene/distil --steps 1600
    python recipes/scene/distil.py DATA --work runs/scene/distil --export WEIGHTS
    python recipes/scene/distil.py DATA --work runs/scene/distil --compare

The encoder learns the teacher's three levels; the decoder learns boxes and
first clicks on them. The last state is in ``--work``; the same command goes on
from it. On a CPU set ``MALLOC_MMAP_MAX_=0`` and
``MALLOC_TRIM_THRESHOLD_=16000000000``: keeping freed memory halves the time of
a step.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "embedded"))
import corpus
from clicks import boxes_of, clicks, jitter_boxes
from samples import SampleStream, collate
from train import Average, mask_loss, parameter_groups, rate, save

from domainsam.foundation import embedded_sam2 as tiny_sam2
from domainsam.foundation import load_foundation
from domainsam.foundation.decoders.sam import decode_all, sparse_tokens
from domainsam.prompts import PromptSet
from domainsam.weights import IMAGENET

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


class Levels:
    """Weighted error of the student's levels, each channel in units of the teacher's spread."""

    def __init__(self) -> None:
        self.spread: list[Tensor] = []

    def __call__(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        if not self.spread:
            self.spread = [level.float().std((0, 2, 3), keepdim=True) + 1e-3 for level in teacher]
        total = torch.zeros(())
        for weight, own, wanted, spread in zip(LEVEL_WEIGHTS, student, teacher, self.spread, strict=True):
            total = total + weight * ((own.float() - wanted.float()) / spread).square().mean()
        return total


def prompt_loss(
    student: Any, levels: list[Tensor], masks: Tensor, size: int, rng: np.random.Generator
) -> Tensor:
    """Loss of boxes for half of the objects and of first clicks for the others."""
    batch, count = masks.shape[:2]
    owner = torch.arange(batch).repeat_interleave(count)
    flat = masks.flatten(0, 1)
    with_box = torch.arange(len(flat)) % 2 == 0
    encoder, total = student.sam_prompt_encoder, torch.zeros(())
    grid = (levels[0].shape[-2], levels[0].shape[-1])
    position = encoder.pe_layer(grid)[None]
    dense = encoder.no_mask_embed.weight[..., None, None]
    for chosen in (with_box, ~with_box):
        truth, index = flat[chosen], owner[chosen]
        ones = torch.ones(len(index))
        prompts = PromptSet(index, ones.long(), ones)
        padding = torch.tensor([0.0, 0.0, -1.0]).expand(len(index), 1, 3)
        if chosen is with_box:
            boxes = torch.from_numpy(jitter_boxes(boxes_of(truth.numpy()), size, rng))
            prompts = prompts.replace(boxes=boxes, points=padding)
        else:
            prompts = prompts.replace(points=clicks(truth, None, rng))
        tokens = sparse_tokens(encoder, prompts, (size, size))
        answer = decode_all(
            student.sam_mask_decoder,
            levels[0][index],
            (levels[1][index], levels[2][index]),
            position,
            tokens,
            dense,
        )
        total = total + mask_loss(answer, truth, chosen is not with_box, published=False)
    return total / 2


def train(options: argparse.Namespace) -> None:
    """Distil, or go on from the last state, until the last step."""
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    records = kept_corpus(options)
    teacher = load_foundation("embedded", dtype=torch.bfloat16)
    student = tiny_sam2.build().train()
    begin_from_teacher(student, teacher.model)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    for name, part in student.named_parameters():
        part.requires_grad_(name.split(".")[0] not in tiny_sam2.MEMORY_PARTS)
    learning = nn.ModuleList([student.image_encoder, student.sam_mask_decoder, student.sam_prompt_encoder])
    optimizer = torch.optim.AdamW(parameter_groups(learning, 0.05), lr=options.rate, betas=(0.9, 0.98))
    average, step = Average(student), 0
    latest, error = options.work / "latest.pt", Levels()
    if latest.is_file():
        state = torch.load(latest, weights_only=True)
        student.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.state, step, error.spread = state["average"], state["step"], state["spread"]
    stream = SampleStream(records, options.size, options.masks, seed=options.seed * 1_000_003 + step)
    batches, rng = iter(stream), np.random.default_rng((options.seed, step))
    shown, marked = np.zeros(2), time.time()
    while step < options.steps:
        for group in optimizer.param_groups:
            group["lr"] = options.rate * rate(step, options.steps, warm_up=100)
        images, masks = collate([next(batches) for _ in range(options.batch)])
        pixels = images.float() / 255
        wanted = teacher.encode(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            at4, at8, at16 = student.forward_image((pixels - mean) / std)["backbone_fpn"]
            likeness = error([at16, at4, at8], [wanted.image, *wanted.levels])
            answer = prompt_loss(student, [at16, at4, at8], masks, options.size, rng)
            loss = likeness + MASK_WEIGHT * answer
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        optimizer.step()
        step += 1
        average.update(student, step)
        now = np.array([likeness.item(), answer.item()])
        shown = now if not shown.any() else 0.97 * shown + 0.03 * now
        if step % 20 == 0:
            pace, marked = (time.time() - marked) / 20, time.time()
            print(f"step {step} levels {shown[0]:.4f} masks {shown[1]:.4f} {pace:.2f} s/step", flush=True)
        if step % options.every == 0 or step == options.steps:
            save(
                latest,
                {
                    "model": student.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average.state,
                    "step": step,
                    "spread": error.spread,
                },
            )


def kept_corpus(options: argparse.Namespace) -> list[Any]:
    """Records from the data folder, kept in the work folder between runs."""
    kept = options.work / "corpus.pkl"
    if kept.is_file():
        return list(pickle.loads(kept.read_bytes()))
    records = corpus.load(options.data)
    kept.write_bytes(pickle.dumps(records))
    return records


def export(options: argparse.Namespace) -> None:
    """Write the averaged weights, and say how they do on the held-back images."""
    from evaluate import evaluate

    state = torch.load(options.work / "latest.pt", weights_only=True)
    student = tiny_sam2.build()
    student.load_state_dict(state["average"])
    facts = {"name": tiny_sam2.NAME, "version": "1", "steps": state["step"], "teacher": "embedded"}
    tiny_sam2.save(student, options.export, facts)
    foundation = load_foundation(tiny_sam2.NAME)
    print(json.dumps(evaluate(foundation, kept_corpus(options), options.size, limit=options.limit), indent=1))


@torch.inference_mode()
def compare(options: argparse.Namespace) -> None:
    """Say how near the shipped weights are to the teacher on held-back images, and how both segment."""
    from evaluate import GENERAL, evaluate, fit

    records = kept_corpus(options)
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
    """Parse the command line and do as told."""
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
