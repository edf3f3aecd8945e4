"""What a language model ought to say of a known mask: the dialogues of SAM4MLLM's two modes.

PPG's answer is the box, two points on the object and one beside it; of many such sets the one is kept from
which a foundation makes the best mask. PQPP's answers are the box, and Yes or No for points of it: a sample
of at most 20 of points that keep their distance (SAM4MLLM, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.errors import InputError
from domainsam.prompter.language.codecs import CoordinateCodec, Fractions, Size, Spot
from domainsam.prompter.language.patterns import MOST, make_points
from domainsam.prompter.language.speakers import Question
from domainsam.prompter.language.wording import Wording

POSITIVE, NEGATIVE = 2, 1
"""Points on the object and beside it in PPG (n1 and n2)."""
SETS = 64
"""Sets that are drawn for each mask (K)."""
MEAN_COUNT, SPREAD_COUNT, LEAST_COUNT, MOST_COUNT = 10.0, 4.0, 1, 20
"""Points that are asked about in PQPP: drawn from a normal distribution, within limits."""


def box_of(mask: NDArray[np.bool_]) -> Fractions:
    """The box of a mask ``(H, W)``, not empty, as fractions of the sides.

    Raises
    ------
    InputError
        If it is empty.
    """
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise InputError("a mask is empty; expected at least one pixel inside")
    height, width = mask.shape
    return (
        float(cols[0] / width),
        float(rows[0] / height),
        float((cols[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )


def lies_on(mask: NDArray[np.bool_], x: float, y: float) -> bool:
    """Whether a point, as fractions of the sides, lies on a mask ``(H, W)``."""
    row, col = int(y * mask.shape[0]), int(x * mask.shape[1])
    return bool(mask[min(max(row, 0), mask.shape[0] - 1), min(max(col, 0), mask.shape[1] - 1)])


def choose_spots(mask: NDArray[np.bool_]) -> tuple[Spot, ...]:
    """Two points deep inside a mask, and one of its box that is farthest from it, without chance."""
    spots: list[Spot] = []
    depth = _depth(mask)
    for _ in range(POSITIVE):
        row, col = np.unravel_index(int(depth.argmax()), depth.shape)
        spots.append((*_middle(mask, int(row), int(col)), True))
        away = np.hypot(*(np.indices(depth.shape) - np.array([row, col])[:, None, None]))
        # The next one is deep too, and away from the first.
        depth = depth * np.minimum(1.0, away / max(1.0, float(away[mask].max())))
    outside = np.zeros_like(depth)
    inner = _box_slices(mask)
    outside[inner] = ndimage.distance_transform_edt(~mask)[inner]
    if outside.any():
        row, col = np.unravel_index(int(outside.argmax()), outside.shape)
        spots.append((*_middle(mask, int(row), int(col)), False))
    return tuple(spots)


def draw_spots(mask: NDArray[np.bool_], generator: np.random.Generator) -> tuple[Spot, ...]:
    """Two points drawn on a mask and one drawn beside it in its box."""
    inside = np.argwhere(mask)
    inner = _box_slices(mask)
    beside = np.argwhere(~mask[inner]) + np.array([inner[0].start, inner[1].start])
    spots: list[Spot] = []
    for places, count, on in ((inside, POSITIVE, True), (beside, NEGATIVE, False)):
        chosen = generator.choice(len(places), min(count, len(places)), replace=False)
        spots += [(*_middle(mask, *map(int, places[number])), on) for number in chosen]
    return tuple(spots)


def best_spots(
    mask: NDArray[np.bool_],
    score: Callable[[tuple[Spot, ...]], float],
    generator: np.random.Generator,
    sets: int = SETS,
) -> tuple[Spot, ...]:
    """Of many drawn sets the one with the best ``score``: the IoU of what a foundation makes of it."""
    drawn = [choose_spots(mask), *(draw_spots(mask, generator) for _ in range(sets - 1))]
    return max(drawn, key=score)


def draw_queries(box: Fractions, generator: np.random.Generator) -> list[tuple[float, float]]:
    """Points of a box to be asked about, in an order without meaning."""
    count = int(np.clip(round(generator.normal(MEAN_COUNT, SPREAD_COUNT)), LEAST_COUNT, MOST_COUNT))
    pattern = make_points("spread", MOST)
    left, top, right, bottom = box
    chosen = generator.choice(MOST, count, replace=False)
    return [
        (left + pattern[number][0] * (right - left), top + pattern[number][1] * (bottom - top))
        for number in chosen
    ]


def write_places(
    masks: Sequence[NDArray[np.bool_]],
    spots: Sequence[tuple[Spot, ...]],
    codec: CoordinateCodec,
    size: Size,
    wording: Wording,
) -> str:
    """The right answer to a question for boxes, with points where ``spots`` has any."""
    lines = []
    for mask, own in zip(masks, spots, strict=True):
        points = [codec.write_point((x, y), size, inside) for x, y, inside in own]
        lines.append("".join([codec.write_box(box_of(mask), size), *points]))
    return "\n".join(lines) or wording.nothing


def write_yes_no(mask: NDArray[np.bool_], points: Sequence[tuple[float, float]], wording: Wording) -> str:
    """The right answers about points, with nothing between."""
    return "".join(wording.yes if lies_on(mask, x, y) else wording.no for x, y in points)


def make_dialogue(
    picture: NDArray[np.uint8],
    phrase: str,
    masks: Sequence[NDArray[np.bool_]],
    mode: str,
    codec: CoordinateCodec,
    seen: Size,
    wording: Wording,
    generator: np.random.Generator,
    score: Callable[[NDArray[np.bool_], tuple[Spot, ...]], float] | None = None,
) -> Question:
    """A dialogue of one mode about a picture ``(H, W, 3)``, with the right answers.

    Parameters
    ----------
    masks
        ``(H, W)`` bool, the objects that the phrase means; none for a phrase that means nothing here.
    seen
        Height and width of the picture as the model sees it.
    score
        IoU of what a foundation makes of a mask's box and points; without it points are not searched.
    """
    direct = mode == "ppg"
    spots: list[tuple[Spot, ...]] = [() for _ in masks]
    if direct and wording.ppg:
        spots = [_spots_of(mask, score, generator) for mask in masks]
    turns: list[tuple[str, str]] = [
        ("user", wording.ask_boxes(phrase, codec.frame, with_points=direct)),
        ("assistant", write_places(masks, spots, codec, seen, wording)),
    ]
    if not direct and masks:
        mask = masks[int(generator.integers(len(masks)))]
        box = box_of(mask)
        points = draw_queries(box, generator)
        listed = " ".join(codec.write_point(point, seen) for point in points)
        asked = wording.ask_points(phrase, codec.frame, codec.write_box(box, seen), listed)
        turns += [("user", asked), ("assistant", write_yes_no(mask, points, wording))]
    return Question(picture, tuple(turns), wording.system)


def _spots_of(mask: NDArray[np.bool_], score: Any, generator: np.random.Generator) -> tuple[Spot, ...]:
    if score is None:
        return choose_spots(mask)
    return best_spots(mask, lambda spots: float(score(mask, spots)), generator)


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of every pixel of a mask to what is not of it, edges of the picture included."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])


def _middle(mask: NDArray[np.bool_], row: int, col: int) -> tuple[float, float]:
    return (col + 0.5) / mask.shape[1], (row + 0.5) / mask.shape[0]


def _box_slices(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    left, top, right, bottom = box_of(mask)
    height, width = mask.shape
    return slice(round(top * height), round(bottom * height)), slice(
        round(left * width), round(right * width)
    )
