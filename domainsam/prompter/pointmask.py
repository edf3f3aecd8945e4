"""A mask from points, as SAM-PT words its prompts (Rajic et al. 2023, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.prompter.cascade import frame_logits
from domainsam.prompter.query import Points
from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE, PromptSet
from domainsam.protocols import Box, Features, Foundation, Window

NOTHING = -1e8
"""Logit of a picture without the object."""


@dataclass(frozen=True, eq=False)
class PointMask:
    """Logits ``(h/4, w/4)`` float32 in ``window``, above 0 inside, and the estimate of its IoU."""

    logits: NDArray[np.float32]
    iou: float
    window: Window

    def paint(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Logits at the size of a frame, :data:`NOTHING` outside the window."""
        whole = np.full(shape, NOTHING, np.float32)
        size = (self.window.height, self.window.width)
        fine = F.interpolate(
            torch.from_numpy(self.logits)[None, None], size, mode="bilinear", align_corners=False
        )
        part = whole[self.window.slices]
        part[:] = fine[0, 0].numpy()[: part.shape[0], : part.shape[1]]
        return whole


def decode_points(
    features: Features,
    window: Window,
    foundation: Foundation,
    positive: Points,
    negative: Points,
    refinements: int,
    extent: Box | None = None,
) -> PointMask | None:
    """The mask that points mark, or None where there is none.

    First from the points on the object alone; then from all points and that mask; then ``refinements``
    times from points, mask and the mask's box. One reading each.

    Parameters
    ----------
    features
        Of the picture of ``window``, ``B = 1``.
    positive, negative
        ``(P, 2)`` x, y in pixels of the frame; those beyond the window are left out.
    extent
        Box that the object is expected in, in pixels of the frame: it prompts from the beginning, and
        the mask's own box is cut by it. None for SAM-PT's way, points alone.
    """
    origin = (window.col, window.row)
    inner = [_within(part - origin, window) for part in (positive, negative)]
    if not len(inner[0]):
        return None
    own, every = _label(inner[0], inner[0][:0]), _label(inner[0], inner[1])
    limit = None if extent is None else _box_within(extent, window)
    with torch.inference_mode():
        answer = foundation.decode(features, PromptSet.from_one(own, limit))
        box = limit
        for number in range(1 + refinements):
            if number:
                box = cut_box(frame_logits(answer.logits[0, 0]), limit)
                if box is None:
                    return None
            answer = foundation.decode(features, PromptSet.from_one(every, box, answer.logits))
    if frame_logits(answer.logits[0, 0]) is None:
        return None
    iou = float(answer.iou[0, 0].clamp(0, 1))
    return PointMask(answer.logits[0, 0].float().cpu().numpy(), iou, window)


def _within(points: Points, window: Window) -> Points:
    size = (window.width, window.height)
    return points[((points >= 0) & (points <= size)).all(axis=1)]


def cut_box(box: Box | None, limit: Box | None) -> Box | None:
    """What two boxes share; the limit itself where they share nothing, None where there is no box."""
    if box is None or limit is None:
        return box
    left, top = max(box[0], limit[0]), max(box[1], limit[1])
    right, bottom = min(box[2], limit[2]), min(box[3], limit[3])
    return (left, top, right, bottom) if left < right and top < bottom else limit


def _box_within(box: Box, window: Window) -> Box | None:
    """A box of the frame in pixels of a window, cut at its edges; None where nothing of it lies inside."""
    left, top = max(0.0, box[0] - window.col), max(0.0, box[1] - window.row)
    right = min(float(window.width), box[2] - window.col)
    bottom = min(float(window.height), box[3] - window.row)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _label(positive: Points, negative: Points) -> Tensor:
    """``(1, P, 3)`` x, y, label."""
    marks = [np.full(len(positive), POINT_POSITIVE), np.full(len(negative), POINT_NEGATIVE)]
    rows = np.column_stack([np.concatenate([positive, negative]), np.concatenate(marks)])
    return torch.from_numpy(rows.astype(np.float32))[None]
