"""Teach the fast embedded foundation what the embedded one sees; stop and go on at will.

    python -m recipes.embedded.fast DATA --work runs/fast
    python -m recipes.embedded.fast DATA --work runs/fast --export WEIGHTS
    python -m recipes.embedded.fast DATA --work runs/fast --compare WEIGHTS

The student is the teacher's own network, whose trunk looks at pictures of 5/8
of the side, and a small convolution that looks at the whole one. Its encoder
learns the teacher's three levels, and to make the teacher's decoder, which
stays as it is, answer boxes and clicks. The length of the training was set
before it began; the held-back images choose nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.foundation import load_foundation
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.embedded import WEIGHTS, EmbeddedFoundation, save_embedded
from domainsam.foundation.loading import read_tensors
from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.prompts import PromptSet
from domainsam.train import distil
from domainsam.train.clicks import find_boxes, place_clicks
from domainsam.train.samples import Record, SampleStream, collate
from recipes.embedded.corpus import SHARES, load_once
from recipes.embedded.evaluate import GENERAL, fit, iou, objects, to_original
from recipes.embedded.train import show

NAME = "embedded_fast"
SCALE = 5 / 8
"""Of the sides that the trunk sees: 0.39 of the teacher's products, which leaves some time for the rest."""
LEVEL_WEIGHTS = (1.0, 0.4, 0.4)
"""Strides 16, 4 and 8, as in ``recipes/scene/distil.py``."""
MASK_WEIGHT = 0.5
WARM_UP = 40
SIDE = 512
"""At which it is judged."""
LICENCE = "Apache-2.0; trained in part on research-only imagery, see the model card"


def begin() -> CompactSam:
    """The student with the teacher's weights; what the teacher does not have adds nothing yet."""
    student = CompactSam(scale=SCALE)
    missing = student.load_state_dict(read_tensors(WEIGHTS), strict=False)
    assert not missing.unexpected_keys
    return student


def batches(records: list[Record], options: argparse.Namespace, step: int) -> Iterator[distil.Batch]:
    """Endless batches; the order after a step is the same in every run."""
    stream = iter(SampleStream(records, options.size, options.masks, options.seed * 1_000_003 + step, SHARES))
    while True:
        yield collate([next(stream) for _ in range(options.batch)])


def train(options: argparse.Namespace) -> None:
    """Distil, or go on from the last state, until the last step."""
    torch.manual_seed(options.seed)
    records = load_once(options.data, options.work)
    teacher = cast("EmbeddedFoundation", load_foundation("embedded"))
    student = begin().train()
    student.requires_grad_(False)
    student.encoder.requires_grad_(True)
    levels = distil.LevelLoss(LEVEL_WEIGHTS)
    distil.train(
        distil.Distillation(
            student, student.encoder, student, teacher, levels, MASK_WEIGHT, dtype=torch.float32
        ),
        lambda step: batches(records, options, step),
        distil.DistilOptions(options.steps, options.rate, WARM_UP, options.every, options.seed),
        options.work,
        progress=show,
    )


def export(options: argparse.Namespace) -> None:
    """Write the averaged weights."""
    state = torch.load(options.work / "latest.pt", weights_only=True)
    student = begin()
    student.load_state_dict(state["average"])
    facts = {
        "name": NAME,
        "version": "1",
        "licence": LICENCE,
        "scale": SCALE,
        "steps": state["step"],
        "teacher": "embedded",
    }
    save_embedded(student.eval(), options.export, facts, borrow=True)


def measure_seconds(foundation: EmbeddedFoundation, runs: int = 5) -> float:
    """Least CPU seconds of encoding one picture of 512 x 512, on one thread."""
    image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    taken = []
    for _ in range(runs + 1):
        began = time.process_time()
        foundation.encode(image)
        taken.append(time.process_time() - began)
    return min(taken[1:])


def compare(options: argparse.Namespace) -> None:
    """Print both foundations' CPU seconds and mean IoU on the held-back images, and the differences.

    Intervals come from resampling images. Scores are kept in ``--work`` as they
    come, so that an interrupted comparison goes on.
    """
    torch.set_num_threads(1)
    records = [
        one for one in load_once(options.data, options.work) if one.held_back and one.source in GENERAL
    ]
    pair = [cast("EmbeddedFoundation", load_foundation(name)) for name in ("embedded", str(options.compare))]
    seconds = [measure_seconds(one) for one in pair]
    table: dict[str, object] = {"seconds": seconds, "share": seconds[1] / seconds[0]}
    for prompt in options.prompts.split(","):
        first, second = (score(model, records, prompt, options.work) for model in pair)
        objects_seen = first[:, 1] > 0
        table[prompt] = {
            "images": int(objects_seen.sum()),
            "objects": int(first[:, 1].sum()),
            "teacher": tell(bootstrap(first[objects_seen], share)),
            "student": tell(bootstrap(second[objects_seen], share)),
            "difference": tell(
                bootstrap(
                    np.stack([second[:, 0] - first[:, 0], first[:, 1]], 1)[objects_seen],
                    share,
                )
            ),
        }
    print(json.dumps(table, indent=1))


def score(model: EmbeddedFoundation, records: list[Record], prompt: str, work: Path) -> NDArray[np.float64]:
    """Sum of IoU and number of objects of every image, ``(N, 2)``."""
    kept = work / f"{prompt}-{model.sha256[:12]}.jsonl"
    known = {}
    if kept.is_file():
        known = {row[0]: row[1:] for row in map(json.loads, kept.read_text().splitlines())}
    with kept.open("a") as log:
        for one in records:
            key = f"{one.source}/{one.name}"
            if key not in known:
                values = judge_once(model, one, prompt)
                known[key] = [float(sum(values)), len(values)]
                print(json.dumps([key, *known[key]]), file=log, flush=True)
    return np.array([known[f"{one.source}/{one.name}"] for one in records])


@torch.inference_mode()
def judge_once(model: EmbeddedFoundation, one: Record, prompt: str) -> list[float]:
    """IoU of every judged object of an image at boxes (``"box"``) or single clicks (``"one_click"``)."""
    masks = objects(one)
    if not len(masks):
        return []
    image, scale = fit(one.image, SIDE)
    features = model.encode(image)
    base = PromptSet.from_boxes(torch.from_numpy(find_boxes(masks, 1.0)) * scale)
    truth = torch.from_numpy(masks)
    if prompt == "box":
        answer = model.decode(features, base)
    else:
        points = place_clicks(truth, None, None, scale)
        answer = model.decode(features, base.replace(boxes=None, points=points), multimask=True).best()
    found = to_original(answer.logits, SIDE, one.ids.shape, scale)
    values: list[float] = iou(found, truth).tolist()
    return values


def share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over objects from sums and counts ``(..., 2)``."""
    return sums[:, 0] / sums[:, 1]


def tell(interval: Interval) -> list[float]:
    """Value, lower and upper bound of 95 %."""
    return [round(float(value), 4) for value in (interval.value, interval.low, interval.high)]


def main() -> None:
    """Parse the command line, then train, export or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/fast"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--masks", type=int, default=2, help="objects of an image that are asked for")
    parser.add_argument("--size", type=int, default=256, help="side of crops")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--every", type=int, default=50, help="steps between saved states")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the averaged weights here instead of training")
    parser.add_argument("--compare", type=Path, help="compare this file with the teacher")
    parser.add_argument("--prompts", default="box,one_click", help="by which they are compared")
    options = parser.parse_args()
    if options.compare is not None:
        compare(options)
    elif options.export is not None:
        export(options)
    else:
        train(options)


if __name__ == "__main__":
    main()
