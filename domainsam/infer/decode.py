"""Pass two: the foundation decodes each object of the scene, only where there are objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.infer.blend import LEVELS, NODATA, Band, hann_window, quantise
from domainsam.infer.networks import Networks, upsample
from domainsam.infer.options import EngineOptions
from domainsam.infer.order import ReadAhead, Recorder, Strip, batches, padded_reader
from domainsam.infer.plan import CropPrompt, Plan
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import Lattice
from domainsam.prompts import PromptSet
from domainsam.protocols import Block, Coarse, Source, Window

STAGE = "objects"
PROMPTS_AT_ONCE = 8
"""Prompts decoded together; 32 took 0.7 GB more on a CPU and saved no time."""
MAP_STRIDE = 4
"""Masks are a quarter of the image's size, as in SAM."""
LOGIT_LIMIT = 30.0
"""Keeps a probability above 0 in float32, so that 0 can mean that no object claims the pixel."""

OutlineKey = tuple[int, int, int]
"""Object id, and first row and column of the crop it was decoded in."""


@dataclass(frozen=True)
class Outline:
    """The foundation's own estimate of a mask's IoU, and how many of the object's pixels it is for."""

    iou: float
    area: int


@dataclass(frozen=True)
class Decoded:
    """One decoded mask: logits ``(h, w)`` float32 over its prompt's limit."""

    prompt: CropPrompt
    logits: NDArray[np.float32]
    iou: float


def map_objects(
    source: Source,
    networks: Networks,
    lattice: Lattice,
    plan: Plan,
    coarse: RawRaster,
    strip: Strip,
    level: int,
    options: EngineOptions,
    recorder: Recorder,
    advanced: Callable[[int], None],
) -> dict[OutlineKey, Outline]:
    """Map what is left of one column strip; returns the quality of every mask decoded for it."""
    grid = lattice.grid
    rows = [
        [window for window in grid.row_windows(unit.row, strip.columns) if (window.row, window.col) in plan]
        for unit in strip.units
    ]
    here = [prompt for row in rows for window in row for prompt in plan[window.row, window.col]]
    layers = 1 + max((prompt.layer for prompt in here), default=0)
    band = ObjectBand(grid.size[0], strip.columns, strip.top, layers)
    outlines: dict[OutlineKey, Outline] = {}
    with ReadAhead(options.workers, options.workers + options.batch_size) as reader, networks.running():
        blocks = reader.map(padded_reader(source), [window for row in rows for window in row])
        for unit, windows in zip(strip.units, rows, strict=True):
            quality: list[list[Any]] = []
            for batch in batches(blocks, len(windows), options.batch_size):
                for crop, decoded in decode_crops(networks, batch, plan, coarse):
                    band.add(crop, decoded)
                    outline = Outline(round(decoded.iou, 4), decoded.prompt.area)
                    outlines[decoded.prompt.component.id, crop.row, crop.col] = outline
                    key = [decoded.prompt.component.id, crop.row, crop.col]
                    quality.append([*key, outline.iou, outline.area])
            if not unit.repeated:
                recorder.record(unit, band.finish(unit.rows[1], coarse, level), {"outlines": quality})
                advanced(unit.window.height * unit.window.width)
    return outlines


