"""The search for a target: peaks of similarity, a mask for each, and no object twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.prompter.cascade import Answer, Prior, personalise
from domainsam.prompter.descriptors import (
    CELL,
    cells_of,
    centre_window,
    cut_to_frame,
    lay_windows,
    share_cells,
)
from domainsam.prompter.similarity import SimilarityMap, place_cell
from domainsam.prompter.target import Target
from domainsam.protocols import Click, Foundation, SceneObject, View, Window

SAME = 0.5
"""Two masks whose smaller one is covered by the other from this share on are one object."""
SPENT = 0.25
"""A cell that a found mask covers from this share on is searched no more."""

FLOOR = 0.5
"""An object's own score may be this much of the least score of a place: it is a product of four."""
EXPLORED = 12
"""Places of a frame that are decoded at least, where there are as many, before the best are taken."""
NEARLY = 0.7
"""Where nothing is alike enough but an answer is wanted, places this much as alike as the best are tried."""
SIZE_POWER = 0.25
"""Power of the ratio of areas, of an object's and the examples', in a score: a sixteenth halves it."""

Cell = tuple[int, int]
"""Row and column of a cell of a frame."""


@dataclass(frozen=True)
class ExampleOptions:
    """How far a search by example goes.

    Parameters
    ----------
    least
        Least score of a place, 0 to 1: 0.5 is where the example parts from its surroundings.
    most
        So many objects at most in a scene; the best are kept.
    always
        Give the best place of every frame even where nothing looks alike, as PerSAM does.
    smaller, larger
        Least and greatest area, as factors of the examples' median area; 0 and infinity for any.

    Raises
    ------
    ConfigError
        If a number is impossible.
    """

    least: float = 0.5
    most: int = 1000
    always: bool = False
    smaller: float = 0.0
    larger: float = float("inf")

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise ConfigError(f"least score is {self.least}; expected 0 to 1")
        if self.most < 1:
            raise ConfigError(f"the most objects are {self.most}; expected 1 or more")
        if not 0 <= self.smaller <= 1 <= self.larger:
            raise ConfigError(
                f"areas from {self.smaller} to {self.larger} times the example's; expected a range around 1"
            )


@dataclass(frozen=True, eq=False)
class Search:
    """The search of one view; ``alike`` was computed of it and the target."""

    view: View
    alike: SimilarityMap
    target: Target
    foundation: Foundation
    options: ExampleOptions

    def look_through(self, frame: int) -> list[SceneObject]:
        """What one frame holds, in the order in which it was found.

        Peaks are taken window by window, the most promising window first, so that a window is encoded
        once more and not once an object; what is found is taken off the map of the whole frame.
        """
        left = self.target.calibration.score(self.alike.values[frame])
        left[~np.isfinite(self.alike.values[frame])] = -1
        top = float(left.max(initial=-1))
        alone = self.options.always and top < self.options.least
        least = max(0.0, top * NEARLY) if alone else self.options.least
        most = max(self.options.most, EXPLORED)
        found: list[SceneObject] = []
        windows = own_areas(self.view.shape, self.alike.side, frame)
        windows.sort(key=lambda item: -float(left[item[1]].max(initial=-1)))
        for window, area in windows:
            while len(found) < most and left[area].max(initial=-1) >= least:
                row, col = np.unravel_index(int(left[area].argmax()), left[area].shape)
                peak = int(row) + area[0].start, int(col) + area[1].start
                one = self._decode(window, peak, left)
                if one is not None:
                    found.append(one)
        return sorted(found, key=lambda one: -one.score)[:1] if alone else found

    def _decode(self, window: Window, peak: Cell, left: NDArray[np.float32]) -> SceneObject | None:
        """The object at a peak; it, and the peak's neighbours, are taken off what is left to search."""
        radius = max(1, round(float(np.sqrt(self.target.area)) / 2 / CELL))
        answer = self._answer(window, peak)
        if answer is not None and touches_inner_edge(answer.mask, window, self.view.shape):
            around = bounds_of(answer.mask, window)
            moved = centre_window(self.view.shape, around, self.alike.side)
            again = self._answer(moved, peak) if _holds(moved, peak) else None
            if again is not None:
                answer, window = again, moved
        near = np.s_[
            max(0, peak[0] - radius) : peak[0] + radius + 1, max(0, peak[1] - radius) : peak[1] + radius + 1
        ]
        left[near] = -1
        if answer is None:
            return None
        mask = cut_to_frame(answer.mask, window, self.view.shape)
        left[cells_of(window)][share_cells(mask) > SPENT] = -1
        area = int(mask.sum())
        wanted = self.options.smaller * self.target.area <= area <= self.options.larger * self.target.area
        if not area or not wanted:
            return None
        one = self._report(answer, mask, window, peak)
        return one if self.options.always or one.score >= self.options.least * FLOOR else None

    def _answer(self, window: Window, peak: Cell) -> Answer | None:
        similarity = self.alike.standardise(window)
        rows, cols = cells_of(window)
        likeness = self.target.calibration.score(self.alike.values[window.frame][rows, cols])
        prior = Prior(similarity, likeness, (peak[0] - rows.start, peak[1] - cols.start))
        return personalise(self.view.features(window), self.foundation, self.target, prior)

    def _report(self, answer: Answer, mask: NDArray[np.bool_], window: Window, peak: Cell) -> SceneObject:
        bounds, part = cut_out(mask, window)
        inside = share_cells(mask)
        values = self.alike.values[window.frame][cells_of(window)]
        known = np.isfinite(values) & (inside > 0)
        mean = np.average(values[known], weights=inside[known]) if known.any() else -np.inf
        alike = float(self.target.calibration.score(np.asarray([mean], np.float32))[0])
        ratio = float(mask.sum()) / self.target.area
        score = answer.iou * alike * answer.agreement * min(ratio, 1 / ratio) ** SIZE_POWER
        x, y = place_cell(*peak)
        x, y = min(x, self.view.shape[1] - 0.5), min(y, self.view.shape[0] - 0.5)
        on_it = bounds.row <= y < bounds.row + bounds.height and bounds.col <= x < bounds.col + bounds.width
        points = (Click(x, y),) if on_it else ()
        return SceneObject(bounds, score=score, points=points, box=bounds.box, mask=part)


