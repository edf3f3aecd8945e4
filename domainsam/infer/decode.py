"""Second pass of the engine: decode the objects of a strip of a frame, and blend them in a band of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.blend import (
    LEVELS,
    NODATA,
    Band,
    find_threshold_level,
    hann_window,
    quantise,
)
from domainsam.infer.networks import Networks
from domainsam.infer.options import EngineOptions
from domainsam.infer.order import Course, ReadAhead, Recorder, Strip, group_blocks
from domainsam.infer.plan import CropPrompt, Plan, spot_of
from domainsam.infer.store import RawRaster
from domainsam.protocols import Block, Window

LOGIT_LIMIT = 30.0
"""Keeps a probability above 0 in float32, so that 0 can mean that no object claims the pixel."""

OutlineKey = tuple[int, int, int, int]
"""Object id, and frame, first row and first column of the crop it was decoded in."""


@dataclass(frozen=True)
class Outline:
    """The foundation's own estimate of a mask's IoU, and how many of the object's pixels it is for.

    ``bounds`` is the smallest window that holds what was decoded of a marked
    object; None where that is nothing, and for objects that a specialist found.
    """

    iou: float
    area: int
    bounds: Window | None = None


@dataclass(frozen=True)
class Decoded:
    """One decoded mask: logits ``(h, w)`` float32 over its prompt's limit."""

    prompt: CropPrompt
    logits: NDArray[np.float32]
    iou: float

    def find_bounds(self, level: int, frame: int) -> Window | None:
        """The smallest window of the scene in which the mask reaches a stored value; None where nowhere."""
        inside = quantise(sigmoid(np.clip(self.logits, -LOGIT_LIMIT, LOGIT_LIMIT))) >= level
        rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            return None
        (top, bottom), (left, right) = rows[[0, -1]].tolist(), cols[[0, -1]].tolist()
        limit = self.prompt.limit
        return Window(limit.row + top, limit.col + left, bottom - top + 1, right - left + 1, frame)


class Decoder(Protocol):
    """Words prompts for a foundation and makes masks of what it answers."""

    def decode(self, batch: Sequence[Block], plan: Plan) -> Iterator[tuple[Window, Decoded]]:
        """Every prompt of a batch of crops, with the crop it was decoded in."""
        ...


def decode_strip(
    read: Callable[[Window], Block],
    networks: Networks,
    decoder: Decoder,
    course: Course,
    plan: Plan,
    coarse: RawRaster,
    strip: Strip,
    options: EngineOptions,
    recorder: Recorder,
    advanced: Callable[[int], None],
    labelled: bool = False,
) -> dict[OutlineKey, Outline]:
    """Decode what is left of one strip of one frame; returns the quality of every mask decoded for it."""
    grid, frame = course.grid, strip.frames.start
    rows = [
        [
            replace(window, frame=frame)
            for window in grid.row_windows(unit.row, strip.columns)
            if (frame, window.row, window.col) in plan
        ]
        for unit in strip.units
    ]
    here = [prompt for row in rows for window in row for prompt in plan[spot_of(window)]]
    layers = 1 + max((prompt.layer for prompt in here), default=0)
    band = ObjectBand(grid.size[0], strip.columns, strip.top, layers, labelled, frame)
    level = find_threshold_level(options.threshold)
    outlines: dict[OutlineKey, Outline] = {}
    with ReadAhead(options.workers, options.workers + options.batch_size) as reader, networks.running():
        blocks = reader.map(read, [window for row in rows for window in row])
        for unit, windows in zip(strip.units, rows, strict=True):
            quality: list[list[Any]] = []
            for batch in group_blocks(blocks, len(windows), options.batch_size):
                for crop, decoded in decoder.decode(batch, plan):
                    band.add(crop, decoded, coarse)
                    marked = decoded.prompt.mark is not None
                    bounds = decoded.find_bounds(level, frame) if marked else None
                    outline = Outline(round(decoded.iou, 4), decoded.prompt.area, bounds)
                    key = (decoded.prompt.id, *spot_of(crop))
                    outlines[key] = outline
                    place = None if bounds is None else list(astuple(bounds))
                    quality.append([*key, outline.iou, outline.area, place])
            if not unit.repeated:
                finished = band.finish(unit.rows[1], coarse, level)
                recorder.record(unit, [finished], {"outlines": quality})
                advanced(unit.pixels)
    return outlines