class ObjectBand:
    """Decoded objects combined in a sliding band of rows.

    Logits of one large object, seen in several crops, are averaged with Hann
    weights, in a layer that other objects nearby do not use; whole objects are
    final. Where several objects claim a pixel, the highest probability holds:
    the answer is their union.

    Parameters
    ----------
    height, columns, top
        As of :class:`~domainsam.infer.blend.Band`.
    layers
        Layers of large objects; each costs two planes of float32.
    """

    def __init__(self, height: int, columns: tuple[int, int], top: int = 0, layers: int = 1) -> None:
        self.band = Band(1 + 2 * layers, height, columns, top)

    def add(self, crop: Window, decoded: Decoded) -> None:
        """Add one mask that was decoded in a crop."""
        limit = decoded.prompt.limit
        planes, part = self.band.view(limit)
        logits = np.clip(decoded.logits[part], -LOGIT_LIMIT, LOGIT_LIMIT)
        if decoded.prompt.whole:
            np.maximum(planes[0], sigmoid(logits), out=planes[0])
            return
        inside = Window(limit.row - crop.row, limit.col - crop.col, limit.height, limit.width)
        weight = hann_window(crop.height, crop.width)[inside.slices][part]
        first = 1 + 2 * decoded.prompt.layer
        planes[first] += weight * logits
        planes[first + 1] += weight

    def finish(self, end: int, coarse: RawRaster, level: int) -> NDArray[np.uint8]:
        """Stored probabilities of all rows before ``end``.

        Where no object claims a pixel it keeps its coarse probability, but
        stays below the threshold: what was filtered out is off, and a near
        miss is still seen as one.
        """
        first, columns = self.band.top, self.band.columns
        best, *layers = self.band.finish(end)
        for total, weight in zip(layers[::2], layers[1::2], strict=True):
            seen = weight > 0
            mean = np.divide(total, weight, out=np.zeros_like(total), where=seen)
            best = np.maximum(best, np.where(seen, sigmoid(mean), 0))
        before = coarse.read(Window(first, columns[0], end - first, columns[1] - columns[0]))
        values = np.where(best > 0, quantise(best), np.minimum(before, np.uint8(level - 1)))
        return np.where(before == NODATA, np.uint8(NODATA), values)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of log-odds, float32."""
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def decode_crops(
    networks: Networks, batch: Sequence[Block], plan: Plan, coarse: RawRaster
) -> Iterator[tuple[Window, Decoded]]:
    """Decode all prompts of a batch of crops."""
    foundation = networks.foundation
    if foundation is None:
        raise ValueError("decoding needs a foundation; method 'coarse' works without one")
    images = networks.images(batch)
    first_look = networks.prompter.coarse(images)
    log_odds = scene_log_odds(coarse, [block.index for block in batch]).to(networks.device)
    first_look = Coarse(torch.cat([torch.zeros_like(log_odds), log_odds], dim=1), first_look.features)
    features = foundation.encode(images)
    jobs = [
        (index, prompt)
        for index, block in enumerate(batch)
        for prompt in plan[block.index.row, block.index.col]
    ]
    for start in range(0, len(jobs), PROMPTS_AT_ONCE):
        chosen = jobs[start : start + PROMPTS_AT_ONCE]
        proposals = _proposals(chosen, batch, log_odds)
        prompts = networks.prompter.prompts(first_look, features, foundation, proposals)
        masks = foundation.decode(features, prompts).best()
        fused = networks.prompter.fuse(log_odds[prompts.image_index], masks.logits.float()).float().cpu()
        quality = masks.iou[:, 0].float().clamp(0, 1).cpu().tolist()
        for number, (index, prompt) in enumerate(chosen):
            crop = batch[index].index
            logits = upsample_part(fused[number, 0], crop, prompt.limit)
            yield crop, Decoded(prompt, logits, quality[number])


def scene_log_odds(coarse: RawRaster, crops: Sequence[Window]) -> Tensor:
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


def _proposals(jobs: Sequence[tuple[int, CropPrompt]], batch: Sequence[Block], log_odds: Tensor) -> PromptSet:
    boxes = []
    for index, prompt in jobs:
        crop, box = batch[index].index, prompt.box
        top, left = box.row - crop.row, box.col - crop.col
        boxes.append((left, top, left + box.width, top + box.height))
    device = log_odds.device
    image_index = torch.tensor([index for index, _ in jobs], dtype=torch.int64, device=device)
    scores = [prompt.component.mean_probability for _, prompt in jobs]
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


def outlines_of(record: Mapping[str, Any]) -> dict[OutlineKey, Outline]:
    """What a journal record of this stage says about decoded masks."""
    return {
        (number, row, col): Outline(iou, area) for number, row, col, iou, area in record.get("outlines", [])
    }
