"""Prompts for pictures without marks: clicks by chance, the teacher's masks of them, and their boxes.

The published recipes ask by the objects of SA-1B. Here the teacher finds the
objects: it is clicked on anywhere in the picture and its best reading counts.
Random numbers are torch's own, which the trainer seeds for every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from domainsam.distil.pictures import find_shown
from domainsam.prompts import POINT_NEGATIVE, POINT_PADDING, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Foundation, Masks

MAP_STRIDE = 4
"""Image pixels along a pixel of a mask map."""
LEAST_AREA = 4
"""Map pixels of an object; smaller ones have no box that could be told from others."""
MOST_SHARE = 0.9
"""Of the picture that an object fills at most."""


@dataclass(frozen=True)
class Objects:
    """What a teacher finds at clicks.

    ``index`` ``(N,)`` int64 is the image of each, ``clicks`` ``(N, 1, 3)`` x, y and label,
    ``masks`` ``(N, h, w)`` bool, ``boxes`` ``(N, 4)`` in image pixels, ``good`` ``(N,)`` bool whether the
    mask is neither a speck nor the whole picture.
    """

    index: Tensor
    clicks: Tensor
    masks: Tensor
    boxes: Tensor
    good: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, keep: Tensor) -> Objects:
        return Objects(*(part[keep] for part in vars(self).values()))


def start_prompts(index: Tensor, points: Tensor | None = None, boxes: Tensor | None = None) -> PromptSet:
    """Prompts of points or of boxes for the images of that index."""
    ones = torch.ones_like(index)
    return PromptSet(index, ones, ones.float(), points=points, boxes=boxes)


@torch.no_grad()
def find_objects(teacher: Foundation, features: Features, extents: Tensor, count: int) -> Objects:
    """Click ``count`` times on each image, and see what the teacher finds there.

    ``extents`` ``(B, 2)`` are the rows and columns of pixels that show the picture.
    """
    device = features.image.device
    index = torch.arange(len(extents), device=device).repeat_interleave(count)
    height, width = extents[index].unbind(1)
    drawn = torch.rand(len(index), 2).to(device)
    places = [drawn[:, 0] * width, drawn[:, 1] * height]
    clicks = torch.stack([*places, torch.full_like(height, POINT_POSITIVE)], 1)[:, None]
    answer = teacher.decode(features, start_prompts(index, clicks), multimask=True).best()
    masks = answer.logits[:, 0] > 0
    masks = masks & find_shown(extents[index], (masks.shape[1], masks.shape[2]), MAP_STRIDE)
    areas = masks.sum((1, 2))
    good = (areas >= LEAST_AREA) & (areas * MAP_STRIDE**2 <= MOST_SHARE * height * width)
    boxes = torch.where(good[:, None], find_boxes(masks), draw_boxes(clicks, height, width))
    return Objects(index, clicks, masks, boxes, good)


def find_boxes(masks: Tensor) -> Tensor:
    """Tight boxes ``(N, 4)`` in image pixels of masks ``(N, h, w)``; an empty mask has none that counts."""
    rows, cols = masks.any(2).float(), masks.any(1).float()
    top, left = rows.argmax(1), cols.argmax(1)
    bottom = rows.shape[1] - rows.flip(1).argmax(1)
    right = cols.shape[1] - cols.flip(1).argmax(1)
    return torch.stack([left, top, right, bottom], 1).float() * MAP_STRIDE


def draw_boxes(clicks: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Boxes ``(N, 4)`` by chance around clicks, of a tenth to a half of the picture's sides."""
    part = (0.05 + 0.2 * torch.rand(len(clicks), 2)).to(clicks.device)
    x, y = clicks[:, 0, 0], clicks[:, 0, 1]
    across, down = part[:, 0] * width, part[:, 1] * height
    edges = [(x - across).clamp(min=0), (y - down).clamp(min=0)]
    return torch.stack([*edges, torch.minimum(x + across, width), torch.minimum(y + down, height)], 1)


@torch.no_grad()
def answer_fully(teacher: Foundation, features: Features, prompts: PromptSet, boxed: bool) -> Masks:
    """The teacher's answers: one to a box, and to points all four, the single reading first."""
    single = teacher.decode(features, prompts)
    if boxed:
        return single
    several = teacher.decode(features, prompts, multimask=True)
    return Masks(torch.cat([single.logits, several.logits], 1), torch.cat([single.iou, several.iou], 1))


@torch.no_grad()
def disagree(truth: Tensor, guess: Tensor, outside: bool) -> Tensor:
    """One point ``(N, 1, 3)`` each, anywhere in what two masks ``(N, h, w)`` bool disagree in.

    Where the guess lacks something the point is inside the object (label 1),
    where it has too much, beside it (0), if such points are understood
    (``outside``). Masks that agree get padding (-1).
    """
    wrong = truth ^ guess if outside else truth & ~guess
    chance = torch.rand(wrong.shape).to(wrong.device) * wrong
    best, place = chance.flatten(1).max(1)
    rows, cols = place // wrong.shape[2], place % wrong.shape[2]
    missing = truth.flatten(1).gather(1, place[:, None])[:, 0]
    label = torch.where(missing, POINT_POSITIVE, POINT_NEGATIVE)
    label = torch.where(best > 0, label, POINT_PADDING)
    point = [(cols + 0.5) * MAP_STRIDE, (rows + 0.5) * MAP_STRIDE, label.float()]
    return torch.stack(point, 1)[:, None]


@torch.no_grad()
def draw_inside(masks: Tensor, count: int) -> Tensor:
    """``count`` points ``(N, count, 3)`` anywhere inside masks ``(N, h, w)`` bool; padding in empty ones."""
    empty = torch.zeros_like(masks)
    return torch.cat([disagree(masks, empty, outside=False) for _ in range(count)], 1)
