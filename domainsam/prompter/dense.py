"""What looks like an example in every place of a scene: a map of likeness, and objects cut out of it.

PerSAM (:mod:`domainsam.prompter.example`) sets a point where the likeness is greatest and leaves the outline
to the foundation. Here the likeness itself is the outline: what parts the example from its surroundings is
learnt for every channel (:mod:`domainsam.prompter.contrast`) of the finest features and of colour. Roofs,
villages and ponds are told by texture and colour more than by shape, and a small foundation knows these best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.prompter.contrast import Contrast, Spread, find_best_cut, learn_discriminant
from domainsam.prompter.descriptors import (
    centre_window,
    cut_to_frame,
    lay_windows,
    measure_centrality,
    paste_mask,
)
from domainsam.prompter.search import ExampleOptions, cut_out
from domainsam.prompter.target import measure_example
from domainsam.protocols import Block, Features, Foundation, SceneObject, View, Window

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
CELL = 4
"""Pixels of a picture per cell, along each side: SAM's masks are as fine."""
COLOUR_WEIGHT = 2.0
"""Of red, green and blue in 0 to 1 beside features of length 1: both then vary about as much over a scene."""
SMOOTHED_CELLS = 1.0
AROUND = 1.0
"""How far around an example its surroundings reach, in diameters of a disc of its area."""
LEAST_AROUND = 3
"""In cells."""
LENIENT = 1.0
"""Log-odds that a single example is looked for below its cut: others of its kind differ from it more than its
own cells from each other."""
FIRM = 0.5
"""Share of a part above the cut itself from which that, and not the lower one, gives its outline."""
LOOKED_AT, LEAST_SEEN, TRIES = 12, 0.3, 8
"""Windows of a scene by which its spread is measured, the share of one that has to show something, and how
many times as many are read to find them."""
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class DenseTarget:
    """What is looked for.

    ``area`` is the examples' median in pixels; ``dice`` that of examples that were left out of the
    learning, NaN of a single one; ``lenience`` how far below the cut is looked, in log-odds.
    """

    contrast: Contrast
    area: float
    dice: float
    foundation: str
    lenience: float = 0.0


@dataclass(frozen=True, eq=False)
class ExampleCells:
    """Cells in and around an example: features ``(N, C)``, the share that it covers ``(N,)``."""

    features: Float32
    share: Float32


def describe_cells(features: Features, image: Float32) -> Float32:
    """Features ``(C, H/4, W/4)`` of a picture ``(3, H, W)``: the finest level at length 1, and colour."""
    finest = features.levels[0] if features.levels else features.image
    size = image.shape[1] // CELL, image.shape[2] // CELL
    placed = F.interpolate(F.normalize(finest.float(), dim=1), size, mode="bilinear", align_corners=False)
    colour = F.avg_pool2d(torch.from_numpy(image)[None], CELL) * COLOUR_WEIGHT
    return np.asarray(torch.cat([placed.cpu(), colour], dim=1)[0].numpy(), np.float32)


def learn_dense(
    examples: Sequence[tuple[View, SceneObject]],
    foundation: Foundation,
    counterexamples: Sequence[tuple[View, SceneObject]] = (),
) -> DenseTarget:
    """Learn what parts examples from their surroundings and from counter-examples.

    With several examples the cut lies where those that were left out in turns agree best. How features
    vary is measured on the scenes that the examples lie in.

    Parameters
    ----------
    examples, counterexamples
        As of :func:`domainsam.prompter.target.learn_target`.

    Raises
    ------
    InputError
        If there is no example, one has no mask, lies outside or where there is no data, or covers everything.
    """
    if not examples:
        raise InputError("no example was given; mark at least one object by its outline or mask")
    side = foundation.image_size
    cells = [_read_cells(view, one, side, f"example {n}") for n, (view, one) in enumerate(examples, 1)]
    against = []
    for number, (view, one) in enumerate(counterexamples, 1):
        seen = _read_cells(view, one, side, f"counter-example {number}", alone=True)
        inside = seen.share >= 0.5 if (seen.share >= 0.5).any() else seen.share > 0
        against.append(ExampleCells(seen.features[inside], np.zeros(int(inside.sum()), np.float32)))
    spread = measure_spread(examples, side)
    contrast, dice = _learn([*cells, *against], spread), float("nan")
    if len(cells) > 1:
        odds = []
        for left_out in cells:
            rest = [one for one in cells if one is not left_out]
            odds.append(_learn([*rest, *against], spread).score(np.ascontiguousarray(left_out.features.T)))
        cut, dice = find_best_cut(odds, [one.share for one in cells])
        contrast = contrast.shifted(cut)
    areas = [int(one.mask.sum()) for _, one in examples if one.mask is not None]
    lenience = LENIENT if len(cells) == 1 else 0.0
    return DenseTarget(contrast, float(np.median(areas)), dice, foundation.sha256, lenience)