class ObjectBand:
    """Decoded objects combined in a sliding band of rows.

    Logits of one large object, seen in several crops, are averaged with Hann
    weights, in a layer that other objects nearby do not use; whole objects are
    final. Where several objects claim a pixel, the highest probability holds,
    and with it that object's label. Between the box of an object that a
    specialist found and the limit of its mask, the answer goes over into the
    coarse probability, so that no edge of a box shows.

    Parameters
    ----------
    height, columns, top
        As of :class:`~domainsam.infer.blend.Band`.
    layers
        Layers of large objects; each costs three planes of float32.
    labelled
        Whether labels are kept: a plane more, and one more a layer.
    frame
        The frame whose rows they are.
    """

    def __init__(
        self,
        height: int,
        columns: tuple[int, int],
        top: int = 0,
        layers: int = 1,
        labelled: bool = False,
        frame: int = 0,
    ) -> None:
        # Of whole objects the probability, of each layer logits, weights and shares; and labels.
        self._first, self._each = (2, 4) if labelled else (1, 3)
        self.labelled, self.frame = labelled, frame
        self.band = Band(self._first + self._each * layers, height, columns, top)

    def add(self, crop: Window, decoded: Decoded, coarse: RawRaster) -> None:
        """Add one mask that was decoded in a crop."""
        limit, label = decoded.prompt.limit, np.float32(decoded.prompt.label)
        planes, part = self.band.view(limit)
        logits = np.clip(decoded.logits[part], -LOGIT_LIMIT, LOGIT_LIMIT)
        share = edge_share(decoded.prompt)[part]
        if decoded.prompt.whole:
            probability = sigmoid(logits)
            if decoded.prompt.mark is None:
                before = coarse.read(replace(limit, frame=self.frame))[part]
                probability = share * probability + (1 - share) * _to_share(before)
            if self.labelled:
                planes[1][probability > planes[0]] = label
            np.maximum(planes[0], probability, out=planes[0])
            return
        inside = Window(limit.row - crop.row, limit.col - crop.col, limit.height, limit.width)
        weight = hann_window(crop.height, crop.width)[inside.slices][part]
        first = self._first + self._each * decoded.prompt.layer
        planes[first] += weight * logits
        planes[first + 1] += weight
        np.maximum(planes[first + 2], share, out=planes[first + 2])
        if self.labelled:
            planes[first + 3] = label

    def finish(self, end: int, coarse: RawRaster, level: int) -> tuple[NDArray[np.uint8], ...]:
        """Stored probabilities of all rows before ``end``, and their labels if those are kept.

        Where no object claims a pixel it keeps its coarse probability. Labels
        are 0 below the threshold, 255 without data.
        """
        first, columns = self.band.top, self.band.columns
        planes = self.band.finish(end)
        rows = Window(first, columns[0], end - first, columns[1] - columns[0], self.frame)
        before = coarse.read(rows)
        around = _to_share(before)
        best = planes[0]
        labels = planes[1] if self.labelled else None
        for at in range(self._first, len(planes), self._each):
            seen = planes[at + 1] > 0
            mean = np.divide(planes[at], planes[at + 1], out=np.zeros_like(best), where=seen)
            share = planes[at + 2]
            probability = np.where(seen, share * sigmoid(mean) + (1 - share) * around, 0)
            if labels is not None:
                labels = np.where(probability > best, planes[at + 3], labels)
            best = np.maximum(best, probability)
        values = np.where(best > 0, quantise(best), before)
        stored = np.where(before == NODATA, np.uint8(NODATA), values)
        if labels is None:
            return (stored,)
        labels = np.where(stored >= level, labels, 0).astype(np.uint8)
        return stored, np.where(stored == NODATA, np.uint8(NODATA), labels)


def edge_share(prompt: CropPrompt) -> NDArray[np.float32]:
    """How much of the answer is the mask's, ``(h, w)`` float32 over the prompt's limit.

    1 within the box, from there falling to nothing at the limit, smoothly (``3 t^2 - 2 t^3``); 1 everywhere
    for what a person marked, and at sides where the limit is cut by the scene or the crop.
    """
    limit, box = prompt.limit, prompt.box
    if prompt.mark is not None:
        return np.ones((limit.height, limit.width), np.float32)
    sides = []
    for first, size, inner, length in (
        (limit.row, limit.height, box.row, box.height),
        (limit.col, limit.width, box.col, box.width),
    ):
        place = np.arange(size) + 0.5
        share = np.ones(size)
        for distance, margin in ((place, inner - first), (size - place, first + size - inner - length)):
            if margin > 0:
                rise = np.clip(distance / margin, 0, 1)
                share *= rise * rise * (3 - 2 * rise)
        sides.append(share)
    return np.asarray(sides[0][:, None] * sides[1][None], np.float32)


def _to_share(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Stored probabilities as 0 to 1, 0 without data."""
    return np.where(stored == NODATA, 0, stored).astype(np.float32) / np.float32(LEVELS)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of log-odds, float32."""
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def record_outlines(record: Mapping[str, Any]) -> dict[OutlineKey, Outline]:
    """Make the journal record of decoded masks."""
    return {
        (number, frame, row, col): Outline(iou, area, None if bounds is None else Window(*bounds))
        for number, frame, row, col, iou, area, bounds in record.get("outlines", [])
    }
