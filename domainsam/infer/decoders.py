"""Decode planned objects with the foundation, as a specialist words them or as they were marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.infer.blend import (
    LEVELS,
    NODATA,
    clip_window,
    slice_within,
)
from domainsam.infer.decode import Decoded
from domainsam.infer.networks import Networks, ScenePrompter, upsample
from domainsam.infer.plan import CropPrompt, Plan, spot_of
from domainsam.infer.store import RawRaster
from domainsam.machine import require_finite
from domainsam.prompts import PromptSet
from domainsam.protocols import Block, Coarse, Foundation, Masks, SceneObject, Window

PROMPTS_AT_ONCE = 8
"""Prompts decoded together; 32 took 0.7 GB more on a CPU and saved no time."""
MAP_STRIDE = 4
"""Masks are a quarter of the image's size, as in SAM."""


@dataclass(frozen=True)
class SpecialistDecoder:
    """Decodes what a specialist found: it words the prompts and fuses its answer with the foundation's.

    ``coarse`` is the staged probability of the whole scene.
    """

    prompter: ScenePrompter
    networks: Networks
    foundation: Foundation
    coarse: RawRaster

    def decode(self, batch: Sequence[Block], plan: Plan) -> Iterator[tuple[Window, Decoded]]:
        """Every prompt of a batch of crops, with the crop it was decoded in."""
        images = self.networks.images(batch)
        feature = self.prompter.coarse(images).features if self.prompter.adds_feature else None
        log_odds = read_log_odds(self.coarse, [block.index for block in batch]).to(self.networks.device)
        first_look = Coarse(torch.cat([torch.zeros_like(log_odds), log_odds], dim=1), feature)
        features = self.foundation.encode(images)
        for jobs in _portions(_jobs(batch, plan)):
            proposals = _proposals(jobs, batch, log_odds)
            prompts = self.prompter.prompts(first_look, features, self.foundation, proposals)
            masks = self.foundation.decode(features, prompts).best()
            fused = self.prompter.fuse(log_odds[prompts.image_index], masks.logits.float())
            yield from _decoded(jobs, batch, fused, masks)


@dataclass(frozen=True)
class MarkDecoder:
    """Decodes what was marked: clicks, boxes and rough masks as they are, by the foundation alone."""

    networks: Networks
    foundation: Foundation

    def decode(self, batch: Sequence[Block], plan: Plan) -> Iterator[tuple[Window, Decoded]]:
        """Every prompt of a batch of crops, with the crop it was decoded in."""
        features = self.foundation.encode(self.networks.images(batch))
        # Prompts of one kind go together: padding would change what the foundation answers.
        kinds = sorted({kind for kind, _ in _by_kind(batch, plan)})
        for kind in kinds:
            for jobs in _portions([job for own, job in _by_kind(batch, plan) if own == kind]):
                prompts = mark_prompts(jobs, batch, kind).to(self.networks.device)
                masks = self.foundation.decode(features, prompts, multimask=kind.ambiguous).best()
                yield from _decoded(jobs, batch, masks.logits.float(), masks)


class MarkKind(NamedTuple):
    """What a mark consists of in its crop: the number of clicks, and whether there is a box and a mask."""

    clicks: int
    box: bool
    mask: bool

    @property
    def ambiguous(self) -> bool:
        """Whether it is one click alone, which SAM reads in three ways (Kirillov et al. 2023, section 3)."""
        return self.clicks == 1 and not self.box


Job = tuple[int, CropPrompt]
"""A prompt, and the number of its crop in the batch."""


def _jobs(batch: Sequence[Block], plan: Plan) -> list[Job]:
    """The prompts of a batch of crops."""
    return [(index, prompt) for index, block in enumerate(batch) for prompt in plan[spot_of(block.index)]]


