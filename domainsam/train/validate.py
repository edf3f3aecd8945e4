"""Pooled IoU of the coarse mask and of the full model on tiles with labels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.metrics.overlap import Confusion
from domainsam.prompter.proposals import find_proposals
from domainsam.prompter.segformer import SegFormerPrompter, log_odds
from domainsam.protocols import Coarse, Foundation
from domainsam.train.crops import Batch
from domainsam.train.devices import Devices
from domainsam.train.objectives import Encode

MARGIN = 0.1
"""A mask counts within its prompt's box grown by this part of the longer side, as when mapping ..."""
LEAST_MARGIN = 16.0
"""... and by at least so many pixels."""


@torch.no_grad()
def judge(
    prompter: SegFormerPrompter,
    tiles: Iterable[Batch],
    devices: Devices,
    foundation: Foundation | None = None,
    encode: Encode | None = None,
) -> dict[str, float]:
    """``"coarse_iou"``, and ``"full_iou"`` with a foundation: settlement, pooled over all known pixels.

    Prompts come from each tile on its own; ``domainsam urban evaluate``
    prompts from whole scenes. The threshold is a half. NaN where no tile has
    settlement, neither true nor found.
    """
    prompter.eval()
    coarse_counts, full_counts = Confusion(), Confusion()
    for tile in tiles:
        batch = tile.to(devices.device)
        with devices.autocast():
            coarse = prompter.coarse(batch.images)
            odds = log_odds(coarse.logits).float()
            answer = None
            if foundation is not None:
                answer = _decoded(prompter, coarse, odds, batch, foundation, encode or foundation.encode)
        labels = batch.labels.cpu().numpy()
        size = (labels.shape[-2], labels.shape[-1])
        coarse_counts.add(labels, (_enlarged(odds, size)[:, 0] > 0).cpu().numpy())
        if answer is not None:
            full_counts.add(labels, answer.cpu().numpy())
    scores = {"coarse_iou": float(coarse_counts.scores().iou[1])}
    if foundation is not None:
        scores["full_iou"] = float(full_counts.scores().iou[1])
    return scores


def _decoded(
    prompter: SegFormerPrompter,
    coarse: Coarse,
    odds: Tensor,
    batch: Batch,
    foundation: Foundation,
    encode: Encode,
) -> Tensor:
    """Union ``(B, H, W)`` bool of the masks of all prompts, each within its box and margin."""
    found = find_proposals(odds, prompter.config.proposals)
    count, height, width = batch.labels.shape
    answer = torch.zeros(count, height, width, dtype=torch.bool, device=odds.device)
    if not len(found):
        return answer
    features = encode(batch.images)
    prompts = prompter.prompts(coarse, features, foundation, found)
    masks = foundation.decode(features, prompts)
    assert found.mask_logits is not None
    assert found.boxes is not None
    fused = prompter.fuse(found.mask_logits, masks.logits.float())
    ys, xs = torch.arange(height, device=odds.device) + 0.5, torch.arange(width, device=odds.device) + 0.5
    for index, owner in enumerate(found.image_index.tolist()):
        x1, y1, x2, y2 = found.boxes[index].tolist()
        margin = max(LEAST_MARGIN, MARGIN * max(x2 - x1, y2 - y1))
        down, across = (ys > y1 - margin) & (ys < y2 + margin), (xs > x1 - margin) & (xs < x2 + margin)
        inside = _enlarged(fused[index : index + 1], (height, width))[0, 0] > 0
        answer[owner] |= inside & down[:, None] & across[None, :]
    return answer


def _enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
