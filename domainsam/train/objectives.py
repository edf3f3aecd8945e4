"""Training objectives: the coarse mask alone, and the coarse mask with prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.metrics.overlap import Confusion
from domainsam.prompter.proposals import find_proposals
from domainsam.prompter.segformer import SegFormerPrompter, compute_log_odds, propose
from domainsam.prompts import PromptSet
from domainsam.protocols import Coarse, Features, Foundation, Masks
from domainsam.train.crops import Batch
from domainsam.train.devices import Devices
from domainsam.train.losses import LossOptions, coarse_loss, joint_loss

Encode = Callable[[Tensor], Features]
"""The foundation's ``encode``, or a cache of it."""
SURE = 6.0
"""Log-odds that stand for a certain pixel where proposals are taken from the truth."""


@dataclass(frozen=True)
class PromptingOptions:
    """Where the prompts of the joint stage come from.

    Parameters
    ----------
    truth_share
        Share of images whose boxes come from the truth, not from the coarse
        mask; 0 as published. Some of them teach the mixer before the coarse
        mask is any good.
    jitter
        Standard deviation of those boxes' edges, as a part of the box's side.
    max_prompts
        So many prompts of a batch, chosen at random, are decoded at most.
    """

    truth_share: float = 0.0
    jitter: float = 0.1
    max_prompts: int = 64


class CoarseObjective(nn.Module):
    """The SegFormer alone: cross entropy, and Dice where asked for."""

    def __init__(self, prompter: SegFormerPrompter, loss: LossOptions) -> None:
        super().__init__()
        self.prompter, self.loss = prompter, loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``"loss"``, and its parts by name."""
        coarse = coarse_loss(self.prompter.coarse(batch.images).logits, batch.labels, self.loss)
        return {"loss": coarse, "coarse": coarse.detach()}


class JointObjective(nn.Module):
    """The published joint loss; gradients pass the frozen decoder into mixer, gate and SegFormer.

    Parameters
    ----------
    prompter
        What is trained.
    foundation
        Decodes; never trained.
    loss, prompting
        Weights and the prompts' origin.
    encode
        In place of ``foundation.encode``: a cache.
    """

    def __init__(
        self,
        prompter: SegFormerPrompter,
        foundation: Foundation,
        loss: LossOptions,
        prompting: PromptingOptions,
        encode: Encode | None = None,
    ) -> None:
        super().__init__()
        self.prompter, self.loss, self.prompting = prompter, loss, prompting
        self.foundation, self.encode = foundation, encode or foundation.encode

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``"loss"``, its parts by name, and ``"prompts"``, their mean number an image."""
        with torch.no_grad():
            features = self.encode(batch.images)
        coarse = self.prompter.coarse(batch.images)
        odds = compute_log_odds(coarse.logits).float()
        given = propose(coarse.logits, self.prompter.config.proposals)
        found = self.proposals(odds, batch.labels, given)
        if len(found):
            prompts = self.prompter.prompts(coarse, features, self.foundation, found)
            masks = self.foundation.decode(features, prompts)
            assert found.mask_logits is not None
            fused = self.prompter.fuse(found.mask_logits, masks.logits.float())
            masks = Masks(fused, masks.iou)
        else:
            none = coarse.logits.new_zeros(0, 1)
            masks = Masks(none[..., None, None], none)
        assert found.boxes is not None
        first, second = joint_loss(coarse.logits, masks, found, found.boxes, batch.labels, self.loss)
        if not len(found):
            # All that is trained may hang on prompts, and every process must take its step with the others.
            trained = (part for part in self.prompter.parameters() if part.requires_grad)
            second = second + sum(0 * part.sum() for part in trained)
        count = torch.tensor(len(found) / len(batch.images))
        return {"loss": first + second, "coarse": first.detach(), "prompt": second.detach(), "prompts": count}

    def proposals(self, odds: Tensor, labels: Tensor, given: PromptSet | None = None) -> PromptSet:
        """Boxes of the coarse mask, or of the truth for some images, with the coarse mask as mask prompt.

        ``odds`` are ``(B, 1, h, w)``, labels ``(B, H, W)``; ``given`` are the coarse mask's prompts, where
        somebody has made them.
        """
        config = self.prompter.config.proposals
        found = find_proposals(odds, config) if given is None else given
        if self.prompting.truth_share:
            from_truth = torch.rand(len(odds)) < self.prompting.truth_share
            share = F.avg_pool2d((labels == 1).float()[:, None], 4)
            truth = find_proposals(torch.where(share > 0.5, SURE, -SURE), config)
            height, width = labels.shape[-2:]
            truth = truth.replace(boxes=jitter_boxes(truth.boxes, self.prompting.jitter, (height, width)))
            chosen = from_truth.to(odds.device)
            found = join_prompts(found[~chosen[found.image_index]], truth[chosen[truth.image_index]])
            found = found.replace(mask_logits=odds[found.image_index])
        if len(found) > self.prompting.max_prompts:
            kept = torch.randperm(len(found))[: self.prompting.max_prompts].sort().values
            found = found[kept.to(odds.device)]
        return found


def jitter_boxes(boxes: Tensor | None, jitter: float, size: tuple[int, int]) -> Tensor:
    """Move the edges of boxes ``(N, 4)`` by chance; they stay inside the image ``(H, W)`` and not empty."""
    assert boxes is not None
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    # Beyond three deviations opposite edges of a box could change places.
    noise = torch.randn(boxes.shape).clamp(-3, 3).to(boxes) * min(jitter, 0.15)
    moved = boxes + noise * sides
    limit = moved.new_tensor([size[1], size[0]] * 2)
    return moved.clamp(min=0).minimum(limit)


def join_prompts(one: PromptSet, other: PromptSet) -> PromptSet:
    """The prompts of two sets that consist of boxes, without their mask logits."""
    assert one.boxes is not None
    assert other.boxes is not None
    return PromptSet(
        torch.cat([one.image_index, other.image_index]),
        torch.cat([one.labels, other.labels]),
        torch.cat([one.scores, other.scores]),
        boxes=torch.cat([one.boxes, other.boxes]),
    )


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
            odds = compute_log_odds(coarse.logits).float()
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
    """Union ``(B, H, W)`` bool of the masks of all prompts, each within its box and margin.

    By the released rule of prompts, masks count wherever they are, as there.
    """
    found = propose(coarse.logits, prompter.config.proposals)
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
    released = prompter.config.proposals.rule == "released"
    for index, owner in enumerate(found.image_index.tolist()):
        inside = _enlarged(fused[index : index + 1], (height, width))[0, 0] > 0
        if released:
            answer[owner] |= inside
            continue
        x1, y1, x2, y2 = found.boxes[index].tolist()
        margin = max(LEAST_MARGIN, MARGIN * max(x2 - x1, y2 - y1))
        down, across = (ys > y1 - margin) & (ys < y2 + margin), (xs > x1 - margin) & (xs < x2 + margin)
        answer[owner] |= inside & down[:, None] & across[None, :]
    return answer


def _enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