def suppress_same(found: Sequence[SceneObject]) -> list[SceneObject]:
    """Objects by falling score, without those whose mask lies on a better one's (or it on theirs)."""
    ranked = sorted(found, key=lambda one: (-one.score, one.bounds.frame, one.bounds.row, one.bounds.col))
    kept: list[SceneObject] = []
    for one in ranked:
        if all(overlap(one, other) < SAME for other in kept):
            kept.append(one)
    return kept


def overlap(one: SceneObject, other: SceneObject) -> float:
    """Share of the smaller of two masks that lies in the other; 0 in different frames."""
    a, b = one.bounds, other.bounds
    if a.frame != b.frame or one.mask is None or other.mask is None:
        return 0.0
    top, left = max(a.row, b.row), max(a.col, b.col)
    bottom, right = min(a.row + a.height, b.row + b.height), min(a.col + a.width, b.col + b.width)
    if top >= bottom or left >= right:
        return 0.0
    parts = [
        mark.mask[top - at.row : bottom - at.row, left - at.col : right - at.col]
        for mark, at in ((one, a), (other, b))
        if mark.mask is not None
    ]
    return float((parts[0] & parts[1]).sum() / min(one.mask.sum(), other.mask.sum()))


def own_areas(
    shape: tuple[int, int], side: int, frame: int, shared: float = 0.25
) -> list[tuple[Window, tuple[slice, slice]]]:
    """Windows of a frame, and which of its cells each answers for: up to the middle of what it shares."""
    windows = lay_windows(shape, side, frame, shared)
    rows = _halve(sorted({window.row for window in windows}), windows[0].height)
    cols = _halve(sorted({window.col for window in windows}), windows[0].width)
    return [(window, (rows[window.row], cols[window.col])) for window in windows]


def _halve(starts: Sequence[int], side: int) -> dict[int, slice]:
    edges = [0]
    for one, other in pairwise(starts):
        edges.append((one + side + other) // 2 // CELL)
    edges.append((starts[-1] + side) // CELL)
    return {start: slice(edges[number], edges[number + 1]) for number, start in enumerate(starts)}


def cut_out(mask: NDArray[np.bool_], window: Window) -> tuple[Window, NDArray[np.bool_]]:
    """The bounds of a mask ``(h, w)``, not empty, of a window, and a copy of what of it lies in them."""
    bounds = bounds_of(mask, window)
    top, left = bounds.row - window.row, bounds.col - window.col
    return bounds, mask[top : top + bounds.height, left : left + bounds.width].copy()


def bounds_of(mask: NDArray[np.bool_], window: Window) -> Window:
    """The smallest window that holds a mask ``(h, w)``, not empty, of a window."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Window(
        window.row + int(rows[0]),
        window.col + int(cols[0]),
        int(rows[-1] - rows[0]) + 1,
        int(cols[-1] - cols[0]) + 1,
        window.frame,
    )


def touches_inner_edge(mask: NDArray[np.bool_], window: Window, shape: tuple[int, int]) -> bool:
    """Whether a mask meets an edge of its window that is not the frame's own."""
    return bool(
        (window.row > 0 and mask[0].any())
        or (window.col > 0 and mask[:, 0].any())
        or (window.row + window.height < shape[0] and mask[-1].any())
        or (window.col + window.width < shape[1] and mask[:, -1].any())
    )


def _holds(window: Window, cell: Cell) -> bool:
    rows, cols = cells_of(window)
    return bool(rows.start <= cell[0] < rows.stop and cols.start <= cell[1] < cols.stop)
