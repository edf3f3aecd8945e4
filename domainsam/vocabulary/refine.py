"""Maps of words made sharper by a foundation: what a map is sure of becomes prompts, the masks come back.

As SAM-CLIP does it (Wang et al. 2024, section 4.3): the map of a word, cut at a half, and one to three
points in it are asked of HeadSAM. Here any foundation is asked, and its mask and the map are averaged.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.picture import FITS
from domainsam.foundations import find_foundations
from domainsam.prompts import POINT_PADDING, POINT_POSITIVE, PromptSet
from domainsam.protocols import Foundation

SURE = 0.5
"""Scores above it are asked for."""
POINTS = 3
"""Of a word: the places farthest from the edge of its sure parts, a part each."""
LEAST = 4
"""Places of a sure part that is asked for."""
LIMIT = 8.0
"""Greatest logit of a mask prompt."""


@torch.inference_mode()
def refine_scores(
    scores: NDArray[np.float32], picture: NDArray[np.uint8], foundation: Foundation
) -> NDArray[np.float32]:
    """Scores ``(K, h, w)`` of words for the places of a picture, averaged with a foundation's masks of them.

    Parameters
    ----------
    scores
        Of the whole picture, in 0 to 1.
    picture
        ``(H, W, 3)`` uint8.

    Returns
    -------
    NDArray[np.float32]
        ``(K, h', w')``, sums over words at most 1; the sides are a quarter of what the foundation sees.
    """
    row = find_foundations().get(foundation.name)
    images, fit = FITS["longest" if row is None else row.fit](picture, foundation.image_size)
    shown = tuple(-(-side // 4) for side in fit.resized)
    whole = (fit.size[0] // 4, fit.size[1] // 4)
    coarse = F.interpolate(torch.from_numpy(scores)[None], shown, mode="bilinear", align_corners=False)[0]
    asked = [number for number, one in enumerate(coarse) if int((one > SURE).sum()) >= LEAST]
    if not asked:
        return np.asarray(coarse.numpy())
    features = foundation.encode(images.to(foundation.device))
    prompts = _make_prompts(coarse[asked], whole).to(foundation.device)
    masks = foundation.decode(features, prompts).logits[:, 0].float().sigmoid().cpu()
    fine = coarse.clone()
    fine[asked] = (coarse[asked] + masks[:, : shown[0], : shown[1]]) / 2
    total = fine.sum(dim=0).clamp(min=1.0)
    return np.asarray((fine / total).numpy())


def _make_prompts(maps: Tensor, whole: tuple[int, int]) -> PromptSet:
    """A prompt for every map ``(n, h, w)``: logits in the ``whole`` quarter-size frame, box, points."""
    count, height, width = maps.shape
    logits = torch.full((count, 1, *whole), -LIMIT)
    logits[:, 0, :height, :width] = maps.clamp(1e-4, 1 - 1e-4).logit().clamp(-LIMIT, LIMIT)
    points = torch.full((count, POINTS, 3), 0.0)
    points[..., 2] = POINT_PADDING
    boxes = torch.zeros(count, 4)
    for number, one in enumerate((maps > SURE).numpy()):
        rows, cols = (np.flatnonzero(one.any(axis=axis)) for axis in (1, 0))
        boxes[number] = torch.tensor([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]) * 4.0
        for place, (row, col) in enumerate(find_middles(one, POINTS)):
            points[number, place] = torch.tensor([4 * col + 2.0, 4 * row + 2.0, POINT_POSITIVE])
    index = torch.zeros(count, dtype=torch.int64)
    ones = torch.ones_like(index)
    return PromptSet(index, ones, ones.float(), points=points, boxes=boxes, mask_logits=logits)


def find_middles(mask: NDArray[np.bool_], most: int) -> list[tuple[int, int]]:
    """Row and column of the place farthest from the edge of each of the ``most`` largest parts of a mask."""
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    areas = np.bincount(parts.ravel())[1:]
    found = []
    for part in np.argsort(-areas, kind="stable")[: min(most, count)]:
        depth = ndimage.distance_transform_edt(np.pad(parts == part + 1, 1))[1:-1, 1:-1]
        row, col = np.unravel_index(int(depth.argmax()), depth.shape)
        found.append((int(row), int(col)))
    return found
