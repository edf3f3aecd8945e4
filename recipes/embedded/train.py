"""Train the embedded foundation from scratch, on a GPU or on a CPU; stop and go on at will.

    python recipes/embedded/train.py DATA --work runs/embedded --steps 6000
    python recipes/embedded/train.py DATA --work runs/embedded --steps 6000 --export

``DATA`` is the folder of real data. The last state is in ``--work``; the same
command goes on from it. On a CPU set ``MALLOC_MMAP_MAX_=0`` and
``MALLOC_TRIM_THRESHOLD_=16000000000``: keeping freed memory halves the time of
a step.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from clicks import boxes_of, clicks, jitter_boxes, rough_logits
from corpus import Record, load
from evaluate import evaluate
from samples import SampleStream, collate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from domainsam.foundation.decoders.compact import CompactSam
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """``1 - Dice`` of each mask, ``(N, K)``, for logits ``(N, K, h, w)`` and truth ``(N, 1, h, w)``."""
    inside = logits.sigmoid()
    overlap = (inside * truth).sum((2, 3))
    return 1 - (2 * overlap + 1) / (inside.sum((2, 3)) + truth.sum((2, 3)) + 1)


def pixel_loss(logits: Tensor, truth: Tensor, focal: bool) -> Tensor:
    """Cross-entropy, or focal loss (alpha 0.25, gamma 2), averaged over each mask: ``(N, K)``."""
    truth = truth.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if not focal:
        return entropy.mean((2, 3))
    right = torch.exp(-entropy)
    alpha = 0.25 * truth + 0.75 * (1 - truth)
    return (alpha * (1 - right) ** 2 * entropy).mean((2, 3))


def mask_loss(masks: Masks, truth: Tensor, ambiguous: bool, published: bool) -> Tensor:
    """SAM's loss: 20 focal + 1 dice + 1 IoU regression; before that, cross-entropy in place of focal.

    The single reading always learns; of the three readings of an ambiguous
    prompt only the best one does.
    """
    logits, wanted = masks.logits.float(), truth[:, None].float()
    losses = pixel_loss(logits, wanted, published) * (20.0 if published else 1.0) + dice_loss(logits, wanted)
    with torch.no_grad():
        hard = logits > 0
        overlap = (hard & (wanted > 0.5)).sum((2, 3))
        union = (hard | (wanted > 0.5)).sum((2, 3)).clamp(min=1)
        iou = overlap / union
    total = losses[:, 0].mean() + (masks.iou.float()[:, :1] - iou[:, :1]).square().mean()
    if ambiguous:
        total = (
            total
            + losses[:, 1:].min(dim=1).values.mean()
            + (masks.iou.float()[:, 1:] - iou[:, 1:]).square().mean()
        )
    return total


class Trainee(nn.Module):
    """The network, and a head that traces object outlines to warm the encoder up."""

    def __init__(self) -> None:
        super().__init__()
        self.sam = CompactSam()
        self.outline = nn.Conv2d(32, 1, 1)


def outlines(masks: Tensor) -> Tensor:
    """Outlines of the chosen objects ``(B, 1, h, w)`` from masks ``(B, M, h, w)``."""
    soft = masks.float()
    edge = F.max_pool2d(soft, 3, 1, 1) - (-F.max_pool2d(-soft, 3, 1, 1))
    return edge.amax(dim=1, keepdim=True)


def rounds(
    model: Trainee, features: Features, masks: Tensor, published: bool, rng: np.random.Generator, later: int
) -> Tensor:
    """Loss of boxes, rough masks and clicks, each followed by ``later`` correcting clicks."""
    batch, count = masks.shape[:2]
    device = features.image.device
    owner = torch.arange(batch).repeat_interleave(count)
    flat = masks.flatten(0, 1)
    with_box = torch.arange(len(flat)) % 2 == 0
    total = torch.zeros((), device=device)
    for chosen, start in ((with_box, "box"), (~with_box, "click")):
        truth, index = flat[chosen], owner[chosen]
        ones = torch.ones(len(index))
        prompts = PromptSet(index, ones.long(), ones)
        if start == "box":
            boxes = torch.from_numpy(jitter_boxes(boxes_of(truth.numpy()), features.size[0], rng))
            rough = (
                rough_logits(truth.numpy(), rng)
                * (torch.from_numpy(rng.random(len(truth))) < 0.35)[:, None, None, None]
            )
            prompts = prompts.replace(boxes=boxes, mask_logits=rough.float())
        else:
            prompts = prompts.replace(points=clicks(truth, None, rng))
        target = truth.to(device)
        for turn in range(1 + later):
            answer = model.sam.decode_all(features, prompts.to(device))
            total = total + mask_loss(answer, target, start == "click" and turn == 0, published)
            if turn == later:
                break
            reading = answer.logits[:, 1:] if start == "click" and turn == 0 else answer.logits[:, :1]
            scores = answer.iou[:, 1:] if start == "click" and turn == 0 else answer.iou[:, :1]
            best = reading[torch.arange(len(target)), scores.argmax(1)][:, None].detach().float().cpu()
            point = clicks(truth, best[:, 0] > 0, rng)
            points = point if prompts.points is None else torch.cat([prompts.points, point], dim=1)
            prompts = prompts.replace(points=points, mask_logits=best)
    return total / (2 * (1 + later))


class Average:
    """Exponential moving average of a network's weights, warmed up."""

    def __init__(self, model: nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        decay = min(0.998, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value.detach(), 1 - decay)
            else:
                self.state[name].copy_(value)


def rate(step: int, steps: int, warm_up: int = 200) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to a hundredth."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """No weight decay on norms, biases and embeddings."""
    heavy = [value for name, value in model.named_parameters() if value.ndim > 1 and "token" not in name]
    light = [value for name, value in model.named_parameters() if value.ndim <= 1 or "token" in name]
    return [{"params": heavy, "weight_decay": decay}, {"params": light, "weight_decay": 0.0}]


def save(path: Path, state: dict[str, object]) -> None:
    """Write a training state so that a crash leaves the old one whole."""
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def batches(records: list[Record], options: argparse.Namespace, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches; the order after a step is the same in every run."""
    size = options.size if step < options.last_from * options.steps else options.last_size
    stream = SampleStream(records, size, options.masks, seed=options.seed * 1_000_003 + step)
    return iter(
        DataLoader(stream, options.batch, num_workers=options.workers, collate_fn=collate, prefetch_factor=4)
    )


def corpus(options: argparse.Namespace) -> list[Record]:
    """Records from the data folder, kept in the work folder between runs."""
    kept = options.work / "corpus.pkl"
    if kept.is_file():
        return pickle.loads(kept.read_bytes())
    records = load(options.data)
    kept.write_bytes(pickle.dumps(records))
    return records


def train(options: argparse.Namespace) -> None:
    """Train, or go on from the last state, until the last step."""
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.work.mkdir(parents=True, exist_ok=True)
    records = corpus(options)
    model = Trainee().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=options.rate, betas=(0.9, 0.98))
    average, step, began = Average(model), 0, time.time()
    latest = options.work / "latest.pt"
    if latest.is_file():
        state = torch.load(latest, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.state, step = state["average"], state["step"]
    rng = np.random.default_rng((options.seed, step))
    stream = batches(records, options, step)
    running, marked = 0.0, time.time()
    while step < options.steps:
        if step == math.ceil(options.last_from * options.steps):
            stream = batches(records, options, step)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * rate(step, options.steps)
        images, masks = next(stream)
        published = step >= options.published_from * options.steps
        pixels = images.to(device, memory_format=torch.channels_last).float() / 255
        with torch.autocast(device.type, dtype=torch.bfloat16):
            features = model.sam.encode(pixels)
            loss = rounds(model, features, masks, published, rng, later=1 if step % 4 else 2)
            if step < 0.6 * options.steps:
                traced = model.outline(features.levels[0]).float()
                loss = loss + 0.3 * F.binary_cross_entropy_with_logits(
                    traced, outlines(masks.to(device)), pos_weight=torch.tensor(3.0, device=device)
                )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        average.update(model, step)
        running = 0.98 * running + 0.02 * float(loss) if running else float(loss)
        if step % 20 == 0:
            pace = (time.time() - marked) / 20
            marked = time.time()
            print(f"step {step} loss {running:.4f} {pace:.2f} s/step", flush=True)
        if step % options.every == 0 or step == options.steps:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state,
                "step": step,
            }
            save(latest, state)
            scores = evaluate(averaged(average, device), records, options.image_size, limit=options.limit)
            line = {"step": step, "minutes": round((time.time() - began) / 60, 1), **scores}
            print(json.dumps(line), flush=True)
            with (options.work / "scores.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            marked = time.time()


def averaged(average: Average, device: torch.device) -> CompactSam:
    """The network with the averaged weights, ready to be judged."""
    trainee = Trainee().to(device, memory_format=torch.channels_last)
    trainee.load_state_dict(average.state)
    return trainee.sam.eval()


def main() -> None:
    """Parse the command line and do as told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--masks", type=int, default=5, help="prompts per encoded image")
    parser.add_argument("--size", type=int, default=256, help="side of the training crops")
    parser.add_argument("--last-size", type=int, default=384, help="side of the last training crops")
    parser.add_argument(
        "--last-from", type=float, default=0.8, help="share of the steps after which they come"
    )
    parser.add_argument("--image-size", type=int, default=512, help="side at which it is judged and shipped")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--published-from",
        type=float,
        default=0.6,
        help="share of the steps after which SAM's losses take over",
    )
    parser.add_argument("--every", type=int, default=300, help="steps between saved states")
    parser.add_argument(
        "--limit", type=int, default=12, help="held-back images of each set in the interim judgement"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the averaged weights here instead of training")
    options = parser.parse_args()
    if options.export is None:
        train(options)
        return
    from domainsam.foundation.embedded import save_embedded

    state = torch.load(options.work / "latest.pt", map_location="cpu", weights_only=True)
    trainee = Trainee()
    trainee.load_state_dict(state["average"])
    about = {
        "name": "embedded",
        "version": "1",
        "licence": "Apache-2.0; trained in part on research-only imagery, see the model card",
        "image_size": options.image_size,
        "steps": state["step"],
    }
    save_embedded(trainee.sam.eval(), options.export, about)


if __name__ == "__main__":
    main()
