"""Prompts exactly as UV-SAM's released code makes them of one tile (Zhang et al. 2024).

The classes are chosen at the image's own size, from logits that are enlarged
fourfold. Every contour of that mask whose polygon, drawn through the centres
of its pixels, encloses more than 10 000 square pixels is a box prompt, holes
included; of the box, not its sides but its lower right corner must lie beyond
100. The mask prompt of all boxes is the enlarged logit of class 1, averaged
over 4 x 4 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from domainsam.prompter.proposals import EIGHT_NEIGHBOURS, STRIDE
from domainsam.prompts import PromptSet

LEAST_AREA = 100 * 100
"""Square pixels that a contour must enclose, more than."""
LEAST_CORNER = 100
"""Row and column that a box's lower right corner must lie beyond (compared with sides by mistake there)."""
HALF_PIXEL = 0.5
"""SAM's prompt encoder adds it to coordinates; the released code gives it pixel numbers as they are."""
FOUR_NEIGHBOURS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class Contour:
    """The box of a contour's pixels, exclusive ends, and the area of the polygon through their centres."""

    left: int
    top: int
    right: int
    bottom: int
    area: float

    @property
    def is_kept(self) -> bool:
        """Whether the released code makes a prompt of it."""
        return self.area > LEAST_AREA and self.right > LEAST_CORNER and self.bottom > LEAST_CORNER


def find_contours(mask: NDArray[np.bool_]) -> Iterator[Contour]:
    """Outer and inner contours of a mask ``(H, W)``, as OpenCV's ``findContours`` with all levels has them.

    Areas need no tracing: of the unit squares between pixel centres, those
    with four pixels inside count whole, and those with three count half.
    """
    labels, _ = ndimage.label(mask, EIGHT_NEIGHBOURS)
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        inside = np.pad(labels[place] == number, 1)
        filled = ndimage.binary_fill_holes(inside, FOUR_NEIGHBOURS)
        rows, cols = place
        squares = _count_squares(filled)
        area = float((squares == 4).sum() + 0.5 * (squares == 3).sum())
        yield Contour(cols.start, rows.start, cols.stop, rows.stop, area)
        holes, _ = ndimage.label(filled & ~inside, FOUR_NEIGHBOURS)
        for hole, spot in enumerate(ndimage.find_objects(holes), start=1):
            # A hole's contour runs over the pixels around it: one more on every side.
            top, left = rows.start + spot[0].start - 2, cols.start + spot[1].start - 2
            bottom, right = rows.start + spot[0].stop, cols.start + spot[1].stop
            squares = _count_squares(holes == hole)
            area = float((squares >= 2).sum() + 0.5 * (squares == 1).sum())
            yield Contour(left, top, right, bottom, area)


def _count_squares(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of the four pixels around each inner corner are inside."""
    ones = inside.astype(np.int64)
    return ones[:-1, :-1] + ones[1:, :-1] + ones[:-1, 1:] + ones[1:, 1:]


def find_published_prompts(logits: Tensor) -> PromptSet:
    """Boxes and mask prompts of class logits ``(B, K, H/4, W/4)``; the mask prompts keep their gradient.

    Boxes are in image pixels, corners shifted by half a pixel as SAM's own
    prompt encoder shifts them; scores are 1.
    """
    size = (logits.shape[2] * STRIDE, logits.shape[3] * STRIDE)
    full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    chosen = full.detach().argmax(1).cpu().numpy()
    drawn = F.avg_pool2d(full[:, 1:2], STRIDE)
    owners: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    for index, classes in enumerate(chosen):
        for contour in find_contours(classes == 1):
            if contour.is_kept:
                owners.append(index)
                boxes.append((contour.left, contour.top, contour.right, contour.bottom))
    image_index = torch.tensor(owners, dtype=torch.int64, device=logits.device)
    corners = torch.tensor(boxes, dtype=torch.float32, device=logits.device).reshape(-1, 4)
    return PromptSet(
        image_index=image_index,
        labels=torch.ones_like(image_index),
        scores=torch.ones(len(owners), device=logits.device),
        boxes=corners + HALF_PIXEL,
        mask_logits=drawn[image_index],
    )
