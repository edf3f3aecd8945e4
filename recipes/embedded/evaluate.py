"""Judge promptable networks on held-back images: box, one click, three clicks.

    python -m recipes.embedded.evaluate DATA [--foundation embedded_lite] [--json scores.json]
    python -m recipes.embedded.evaluate DATA --public SETS --foundation embedded_lite --beside embedded

Scores are means over objects, with intervals of 95 % from resampling images. ``--beside`` judges another
foundation on the same images and tells the differences, and CPU seconds of either encoder on one thread.
``SETS`` are the public sets of :mod:`recipes.embedded.public`; what they hold back is judged too, of each
set ``--each`` pictures at most, those whose names have the least hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation import DEFAULT, load_foundation
from domainsam.metrics.bootstrap import bootstrap
from domainsam.prompts import PromptSet
from domainsam.protocols import Foundation
from domainsam.train.clicks import find_boxes, place_clicks
from domainsam.train.samples import Record
from recipes.embedded.corpus import load
from recipes.embedded.public import load_public

GENERAL = ("coco_open", "ccp", "feral_cat", "dsb2018")
PUBLIC = ("bsds", "camvid", "persons")
"""Sets that the public ones add to these."""
PROMPTS = ("box_itself", "box", "one_click", "2_clicks", "3_clicks")
OBJECTS = 8
"""At most this many objects of an image count, so that crowded images do not outweigh the rest."""


def fit(image: np.ndarray, size: int) -> tuple[Tensor, float]:
    """Scale the longest side to ``size`` and pad right and below: ``(1, 3, size, size)`` and the scale."""
    scale = size / max(image.shape[:2])
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None] / 255
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    small = F.interpolate(pixels, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return F.pad(small, (0, size - width, 0, size - height)), scale


def objects(record: Record) -> np.ndarray:
    """Up to :data:`OBJECTS` masks ``(M, H, W)`` of an image, evenly spread over its sizes."""
    areas = np.bincount(record.ids.ravel())
    areas[0] = 0
    values = np.flatnonzero(areas >= 100)
    values = values[np.argsort(areas[values], kind="stable")]
    picked = (
        values[np.linspace(0, len(values) - 1, min(OBJECTS, len(values))).round().astype(int)]
        if len(values)
        else values
    )
    return (
        np.stack([record.ids == value for value in picked])
        if len(picked)
        else np.zeros((0, *record.ids.shape), bool)
    )


def to_original(logits: Tensor, size: int, shape: tuple[int, int], scale: float) -> Tensor:
    """Masks ``(N, H, W)`` bool on the original image from logits ``(N, 1, size/4, size/4)``."""
    full = F.interpolate(logits.float(), (size, size), mode="bilinear", align_corners=False)
    full = full[..., : round(shape[0] * scale), : round(shape[1] * scale)]
    return F.interpolate(full, shape, mode="bilinear", align_corners=False)[:, 0] > 0


def iou(guess: Tensor, truth: Tensor) -> Tensor:
    """IoU of each pair of masks ``(N, H, W)``: ``(N,)``."""
    return (guess & truth).sum((1, 2)) / (guess | truth).sum((1, 2)).clamp(min=1)


@torch.inference_mode()
def judge(model: Any, record: Record, size: int) -> dict[str, list[float]]:
    """IoU of every judged object of one image under each kind of prompt."""
    masks = objects(record)
    if not len(masks):
        return {}
    truth = torch.from_numpy(masks)
    image, scale = fit(record.image, size)
    device = next(iter(model.parameters())).device if hasattr(model, "parameters") else model.device
    features = model.encode(image.to(device))
    boxes = torch.from_numpy(find_boxes(masks, 1.0))
    base = PromptSet.from_boxes(boxes * scale).to(device)
    shape = record.ids.shape
    found: dict[str, Tensor] = {
        "box": to_original(model.decode(features, base).logits.cpu(), size, shape, scale)
    }
    filled = torch.zeros_like(truth)
    for index, (x1, y1, x2, y2) in enumerate(boxes.long().tolist()):
        filled[index, y1:y2, x1:x2] = True
    found["box_itself"] = filled
    points = place_clicks(truth, None, None, scale)
    answer = model.decode(features, base.replace(boxes=None, points=points.to(device)), multimask=True).best()
    found["one_click"] = to_original(answer.logits.cpu(), size, shape, scale)
    for turn in range(2):
        guess = to_original(answer.logits.cpu(), size, shape, scale)
        points = torch.cat([points, place_clicks(truth, guess, None, scale)], dim=1)
        answer = model.decode(
            features, base.replace(boxes=None, points=points.to(device), mask_logits=answer.logits.float())
        )
        found[f"{turn + 2}_clicks"] = to_original(answer.logits.cpu(), size, shape, scale)
    return {name: iou(guess, truth).tolist() for name, guess in found.items()}


def evaluate(model: Any, records: Iterable[Record], size: int, limit: int | None = None) -> dict[str, float]:
    """Mean IoU over all judged objects of the held-back images of the general sets."""
    scores: dict[str, dict[str, list[float]]] = {}
    taken: dict[str, int] = {}
    for record in select(records, GENERAL):
        taken[record.source] = taken.get(record.source, 0) + 1
        if limit is not None and taken[record.source] > limit:
            continue
        for name, values in judge(model, record, size).items():
            scores.setdefault(record.source, {}).setdefault(name, []).extend(values)
    summary = {
        name: round(float(np.mean([v for part in scores.values() for v in part[name]])), 4)
        for name in PROMPTS
    }
    return summary | {
        f"box_{source}": round(float(np.mean(part["box"])), 4) for source, part in scores.items()
    }


def select(records: Iterable[Record], sources: Iterable[str]) -> list[Record]:
    """The held-back images of sets."""
    wanted = set(sources)
    return [record for record in records if record.held_back and record.source in wanted]


def draw(records: Sequence[Record], count: int | None) -> list[Record]:
    """So many records at most, those whose names have the least hashes."""
    return sorted(records, key=lambda one: hashlib.sha256(one.name.encode()).digest())[:count]


def score(foundation: Foundation, records: Sequence[Record], size: int) -> NDArray[np.float64]:
    """Sums of IoU by image and prompt (:data:`PROMPTS`), and numbers of objects: ``(N, P + 1)``."""
    rows = []
    for record in records:
        found = judge(foundation, record, size)
        rows.append([sum(found.get(name, ())) for name in PROMPTS] + [len(found.get("box", ()))])
    return np.array(rows, float).reshape(-1, len(PROMPTS) + 1)


def summarise(sums: NDArray[np.float64]) -> dict[str, object]:
    """Mean IoU of every prompt with its interval, from sums as :func:`score` gives them."""
    seen = sums[sums[:, -1] > 0]
    told: dict[str, object] = {"images": len(seen), "objects": int(seen[:, -1].sum())}
    for column, name in enumerate(PROMPTS):
        found = bootstrap(seen[:, (column, -1)], lambda rows: rows[:, 0] / rows[:, 1])
        told[name] = [round(float(value), 3) for value in (found.value, found.low, found.high)]
    return told


def measure_seconds(foundation: Foundation, runs: int = 5) -> float:
    """Least CPU seconds of encoding one picture of the foundation's side, on one thread."""
    side = foundation.image_size
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    taken = []
    for _ in range(runs + 1):
        began = time.process_time()
        foundation.encode(image)
        taken.append(time.process_time() - began)
    return round(min(taken[1:]), 3)


