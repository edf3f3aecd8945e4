"""Objects found by words: proposals are named, and what bears a wanted word is ranked over the whole view.

Proposals come from the foundation (everything that it sees), or from a map of the words themselves where the
model can say of every place what it shows; a model that finds objects by words alone is asked directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.errors import ConfigError
from domainsam.prompter.descriptors import CELL
from domainsam.prompter.everything import EverythingOptions, EverythingSource
from domainsam.prompter.search import cut_out, own_areas
from domainsam.protocols import Foundation, Namer, SceneObject, View, Window, Word, WordFinder, WordMapper
from domainsam.vocabulary.names import choose_names, count_names, name_all, tell_understood
from domainsam.vocabulary.words import without

Proposals = Literal["auto", "everything", "map"]
PROPOSALS: tuple[Proposals, ...] = ("auto", "everything", "map")
STRIDE = 4
"""Pixels of a frame for one of a map of words, along a side."""


@dataclass(frozen=True)
class WordOptions:
    """What is kept of what is found.

    Parameters
    ----------
    least
        Least score of an object.
    most
        So many objects at most, the best of the whole view.
    overlap
        Of two objects whose masks' IoU is this or more, the one with the lower score goes.
    proposals
        ``"everything"`` that the foundation sees, ``"map"``: what a map of words shows, or ``"auto"``: the
        model's own objects if it finds any by itself, else its map if it makes one, else everything.
    least_area
        Of an object of a map, in pixels.

    Raises
    ------
    ConfigError
        If a number is impossible.
    """

    least: float = 0.3
    most: int = 1000
    overlap: float = 0.5
    proposals: Proposals = "auto"
    least_area: int = 64

    def __post_init__(self) -> None:
        for name in ("least", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if self.most < 1 or self.least_area < 1:
            raise ConfigError(
                f"most objects {self.most}, least area {self.least_area}; expected 1 or more of both"
            )
        if self.proposals not in PROPOSALS:
            raise ConfigError(f"proposals are {self.proposals!r}; expected one of: {', '.join(PROPOSALS)}")


@dataclass(eq=False)
class WordSource:
    """Objects by words: a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    model
        Names objects.
    words
        What is looked for.
    foundation
        Proposes objects.
    against
        Words that objects may be called instead, and that are not wanted; those that are looked for are
        left out.
    options, keep
        What is kept of what is named, and of what the foundation proposes.

    Raises
    ------
    ConfigError
        If there is no word, or the model cannot work with such proposals.
    InputError
        If the model does not understand a word.
    """

    model: Namer
    words: Sequence[Word]
    foundation: Foundation
    against: Sequence[Word] = ()
    options: WordOptions = field(default_factory=WordOptions)
    keep: EverythingOptions | None = None
    told: dict[str, Any] = field(default_factory=dict, init=False)
    """What was found and left out in the last search, as JSON can hold it."""

    def __post_init__(self) -> None:
        if not self.words:
            raise ConfigError("nothing says what to look for: name a word")
        self.against = without(self.against, self.words)
        self.understood = self.model.understand(self.words)
        if self.against:
            self.model.understand(self.against)
        if self.options.proposals == "map" and not isinstance(self.model, WordMapper):
            raise ConfigError(
                f"{self.model.name} makes no map of words: leave out --proposals map, or take another model"
            )

    def find(self, view: View) -> Iterator[SceneObject]:
        """Objects with label, score and mask, the best of the whole view first; possibly none."""
        words = [*self.words, *self.against]
        model, wanted = self.model, {word.name for word in self.words}
        if self.options.proposals == "auto" and isinstance(model, WordFinder):
            named = list(model.find_words(view, words))
            counts: dict[str, Any] = {"proposals": len(named)}
        elif self.options.proposals != "everything" and isinstance(model, WordMapper):
            named = find_in_map(model, view, words, self.foundation.image_size, self.options.least_area)
            counts = {"proposals": len(named)}
        else:
            named, counts = self._name_everything(view, words)
        sure = [one for one in named if one.label in wanted and one.score >= self.options.least]
        found = merge_same(sure, self.options.overlap)
        self.told = {
            "model": model.name,
            "understood": tell_understood(self.understood),
            **counts,
            "other_words": sum(one.label not in wanted for one in named),
            "below_least_score": sum(one.label in wanted and one.score < self.options.least for one in named),
            "duplicates": len(sure) - len(found),
            "found": min(len(found), self.options.most),
        }
        yield from found[: self.options.most]

    def _name_everything(self, view: View, words: Sequence[Word]) -> tuple[list[SceneObject], dict[str, Any]]:
        proposed = list(EverythingSource(self.foundation, self.keep).find(view))
        named = choose_names(name_all(self.model, view, proposed, words), words)
        counts = {"proposals": len(proposed), **count_names(named)}
        del counts["words"]
        kept = [
            replace(one, label=name.word, text=name.word, score=min(1.0, max(0.0, name.score)))
            for one, name in zip(proposed, named, strict=True)
            if name.word is not None
        ]
        return kept, counts


def find_in_map(
    model: WordMapper, view: View, words: Sequence[Word], side: int, least_area: int
) -> list[SceneObject]:
    """Connected places of a view that one word fits best, with mask and mean score.

    Parameters
    ----------
    side
        Of the windows that are looked at, a multiple of 32; each answers for its middle.
    least_area
        In pixels of the view.
    """
    found: list[SceneObject] = []
    for frame in range(view.frames):
        labels, scores = map_frame(model, view, words, side, frame)
        for number, word in enumerate(words, start=1):
            places, _ = ndimage.label(labels == number)
            for place, part in enumerate(ndimage.find_objects(places), start=1):
                cells = places[part] == place
                if cells.sum() * STRIDE**2 < least_area:
                    continue
                score = float(scores[part][cells].mean(dtype=np.float64))
                one = _as_object(cells, part, view.shape, frame)
                if one is not None:
                    found.append(replace(one, label=word.name, text=word.name, score=min(1.0, score)))
    return found


def map_frame(
    model: WordMapper, view: View, words: Sequence[Word], side: int, frame: int = 0
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best word of every place of a frame, and its score, at a quarter of the frame's sides.

    Returns
    -------
    labels, scores
        ``(ceil(H/4), ceil(W/4))`` int32, 0 where none of the words fits best or there is no data, n the n-th
        word; float32 in 0 to 1.
    """
    rows, cols = (-(-length // STRIDE) for length in view.shape)
    labels = np.zeros((rows, cols), np.int32)
    scores = np.zeros((rows, cols), np.float32)
    for window, area in own_areas(view.shape, side, frame):
        block = view.block(window)
        if not block.valid.any():
            continue
        values = model.map_words(view, window, words)
        best = values.argmax(axis=0)
        top = values.max(axis=0)
        rest = 1.0 - values.sum(axis=0)
        seen = block.valid[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        chosen = np.where((top > rest) & seen, best + 1, 0)
        # The area that a window answers for is in cells of the view.
        own = tuple(
            slice(part.start * CELL // STRIDE, min(part.stop * CELL // STRIDE, length))
            for part, length in zip(area, (rows, cols), strict=True)
        )
        inner = tuple(
            slice(part.start - start // STRIDE, part.stop - start // STRIDE)
            for part, start in zip(own, (window.row, window.col), strict=True)
        )
        labels[own] = chosen[inner]
        scores[own] = np.where(seen, top, 0)[inner]
    return labels, scores


def _as_object(
    cells: NDArray[np.bool_], part: tuple[slice, slice], shape: tuple[int, int], frame: int
) -> SceneObject | None:
    mask = cells.repeat(STRIDE, axis=0).repeat(STRIDE, axis=1)
    row, col = part[0].start * STRIDE, part[1].start * STRIDE
    mask = mask[: shape[0] - row, : shape[1] - col]
    if not mask.any():
        return None
    bounds, inside = cut_out(mask, Window(row, col, mask.shape[0], mask.shape[1], frame))
    return SceneObject(bounds, box=bounds.box, mask=inside)


def merge_same(found: Sequence[SceneObject], overlap: float) -> list[SceneObject]:
    """Objects by falling score, without those that a better one covers (IoU of masks, else of boxes).

    Ties are settled by place, so the order of what is given does not count.
    """
    ranked = sorted(
        found, key=lambda one: (-one.score, one.bounds.frame, one.bounds.row, one.bounds.col, str(one.label))
    )
    if not ranked:
        return []
    edges = np.array([_edges(one) for one in ranked])
    frames = np.array([one.bounds.frame for one in ranked])
    left = np.ones(len(ranked), bool)
    for number, one in enumerate(ranked):
        if not left[number]:
            continue
        low = np.maximum(edges[number, :2], edges[:, :2])
        high = np.minimum(edges[number, 2:], edges[:, 2:])
        near = (high > low).all(axis=1) & left & (frames == frames[number])
        near[: number + 1] = False
        for other in np.flatnonzero(near):
            if measure_iou(one, ranked[other]) >= overlap:
                left[other] = False
    return [one for one, kept in zip(ranked, left, strict=True) if kept]


def _edges(one: SceneObject) -> tuple[float, float, float, float]:
    if one.mask is None and one.box is not None:
        return one.box
    return one.bounds.box


def measure_iou(one: SceneObject, other: SceneObject) -> float:
    """IoU of two objects of a frame: of their masks, else of their boxes; 0 in different frames."""
    if one.bounds.frame != other.bounds.frame:
        return 0.0
    if one.mask is None or other.mask is None:
        a, b = (mark.box or mark.bounds.box for mark in (one, other))
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        shared = max(0.0, width) * max(0.0, height)
        areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
        return shared / (areas - shared)
    at, on = one.bounds, other.bounds
    top, left = max(at.row, on.row), max(at.col, on.col)
    bottom = min(at.row + at.height, on.row + on.height)
    right = min(at.col + at.width, on.col + on.width)
    if top >= bottom or left >= right:
        return 0.0
    first = one.mask[top - at.row : bottom - at.row, left - at.col : right - at.col]
    second = other.mask[top - on.row : bottom - on.row, left - on.col : right - on.col]
    both = int((first & second).sum())
    return both / (int(one.mask.sum()) + int(other.mask.sum()) - both)
