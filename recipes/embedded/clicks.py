"""Simulated users: boxes, clicks and rough masks for known objects (SAM, appendix A: training protocol)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE

MAP_STRIDE = 4


def boxes_of(masks: NDArray[np.bool_], scale: float = MAP_STRIDE) -> NDArray[np.float32]:
    """Tight boxes ``(N, 4)`` x1, y1, x2, y2 in image pixels of masks ``(N, h, w)``."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for index, mask in enumerate(masks):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[index] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
    return boxes * scale


def jitter_boxes(boxes: NDArray[np.float32], size: int, rng: Generator) -> NDArray[np.float32]:
    """Half of the boxes moved: noise of a tenth of the side, at most 20 px, as in SAM."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    noise = np.clip(rng.normal(size=boxes.shape) * 0.1 * sides, -20, 20)
    noise *= rng.random((len(boxes), 1)) < 0.5
    moved = np.clip(boxes + noise, 0, size)
    broken = (moved[:, 2] - moved[:, 0] < 4) | (moved[:, 3] - moved[:, 1] < 4)
    moved[broken] = boxes[broken]
    return moved.astype(np.float32)


def centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """``x, y`` of the pixel farthest from the region's edge, in map pixels from the corner."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(distance.argmax()), mask.shape)
    return float(col) + 0.5, float(row) + 0.5


def random_inside(mask: NDArray[np.bool_], rng: Generator) -> tuple[float, float]:
    """``x, y`` of a random pixel of the region, in map pixels from the corner."""
    rows, cols = np.nonzero(mask)
    pick = int(rng.integers(len(rows)))
    return float(cols[pick]) + 0.5, float(rows[pick]) + 0.5


def click(
    truth: NDArray[np.bool_], guess: NDArray[np.bool_] | None, rng: Generator | None
) -> tuple[float, float, int]:
    """The next click on an object, in map pixels: ``x, y, label``.

    The first goes inside the object; later ones into the largest wrong region,
    positive where something is missing, negative where too much was taken.
    With ``rng`` half of the clicks are random rather than central.
    """
    label = POINT_POSITIVE
    region = truth
    if guess is not None:
        missing, excess = truth & ~guess, guess & ~truth
        wrong = missing | excess
        if not wrong.any():
            region = truth
        else:
            parts, count = ndimage.label(wrong)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)
            sizes[0] = 0
            region = parts == int(sizes.argmax())
            if (region & excess).sum() > (region & missing).sum():
                region, label = region & excess, POINT_NEGATIVE
            else:
                region = region & missing
    if rng is not None and rng.random() < 0.5:
        return (*random_inside(region, rng), label)
    return (*centre(region), label)


def clicks(truth: Tensor, guess: Tensor | None, rng: Generator | None, scale: float = MAP_STRIDE) -> Tensor:
    """One click each for masks ``(N, h, w)``: ``(N, 1, 3)`` x, y, label in image pixels."""
    wanted = truth.numpy()
    have = [None] * len(wanted) if guess is None else guess.numpy()
    points = np.array([click(one, other, rng) for one, other in zip(wanted, have, strict=True)], np.float32)
    points[:, :2] *= scale
    return torch.from_numpy(points)[:, None]


def rough_logits(masks: NDArray[np.bool_], rng: Generator) -> Tensor:
    """What a weak specialist might have said: blurred, shrunk or grown, noisy; logits ``(N, 1, h, w)``."""
    rough = np.zeros((len(masks), 1, *masks.shape[1:]), np.float32)
    for index, mask in enumerate(masks):
        soft = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.5, 5.0))
        noise = ndimage.zoom(rng.normal(size=(7, 7)), np.array(mask.shape) / 7, order=1)
        soft = soft + noise * rng.uniform(0.0, 0.3) - rng.uniform(0.3, 0.6)
        rough[index, 0] = soft * rng.uniform(4, 16)
    return torch.from_numpy(rough)