def compare(options: argparse.Namespace) -> dict[str, object]:
    """Scores by set and over all sets, of one foundation, or of two and their differences."""
    records = load(options.data)
    if options.public is not None:
        records += load_public(options.public, records)
    names = [options.foundation, *([options.beside] if options.beside else [])]
    foundations = [load_foundation(name) for name in names]
    sources = (*GENERAL, *(PUBLIC if options.public is not None else ()))
    held = {source: draw(select(records, (source,)), options.each) for source in sources}
    sums = {
        source: [score(one, part, options.size or one.image_size) for one in foundations]
        for source, part in held.items()
        if part
    }
    sums["all"] = [np.concatenate(part) for part in zip(*sums.values(), strict=True)]
    table: dict[str, object] = {}
    for source, parts in sums.items():
        told = {name: summarise(part) for name, part in zip(names, parts, strict=True)}
        if len(parts) == 2:
            less = np.column_stack([(parts[0] - parts[1])[:, :-1], parts[0][:, -1]])
            told["difference"] = summarise(less)
        table[source] = told
    if options.beside:
        torch.set_num_threads(1)
        table["seconds"] = {name: measure_seconds(one) for name, one in zip(names, foundations, strict=True)}
    return table


def main() -> None:
    """Judge the named foundations and print the scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--public", type=Path, help="folder with public sets that are judged too")
    parser.add_argument("--foundation", default=DEFAULT)
    parser.add_argument("--beside", help="another foundation, judged on the same images")
    parser.add_argument("--each", type=int, help="pictures of a set at most")
    parser.add_argument("--size", type=int, help="default: the foundation's own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    text = json.dumps(compare(options), indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
