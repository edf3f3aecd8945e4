"""Choose what everything-mode keeps of a foundation's masks: the least estimated IoU and the least stability.

::

    python -m recipes.embedded.limits DATA [--foundation embedded] [--each 8] [--urban 6]

SAM's numbers suit SAM's own scores. Every proposal of a grid of points is compared with the labelled objects
of photographs that training held back; all pairs of limits are then tried offline, and that with the best
mean F1 over pictures is chosen. What is reported of chosen limits comes from cross-validation: a picture is
never scored by limits that it helped to choose. Labels are not complete (nobody outlines everything), so
precision is a lower bound. Intervals are of a bootstrap over pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from domainsam.foundation import DEFAULT, load_foundation
from domainsam.prompter.everything import (
    AT_ONCE,
    STEP,
    USUAL_LIMITS,
    choose_best,
    get_limits,
    measure_stability,
)
from domainsam.prompts import POINT_POSITIVE, PromptSet
from domainsam.protocols import Foundation
from domainsam.train.samples import Record
from recipes.embedded import corpus
from recipes.embedded.evaluate import fit

RIGHT = 0.5
"""IoU from which a mask shows an object."""
OVERLAP = 0.7
LEAST_CELLS = 4
IOUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94)
STABILITIES = (0.0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
FOLDS = 4
DRAWS = 2000
Limits = tuple[float, float]


@dataclass(frozen=True)
class Judged:
    """Proposals of a picture: estimated IoU, stability, boxes ``(N, 4)``, IoU with each object ``(N, G)``."""

    name: str
    source: str
    iou: NDArray[np.float64]
    stability: NDArray[np.float64]
    boxes: NDArray[np.float64]
    overlaps: NDArray[np.float64]

    def score(self, limits: Limits) -> tuple[float, float, float]:
        """Recall, precision and F1 of what is kept; all 0 where nothing is."""
        kept = np.flatnonzero((self.iou >= limits[0]) & (self.stability >= limits[1]))
        boxes = [tuple(self.boxes[number]) for number in kept]
        chosen = kept[choose_best(boxes, list(self.iou[kept]), OVERLAP)] if len(kept) else kept
        if not len(chosen):
            return 0.0, 0.0, 0.0
        own = self.overlaps[chosen] >= RIGHT
        recall, precision = float(own.any(axis=0).mean()), float(own.any(axis=1).mean())
        return recall, precision, 2 * recall * precision / max(recall + precision, 1e-9)


def list_objects(record: Record) -> NDArray[np.bool_]:
    """Masks ``(G, H, W)`` of all objects and groups of a picture."""
    masks = [record.ids == number for number in np.unique(record.ids[record.ids > 0])]
    masks += [np.isin(record.ids, group) for group in record.groups]
    return np.stack(masks)


@torch.inference_mode()
def judge(foundation: Foundation, record: Record, step: int = STEP) -> Judged:
    """Every reading of a grid of points, ``step`` pixels apart, on a picture that fills the longest side."""
    size = foundation.image_size
    image, scale = fit(record.image, size)
    features = foundation.encode(image.to(foundation.device))
    shown = tuple(round(side * scale) for side in record.ids.shape)
    truth = torch.from_numpy(list_objects(record).astype(np.float32))[None]
    small = F.interpolate(truth, shown, mode="area")
    whole = F.pad(small, (0, size - shown[1], 0, size - shown[0]))
    cells = (F.avg_pool2d(whole, 4)[0] > 0.5).flatten(1).float()
    cells = cells[cells.sum(dim=1) >= LEAST_CELLS]
    valid = torch.zeros(size // 4, size // 4, dtype=torch.bool)
    valid[: -(-shown[0] // 4), : -(-shown[1] // 4)] = True
    steps = np.arange(size // step) * step + step / 2
    points = [(x, y) for y in steps for x in steps if y < shown[0] and x < shown[1]]
    found = []
    for start in range(0, len(points), AT_ONCE):
        part = points[start : start + AT_ONCE]
        rows = torch.tensor([[[x, y, float(POINT_POSITIVE)]] for x, y in part], dtype=torch.float32)
        many = len(part)
        prompts = PromptSet(
            image_index=torch.zeros(many, dtype=torch.int64),
            labels=torch.ones(many, dtype=torch.int64),
            scores=torch.ones(many),
            points=rows,
        )
        answer = foundation.decode(features, prompts, True)
        logits = answer.logits.flatten(0, 1).float().cpu()
        masks = (logits > 0) & valid
        flat = masks.flatten(1).float()
        shared = flat @ cells.T
        overlaps = shared / (flat.sum(dim=1)[:, None] + cells.sum(dim=1)[None] - shared).clamp(min=1)
        stability = measure_stability(logits)
        for number, estimate in enumerate(answer.iou.flatten().tolist()):
            mask = masks[number].numpy()
            if mask.sum() >= LEAST_CELLS:
                ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                box = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
                found.append((estimate, float(stability[number]), box, overlaps[number].numpy()))
    parts = [np.array(part, float) for part in zip(*found, strict=True)]
    return Judged(record.name, record.source, parts[0], parts[1], parts[2], parts[3])


def take_pictures(data: Path, each: int, urban: int) -> Iterator[Record]:
    """Held-back pictures of every general set, those with the least hashes; and roofs of Rio if wanted."""
    for source in (corpus.coco_open, corpus.ccp, corpus.feral_cat, corpus.dsb2018):
        held = [one for one in source(data) if one.held_back and one.ids.any()]
        yield from sorted(held, key=lambda one: _draw(one.name))[:each]
    if urban:
        # Training saw these: they say how limits carry over to roofs, and choose nothing.
        roofs = [one for one in corpus.buildings(data) if one.ids.any()]
        yield from sorted(roofs, key=lambda one: _draw(one.name))[:urban]


def _draw(name: str) -> bytes:
    return hashlib.sha256(f"limits {name}".encode()).digest()


PAIRS = [(least, stable) for least in IOUS for stable in STABILITIES]


def score_all(judged: Sequence[Judged]) -> NDArray[np.float64]:
    """Recall, precision and F1 of every picture by every pair of limits, ``(pairs, pictures, 3)``."""
    return np.array([[one.score(pair) for one in judged] for pair in PAIRS])


def choose_limits(scores: NDArray[np.float64]) -> int:
    """Number of the pair with the best mean F1 over pictures; of equal ones the strictest."""
    return max(range(len(PAIRS)), key=lambda number: (float(scores[number, :, 2].mean()), PAIRS[number]))


def cross_validate(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[Limits]]:
    """Scores ``(pictures, 3)`` by limits that the other folds chose, and those limits."""
    count = scores.shape[1]
    crossed, chosen = np.zeros((count, 3)), []
    for fold in range(FOLDS):
        own = np.arange(count) % FOLDS == fold
        number = choose_limits(scores[:, ~own])
        chosen.append(PAIRS[number])
        crossed[own] = scores[number][own]
    return crossed, chosen


def tell(name: str, scores: Sequence[Sequence[float]] | NDArray[np.float64]) -> str:
    """A line with means and 95 % intervals."""
    table, rng = np.array(scores), np.random.default_rng(0)
    draws = table[rng.integers(len(table), size=(DRAWS, len(table)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    parts = [
        f"{word} {mean:.3f} [{one:.3f}, {other:.3f}]"
        for word, mean, one, other in zip(
            ("recall", "precision", "F1"), table.mean(axis=0), low, high, strict=True
        )
    ]
    return f"{name:34s} {', '.join(parts)}\n"


def main() -> None:
    """Print the limits to ship, and what they are worth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--foundation", default=DEFAULT)
    parser.add_argument("--each", type=int, default=8, help="pictures of every set")
    parser.add_argument("--urban", type=int, default=0, help="pictures of roofs, which choose nothing")
    parser.add_argument("--step", type=int, default=STEP, help="pixels between points; 64 is a quick look")
    given = parser.parse_args()
    foundation = load_foundation(given.foundation)
    judged = []
    for record in take_pictures(given.data, given.each, given.urban):
        judged.append(judge(foundation, record, given.step))
        best = judged[-1].overlaps.max(axis=0) >= RIGHT
        print(
            f"{record.source} {record.name}: {len(best)} objects, {best.mean():.2f} in some reading",
            file=sys.stderr,
            flush=True,
        )
    general = [one for one in judged if one.source in ("coco_open", "ccp", "feral_cat", "dsb2018")]
    scores = score_all(general)
    limits = PAIRS[choose_limits(scores)]
    crossed, each = cross_validate(scores)
    before = get_limits(foundation)
    write = sys.stdout.write
    write(f"limits: least IoU {limits[0]:g}, least stability {limits[1]:g}; by fold {each}\n")
    ceiling = [(float((one.overlaps.max(axis=0) >= RIGHT).mean()), 0.0, 0.0) for one in general]
    write(tell("any reading at all (recall alone)", ceiling))
    for name, pair in (("usual", USUAL_LIMITS), ("SAM's", (0.88, 0.95)), ("so far", before)):
        write(tell(f"{name} {pair[0]:g}, {pair[1]:g}", [one.score(pair) for one in general]))
    write(tell("chosen, cross-validated", crossed))
    for source in sorted({one.source for one in judged}):
        own = [one for one in judged if one.source == source]
        write(tell(f"{source}: so far", [one.score(before) for one in own]))
        kept = [list(score) for one, score in zip(general, crossed, strict=True) if one.source == source]
        write(tell(f"{source}: chosen", kept or [list(one.score(limits)) for one in own]))


if __name__ == "__main__":
    main()
