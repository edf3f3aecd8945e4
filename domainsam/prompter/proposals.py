"""Box and mask prompts from a coarse mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from domainsam.errors import ConfigError
from domainsam.prompts import PromptSet

STRIDE = 4
"""Image pixels per coarse pixel."""
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
"""Diagonal neighbours touch, as for the outer contours that the paper takes its boxes from."""


@dataclass(frozen=True)
class ProposalConfig:
    """Which components of a coarse mask become prompts.

    Parameters
    ----------
    threshold
        Foreground probability above which a coarse pixel belongs to a component.
    min_side
        Least width and height of a component's box, in image pixels.
    min_area
        Least ``width * height`` of the box, in square image pixels. The paper
        means 100 and 10000 at 1024 x 1024; the defaults keep smaller objects.
    max_prompts
        Only the so many largest boxes of an image are kept.
    rule
        ``"components"`` of the coarse mask, by the limits above; or ``"released"``: prompts of one tile
        exactly as UV-SAM's code makes them, see :mod:`domainsam.prompter.published`. Whole scenes are
        always prompted from their blended probability.

    Raises
    ------
    ConfigError
        If the threshold is not between 0 and 1, or no prompt is allowed.
    """

    threshold: float = 0.5
    min_side: float = 16.0
    min_area: float = 400.0
    max_prompts: int = 64
    rule: Literal["components", "released"] = "components"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold is {self.threshold}, expected a probability between 0 and 1")
        if self.max_prompts < 1:
            raise ConfigError(f"max_prompts is {self.max_prompts}, expected 1 or more")


PUBLISHED = ProposalConfig(min_side=100.0, min_area=10_000.0, rule="released")
"""UV-SAM's, for images of 1024 x 1024 pixels; whole scenes are prompted by the limits that its text means."""


def find_proposals(log_odds: Tensor, config: ProposalConfig | None = None) -> PromptSet:
    """One prompt for every kept component of every image.

    Parameters
    ----------
    log_odds
        ``(B, 1, H/4, W/4)`` log-odds of the foreground.
    config
        What to keep; the defaults of :class:`ProposalConfig` unless told.

    Returns
    -------
    PromptSet
        Boxes in image pixels, exclusive edges; scores are the mean
        probability inside the component; ``mask_logits`` is the whole image's
        ``log_odds``, the same for every box, and keeps its gradient. Images
        without components have no prompts, so the set may be empty.
    """
    config = config or ProposalConfig()
    boxes: list[tuple[float, float, float, float]] = []
    scores: list[float] = []
    owners: list[int] = []
    for index, image in enumerate(log_odds.detach().float().cpu().numpy()[:, 0]):
        found = _image_boxes(image, config)
        boxes += [box for box, _ in found]
        scores += [score for _, score in found]
        owners += [index] * len(found)
    device = log_odds.device
    image_index = torch.tensor(owners, dtype=torch.int64, device=device)
    return PromptSet(
        image_index=image_index,
        labels=torch.ones_like(image_index),
        scores=torch.tensor(scores, dtype=torch.float32, device=device),
        boxes=torch.tensor(boxes, dtype=torch.float32, device=device).reshape(-1, 4),
        mask_logits=log_odds[image_index],
    )


def is_box_kept(width: float, height: float, config: ProposalConfig) -> bool:
    """Whether a box of that size, in image pixels, is large enough, wherever it lies."""
    return min(width, height) >= config.min_side and width * height >= config.min_area


def _image_boxes(
    log_odds: NDArray[np.float32], config: ProposalConfig
) -> list[tuple[tuple[float, float, float, float], float]]:
    """Boxes and scores of one image ``(h, w)``, in scanning order of the components."""
    inside = log_odds > math.log(config.threshold / (1 - config.threshold))
    labels, count = ndimage.label(inside, structure=EIGHT_NEIGHBOURS)
    if count == 0:
        return []
    probability = 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))
    scores = ndimage.mean(probability, labels, np.arange(1, count + 1))
    found = []
    for score, (rows, cols) in zip(scores, ndimage.find_objects(labels), strict=True):
        box = (cols.start * STRIDE, rows.start * STRIDE, cols.stop * STRIDE, rows.stop * STRIDE)
        if is_box_kept(box[2] - box[0], box[3] - box[1], config):
            found.append((box, float(score)))
    if len(found) > config.max_prompts:
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box, _ in found]
        largest = sorted(np.argsort(areas)[::-1][: config.max_prompts])
        found = [found[index] for index in largest]
    return found