def _learn(cells: Sequence[ExampleCells], spread: Spread) -> Contrast:
    features = np.concatenate([one.features for one in cells])
    return learn_discriminant(features, np.concatenate([one.share for one in cells]), spread)


def measure_spread(examples: Sequence[tuple[View, SceneObject]], side: int) -> Spread:
    """How cells' features vary around examples and over their scenes, in windows that lie evenly."""
    seen = [look(view, window) for view, one in examples for window in _windows_of(view, one.bounds, side)]
    for view in {id(view): view for view, _ in examples}.values():
        seen += [look(view, block.index, block) for block in _spread(view, side)]
    cells = np.concatenate([features[:, valid].T.astype(np.float64) for features, valid in seen])
    return Spread(cells.mean(axis=0), np.atleast_2d(np.cov(cells.T, bias=True)))


def _spread(view: View, side: int) -> Iterator[Block]:
    """At most :data:`LOOKED_AT` windows of a view that show enough, of not many more that are read.

    Steps of the golden ratio visit any number of windows evenly, however soon they end.
    """
    windows = lay_windows(view.shape, side)
    order = np.argsort(np.arange(len(windows)) * GOLDEN % 1, kind="stable")[: LOOKED_AT * TRIES]
    blocks = (view.block(windows[place]) for place in order)
    return islice((block for block in blocks if block.valid.mean() >= LEAST_SEEN), LOOKED_AT)


def _read_cells(view: View, one: SceneObject, side: int, name: str, alone: bool = False) -> ExampleCells:
    """Cells in and around an example, in the windows that hold it."""
    area = measure_example(view, one, name)
    parts = [_read_window(view, one, area, window) for window in _windows_of(view, one.bounds, side)]
    cells = ExampleCells(
        np.concatenate([part.features for part in parts]), np.concatenate([part.share for part in parts])
    )
    if not (cells.share > 0).any():
        raise InputError(f"{name} lies where the scene has no data; mark one that can be seen")
    if not alone and not (cells.share < 0.5).any():
        raise InputError(
            f"{name} covers everything around it; mark one object and leave some of its surroundings out"
        )
    return cells


def _windows_of(view: View, bounds: Window, side: int) -> list[Window]:
    """The windows that an example is seen in: one around it, or where it is larger those that it meets."""
    window = centre_window(view.shape, bounds, side)
    if bounds.height <= window.height and bounds.width <= window.width:
        return [window]
    return [part for part in lay_windows(view.shape, side, bounds.frame) if meets(part, bounds)]


def meets(one: Window, other: Window) -> bool:
    """Whether two windows of a frame share a pixel."""
    return (
        one.row < other.row + other.height
        and other.row < one.row + one.height
        and one.col < other.col + other.width
        and other.col < one.col + one.width
    )


def _read_window(view: View, one: SceneObject, area: int, window: Window) -> ExampleCells:
    features, valid = look(view, window)
    share = average_cells(paste_mask(one, window).astype(np.float32))
    reach = max(LEAST_AROUND, AROUND * 2 * np.sqrt(area / np.pi) / CELL)
    near = ndimage.distance_transform_edt(share <= 0) <= reach if (share > 0).any() else np.zeros_like(valid)
    used = near & valid
    return ExampleCells(np.ascontiguousarray(features[:, used].T), share[used])