def _portions(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    for start in range(0, len(jobs), PROMPTS_AT_ONCE):
        yield jobs[start : start + PROMPTS_AT_ONCE]


def _by_kind(batch: Sequence[Block], plan: Plan) -> Iterator[tuple[MarkKind, Job]]:
    for index, prompt in _jobs(batch, plan):
        mark = mark_of(prompt)
        clicks = len(_clicks_in(mark, batch[index].index))
        yield MarkKind(clicks, mark.extent_known, mark.mask is not None), (index, prompt)


def mark_of(prompt: CropPrompt) -> SceneObject:
    """The object that was marked.

    Raises
    ------
    ValueError
        If a specialist found it, which has to word its prompts itself.
    """
    if prompt.mark is None:
        raise ValueError(f"object {prompt.id} was found by a specialist, which has to word its prompts")
    return prompt.mark


def _clicks_in(mark: SceneObject, crop: Window) -> list[tuple[float, float, float]]:
    """The clicks that lie in a crop: x, y in its pixels, and 1 on the object or 0 beside it."""
    placed = [(click.x - crop.col, click.y - crop.row, float(click.inside)) for click in mark.points]
    return [(x, y, inside) for x, y, inside in placed if 0 <= x <= crop.width and 0 <= y <= crop.height]


def mark_prompts(jobs: Sequence[Job], batch: Sequence[Block], kind: MarkKind) -> PromptSet:
    """Marks of one kind as prompts, in pixels of their crops."""
    marks = [(mark_of(prompt), batch[index].index) for index, prompt in jobs]
    boxes = [_box_in(mark, crop) for mark, crop in marks] if kind.box else None
    clicks = [_clicks_in(mark, crop) for mark, crop in marks] if kind.clicks else None
    masks = [_rough_log_odds(mark, crop) for mark, crop in marks] if kind.mask else None
    return PromptSet(
        image_index=torch.tensor([index for index, _ in jobs], dtype=torch.int64),
        labels=torch.tensor([prompt.label for _, prompt in jobs], dtype=torch.int64),
        scores=torch.tensor([prompt.score for _, prompt in jobs], dtype=torch.float32),
        points=None if clicks is None else torch.tensor(clicks, dtype=torch.float32),
        boxes=None if boxes is None else torch.tensor(boxes, dtype=torch.float32),
        mask_logits=None if masks is None else torch.stack(masks)[:, None],
    )


def _box_in(mark: SceneObject, crop: Window) -> tuple[float, float, float, float]:
    """The part of an object's box, or of the box around its mask, that lies in a crop."""
    bounds = mark.bounds
    around = (bounds.col, bounds.row, bounds.col + bounds.width, bounds.row + bounds.height)
    left, top, right, bottom = mark.box or around
    return (
        max(0.0, left - crop.col),
        max(0.0, top - crop.row),
        min(float(crop.width), right - crop.col),
        min(float(crop.height), bottom - crop.row),
    )


def _rough_log_odds(mark: SceneObject, crop: Window) -> Tensor:
    """Log-odds ``(h/4, w/4)`` of a rough mask in a crop: means over cells, never quite certain."""
    assert mark.mask is not None
    whole = np.zeros((crop.height, crop.width), np.float32)
    shared = clip_window(mark.bounds, (crop.row, crop.row + crop.height), (crop.col, crop.col + crop.width))
    inside = mark.mask[slice_within(shared, (mark.bounds.row, mark.bounds.col))]
    whole[slice_within(shared, (crop.row, crop.col))] = inside
    cells = (crop.height // MAP_STRIDE, MAP_STRIDE, crop.width // MAP_STRIDE, MAP_STRIDE)
    share = torch.from_numpy(whole.reshape(cells).mean(axis=(1, 3)))
    return torch.logit(share.clamp(0.5 / LEVELS, 1 - 0.5 / LEVELS))


def _decoded(
    jobs: Sequence[Job], batch: Sequence[Block], logits: Tensor, masks: Masks
) -> Iterator[tuple[Window, Decoded]]:
    """Logits ``(N, 1, h/4, w/4)`` of some prompts at the scene's pixels, with the expected IoU of each."""
    fused = require_finite(logits.float(), "the foundation").cpu()
    quality = masks.iou[:, 0].float().clamp(0, 1).cpu().tolist()
    for number, (index, prompt) in enumerate(jobs):
        crop = batch[index].index
        yield crop, Decoded(prompt, upsample_part(fused[number, 0], crop, prompt.limit), quality[number])


def read_log_odds(coarse: RawRaster, crops: Sequence[Window]) -> Tensor:
    """Log-odds ``(B, 1, h/4, w/4)`` of the scene's blended probability in some crops.

    Means are over pixels with data; a cell without any counts as background.
    """
    maps = []
    for crop in crops:
        stored = coarse.read(crop)
        cells = (crop.height // MAP_STRIDE, MAP_STRIDE, crop.width // MAP_STRIDE, MAP_STRIDE)
        seen = (stored != NODATA).reshape(cells)
        total = stored.reshape(cells).sum(axis=(1, 3), where=seen, dtype=np.float32)
        maps.append(total / (LEVELS * np.maximum(seen.sum(axis=(1, 3)), 1)).astype(np.float32))
    # Half a stored level from 0 and 1: what 8 bits cannot tell from certainty.
    probability = torch.from_numpy(np.stack(maps)).clamp(0.5 / LEVELS, 1 - 0.5 / LEVELS)
    return torch.logit(probability)[:, None]


def _proposals(jobs: Sequence[Job], batch: Sequence[Block], log_odds: Tensor) -> PromptSet:
    boxes = []
    for index, prompt in jobs:
        crop, box = batch[index].index, prompt.box
        top, left = box.row - crop.row, box.col - crop.col
        boxes.append((left, top, left + box.width, top + box.height))
    device = log_odds.device
    image_index = torch.tensor([index for index, _ in jobs], dtype=torch.int64, device=device)
    scores = [prompt.score for _, prompt in jobs]
    return PromptSet.from_boxes(
        torch.tensor(boxes, dtype=torch.float32, device=device),
        image_index=image_index,
        scores=torch.tensor(scores, dtype=torch.float32, device=device),
        mask_logits=log_odds[image_index],
    )


def upsample_part(logits: Tensor, crop: Window, part: Window) -> NDArray[np.float32]:
    """The part ``(h, w)`` of a crop's bilinearly upsampled logits ``(H/4, W/4)``.

    Only what the part needs is upsampled: with one more map pixel on each
    side, the result is that of upsampling the whole crop.
    """
    top, left = part.row - crop.row, part.col - crop.col
    first_row, first_col = (max(0, edge // MAP_STRIDE - 1) for edge in (top, left))
    end_row = min(logits.shape[0], -(-(top + part.height) // MAP_STRIDE) + 1)
    end_col = min(logits.shape[1], -(-(left + part.width) // MAP_STRIDE) + 1)
    piece = logits[first_row:end_row, first_col:end_col]
    size = (piece.shape[0] * MAP_STRIDE, piece.shape[1] * MAP_STRIDE)
    large = upsample(piece[None, None], size)[0, 0]
    row, col = top - first_row * MAP_STRIDE, left - first_col * MAP_STRIDE
    return np.asarray(large[row : row + part.height, col : col + part.width].numpy(), dtype=np.float32)
