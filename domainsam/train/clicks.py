"""Boxes, clicks and rough masks as a user would give them, made from known masks (SAM, appendix A)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE

MAP_STRIDE = 4
"""Image pixels along a pixel of a mask map."""


def find_boxes(masks: NDArray[np.bool_], scale: float = MAP_STRIDE) -> NDArray[np.float32]:
    """Find the tight boxes ``(N, 4)`` x1, y1, x2, y2 (exclusive) in image pixels of masks ``(N, h, w)``.

    An empty mask has the box 0, 0, 0, 0; ``scale`` is image pixels along a pixel of the masks.
    """
    boxes = np.zeros((len(masks), 4), np.float32)
    for index, mask in enumerate(masks):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[index] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
    return boxes * scale


def jitter_boxes(boxes: NDArray[np.float32], size: int, rng: Generator) -> NDArray[np.float32]:
    """Move half of the boxes at random, as in SAM; ``(N, 4)`` in, ``(N, 4)`` float32 out, in image pixels.

    The noise has a standard deviation of a tenth of the side, at most 20 px;
    boxes stay within ``0 .. size``, and one that would get narrower than 4 px stays as it was.
    """
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    noise = np.clip(rng.normal(size=boxes.shape) * 0.1 * sides, -20, 20)
    noise *= rng.random((len(boxes), 1)) < 0.5
    moved = np.clip(boxes + noise, 0, size)
    broken = (moved[:, 2] - moved[:, 0] < 4) | (moved[:, 3] - moved[:, 1] < 4)
    moved[broken] = boxes[broken]
    return moved.astype(np.float32)


def find_centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Find the pixel farthest from a region's edge: ``x, y`` of its centre, in map pixels from the corner."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(distance.argmax()), mask.shape)
    return float(col) + 0.5, float(row) + 0.5


def draw_inside(mask: NDArray[np.bool_], rng: Generator) -> tuple[float, float]:
    """Draw a random pixel of the region: ``x, y`` of its centre in map pixels from the corner."""
    rows, cols = np.nonzero(mask)
    pick = int(rng.integers(len(rows)))
    return float(cols[pick]) + 0.5, float(rows[pick]) + 0.5


def place_click(
    truth: NDArray[np.bool_], guess: NDArray[np.bool_] | None, rng: Generator | None
) -> tuple[float, float, int]:
    """Place the next click on an object: ``x, y, label``, in map pixels from the corner.

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
        return (*draw_inside(region, rng), label)
    return (*find_centre(region), label)


def place_clicks(
    truth: Tensor, guess: Tensor | None, rng: Generator | None, scale: float = MAP_STRIDE
) -> Tensor:
    """Place one click on each mask ``(N, h, w)`` bool: ``(N, 1, 3)`` float32 x, y, label in image pixels.

    ``guess`` ``(N, h, w)`` is what was found so far, or None; ``rng`` as in :func:`place_click`.
    """
    wanted = truth.numpy()
    have = [None] * len(wanted) if guess is None else guess.numpy()
    points = np.array(
        [place_click(one, other, rng) for one, other in zip(wanted, have, strict=True)], np.float32
    )
    points[:, :2] *= scale
    return torch.from_numpy(points)[:, None]


def roughen_masks(masks: NDArray[np.bool_], rng: Generator) -> Tensor:
    """Blur, shrink or grow masks ``(N, h, w)`` with noise into rough logits ``(N, 1, h, w)`` float32."""
    rough = np.zeros((len(masks), 1, *masks.shape[1:]), np.float32)
    for index, mask in enumerate(masks):
        soft = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.5, 5.0))
        noise = ndimage.zoom(rng.normal(size=(7, 7)), np.array(mask.shape) / 7, order=1)
        soft = soft + noise * rng.uniform(0.0, 0.3) - rng.uniform(0.3, 0.6)
        rough[index, 0] = soft * rng.uniform(4, 16)
    return torch.from_numpy(rough)