def average_cells(values: Float32) -> Float32:
    """Means ``(H/4, W/4)`` of cells; sides are multiples of :data:`CELL`."""
    height, width = values.shape
    cells = values.reshape(height // CELL, CELL, width // CELL, CELL)
    return np.asarray(cells.mean(axis=(1, 3)), np.float32)


def look(view: View, window: Window, block: Block | None = None) -> tuple[Float32, Mask]:
    """Features ``(C, h/4, w/4)`` of a window's cells, and which of them show something, at least by half.

    ``block`` is the window's, where it was read already.
    """
    block = view.block(window) if block is None else block
    valid = cut_to_frame(block.valid, window, view.shape)
    with torch.inference_mode():
        features = describe_cells(view.features(window), block.image)
    return features, average_cells(valid.astype(np.float32)) >= 0.5


class DenseSource:
    """Objects cut out of a map of likeness: a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    target
        From :func:`learn_dense`.
    foundation
        The one that it was learnt with.
    options
        How far the search goes; ``least`` is of an object's mean probability.

    Raises
    ------
    InputError
        If the target was learnt with another foundation.
    """

    def __init__(
        self, target: DenseTarget, foundation: Foundation, options: ExampleOptions | None = None
    ) -> None:
        if target.foundation != foundation.sha256:
            raise InputError(
                f"the target was learnt with another foundation than {foundation.name}; learn it again"
            )
        self.target, self.foundation = target, foundation
        self.options = options or ExampleOptions()

    def find(self, view: View) -> Iterator[SceneObject]:
        """Objects of all frames, the most alike first; none where nothing looks alike."""
        found = [one for frame in range(view.frames) for one in self._look_through(view, frame)]
        found.sort(key=lambda one: (-one.score, one.bounds.frame, one.bounds.row, one.bounds.col))
        yield from found[: self.options.most]

    def _look_through(self, view: View, frame: int) -> Iterator[SceneObject]:
        odds = map_odds(view, self.target.contrast, self.foundation.image_size, frame)
        strict = smooth_odds(odds)
        likeness = smooth_odds(odds + self.target.lenience) if self.target.lenience else strict
        areas = self.options.smaller * self.target.area, self.options.larger * self.target.area
        radius = float(np.sqrt(self.target.area / np.pi)) / CELL
        parts = cut_parts(likeness > 0.5, areas[1] / CELL**2, radius)
        for number, place in enumerate(ndimage.find_objects(parts), start=1):
            if place is None:
                continue
            own, firm = parts[place] == number, strict[place] > 0.5
            shape = likeness
            if (own & firm).sum() >= FIRM * own.sum():
                parts[place][own & ~firm], shape = 0, strict
            one = _cut_out(shape, parts, number, place, view, frame)
            if one is not None and one.score >= self.options.least and _fits(one, areas):
                yield one


def _fits(one: SceneObject, areas: tuple[float, float]) -> bool:
    return one.mask is not None and areas[0] <= int(one.mask.sum()) <= areas[1]


def map_odds(
    view: View,
    contrast: Contrast,
    side: int,
    frame: int = 0,
) -> Float32:
    """Log-odds ``(h/4, w/4)`` of every cell of a frame, -inf without data.

    Where windows overlap the more central one counts. Memory is half a byte a pixel.
    """
    windows = lay_windows(view.shape, side, frame)
    rows = max(window.row + window.height for window in windows) // CELL
    cols = max(window.col + window.width for window in windows) // CELL
    odds = np.full((rows, cols), -np.inf, np.float32)
    weights = np.zeros((rows, cols), np.float32)
    for window in windows:
        block = view.block(window)
        if not block.valid.any():
            continue
        features, valid = look(view, window, block)
        own = measure_centrality(valid.shape)
        row, col = window.row // CELL, window.col // CELL
        place = slice(row, row + valid.shape[0]), slice(col, col + valid.shape[1])
        better = valid & (own > weights[place])
        odds[place][better] = contrast.score(features)[better]
        weights[place][better] = own[better]
    return odds


def smooth_odds(odds: Float32) -> Float32:
    """Probability from log-odds, averaged over neighbours that show something."""
    seen = np.isfinite(odds)
    weight = ndimage.gaussian_filter(seen.astype(np.float32), SMOOTHED_CELLS)
    total = ndimage.gaussian_filter(np.where(seen, np.clip(odds, -15, 15), 0), SMOOTHED_CELLS)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-3)
    return np.where(seen, 1 / (1 + np.exp(-mean)), 0).astype(np.float32)


def cut_parts(alike: Mask, largest: float, radius: float) -> NDArray[np.int32]:
    """Numbers ``(h, w)`` of connected parts of cells; what is larger than ``largest`` is cut at its waists.

    Each place of such a part goes to the peak of its distance to the edge that it lies nearest to, peaks
    being ``radius`` apart: roofs that touch in a picture are roofs all the same.
    """
    filled = ndimage.binary_fill_holes(alike)
    parts, count = ndimage.label(filled)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    large = np.flatnonzero(sizes > largest)
    large = large[large > 0]
    if not len(large):
        return np.asarray(parts, np.int32)
    touching = np.isin(parts, large)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(touching), 1.0)
    size = 2 * max(1, round(radius)) + 1
    peaks, many = ndimage.label((depth == ndimage.maximum_filter(depth, size)) & touching)
    nearest = ndimage.distance_transform_edt(peaks == 0, return_distances=False, return_indices=True)
    own = np.where(touching, peaks[tuple(nearest)], 0)
    return np.where(own > 0, own + count, np.where(touching, 0, parts)).astype(np.int32) if many else parts


def _cut_out(
    likeness: Float32,
    parts: NDArray[np.int32],
    number: int,
    place: tuple[slice, slice],
    view: View,
    frame: int,
) -> SceneObject | None:
    """A part of cells as an object in pixels, its outline where the enlarged likeness is a half."""
    rows, cols = (
        slice(max(0, side.start - 1), min(length, side.stop + 1))
        for side, length in zip(place, likeness.shape, strict=True)
    )
    own = parts[rows, cols] == number
    near = likeness[rows, cols]
    score = float(near[own].mean())
    # The enlarged likeness of its own cells gives the outline; a hole that was filled is wholly inside.
    values = torch.from_numpy(np.where(own & (near <= 0.5), 1.0, np.where(own, near, 0.0)).astype(np.float32))
    size = own.shape[0] * CELL, own.shape[1] * CELL
    large = F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
    window = Window(rows.start * CELL, cols.start * CELL, *size, frame)
    mask = cut_to_frame(large > 0.5, window, view.shape)
    if not mask.any():
        return None
    bounds, part = cut_out(mask, window)
    return SceneObject(bounds, score=min(1.0, score), box=bounds.box, mask=part)
