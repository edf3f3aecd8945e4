"""Judge a promptable network on held-back images: box, one click, three clicks.

python -m recipes.embedded.evaluate DATA [--foundation embedded] [--json scores.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.prompts import PromptSet
from domainsam.train.clicks import find_boxes, place_clicks
from domainsam.train.samples import Record
from recipes.embedded.corpus import load

GENERAL = ("coco_open", "ccp", "feral_cat", "dsb2018")
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


def evaluate(
    model: Any, records: Iterable[Record], size: int, limit: int | None = None, per_set: bool = False
) -> dict[str, float]:
    """Mean IoU over all judged objects of the held-back images of the general sets."""
    scores: dict[str, dict[str, list[float]]] = {}
    taken: dict[str, int] = {}
    for record in records:
        if not record.held_back or record.source not in GENERAL:
            continue
        taken[record.source] = taken.get(record.source, 0) + 1
        if limit is not None and taken[record.source] > limit:
            continue
        for name, values in judge(model, record, size).items():
            scores.setdefault(record.source, {}).setdefault(name, []).extend(values)
    names = ("box_itself", "box", "one_click", "2_clicks", "3_clicks")
    summary = {
        name: round(float(np.mean([v for part in scores.values() for v in part[name]])), 4) for name in names
    }
    summary |= {f"box_{source}": round(float(np.mean(part["box"])), 4) for source, part in scores.items()}
    if per_set:
        for source, part in scores.items():
            summary |= {f"{name}_{source}": round(float(np.mean(part[name])), 4) for name in names}
            summary[f"objects_{source}"] = len(part["box"])
    return summary


def main() -> None:
    """Judge the named foundation and print the scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--foundation", default="embedded")
    parser.add_argument("--size", type=int, help="default: the foundation's own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from domainsam.foundation import load_foundation

    foundation = load_foundation(options.foundation)
    scores = evaluate(foundation, load(options.data), options.size or foundation.image_size, per_set=True)
    text = json.dumps(scores, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
