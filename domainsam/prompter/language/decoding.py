"""From places that were named to masks: the box and the points of each, decoded by the foundation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from domainsam.prompter.descriptors import cut_to_frame
from domainsam.prompter.language.codecs import Fractions, Spot
from domainsam.prompter.search import cut_out
from domainsam.prompts import PromptSet
from domainsam.protocols import Click, Features, Foundation, SceneObject, View, Window


@dataclass(frozen=True)
class Place:
    """A place in the part of a window that lies in the scene, as fractions of that part's sides.

    Parameters
    ----------
    box
        None where only points are known.
    spots
        Points on the object and beside it.
    sure
        How sure the model is, 0 to 1.
    """

    box: Fractions | None
    spots: tuple[Spot, ...] = ()
    sure: float = 1.0


def show_window(view: View, window: Window) -> Window:
    """The part of a window that lies in the scene."""
    height = min(window.height, view.shape[0] - window.row)
    width = min(window.width, view.shape[1] - window.col)
    return Window(window.row, window.col, height, width, window.frame)


def decode_place(
    place: Place, view: View, window: Window, features: Features, foundation: Foundation
) -> SceneObject | None:
    """The object at a place, in scene coordinates; None where no pixel is its own.

    Three readings are decoded and the one is taken that the foundation trusts most, as SAM4MLLM does.
    Where no point is kept, the box alone is asked.
    """
    part = show_window(view, window)
    prompts = make_prompt(place, (part.height, part.width))
    with torch.inference_mode():
        masks = foundation.decode(features, prompts.to(foundation.device), True).best()
    fine = F.interpolate(
        masks.logits.float(), (window.height, window.width), mode="bilinear", align_corners=False
    )
    seen = view.block(window).valid
    mask = cut_to_frame(np.asarray((fine[0, 0] > 0).cpu().numpy()) & seen, window, view.shape)
    if not mask.any():
        return None
    bounds, own = cut_out(mask, window)
    trust = float(masks.iou[0, 0].float().clamp(0, 1))
    points = tuple(
        click for click in _clicks(place.spots, part) if not click.inside or _holds(bounds, own, click)
    )
    return SceneObject(bounds, score=min(place.sure, 1.0) * trust, points=points, box=bounds.box, mask=own)


def make_prompt(place: Place, size: tuple[int, int]) -> PromptSet:
    """A place as a prompt in pixels of a picture of ``size`` (height, width)."""
    height, width = size
    box = None
    if place.box is not None:
        left, top, right, bottom = place.box
        box = (left * width, top * height, right * width, bottom * height)
    points = [[x * width, y * height, float(inside)] for x, y, inside in place.spots]
    return PromptSet.from_one(torch.tensor([points]) if points else None, box)


def _clicks(spots: Sequence[Spot], part: Window) -> list[Click]:
    return [Click(part.col + x * part.width, part.row + y * part.height, inside) for x, y, inside in spots]


def _holds(bounds: Window, mask: NDArray[np.bool_], click: Click) -> bool:
    """Whether a point lies in a mask's bounds, as an object's points have to."""
    row, col = int(click.y) - bounds.row, int(click.x) - bounds.col
    return bool(0 <= row < mask.shape[0] and 0 <= col < mask.shape[1])
