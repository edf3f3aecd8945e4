"""Objects through the pictures of a film, the slices of a volume, the years of a series: SAM-PT.

After Rajic et al. 2023 (Segment Anything Meets Point Tracking): points are set on an object in one
picture, a tracker follows them, and in every picture those that are seen prompt the foundation. Both
directions begin at the picture where the object was marked. What is held follows the number of objects
and the horizon, never the length of the film.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.prompter.anchor import Anchor
from domainsam.prompter.carried import Carried, Glimpse
from domainsam.prompter.contrast import Contrast
from domainsam.prompter.followed import Followed, Seen, TrackOptions, look_at, start_object
from domainsam.prompter.frozen import name_kinds
from domainsam.prompter.likeness import Likeness, Weights
from domainsam.prompter.pips import PipsState
from domainsam.prompter.pointmask import NOTHING, PointMask
from domainsam.prompter.reinit import renew
from domainsam.prompter.search import cut_out
from domainsam.prompter.trackers import FeatureState, FlowState, Tracker
from domainsam.protocols import Click, Foundation, SceneObject, View, Window

__all__ = ["Course", "Ended", "FrameAnswer", "TrackOptions", "TrackSource", "follow"]


@dataclass(frozen=True, eq=False)
class FrameAnswer:
    """What one picture shows of the objects that are followed through it.

    Parameters
    ----------
    frame
        Number of the picture.
    labels
        ``(H, W)`` uint8: number of the object, from 1 in the order in which they were given; 0 for none.
    scores
        By object: the foundation's estimate of its mask's IoU, 1 where it was marked, 0 where it is not seen.
    points
        By object, the points that are seen on it, ``(P, 2)``.
    """

    frame: int
    labels: NDArray[np.uint8]
    scores: tuple[float, ...]
    points: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Ended:
    """Where an object was given up, in which direction, and why; ``number`` counts from 1."""

    number: int
    frame: int
    direction: Literal["forwards", "backwards"]
    reason: str


@dataclass
class Course:
    """Where a run through pictures stands: after each answer, all that the next one needs.

    Parameters
    ----------
    forwards
        The direction.
    frame
        The picture that was answered last; None before the first.
    held
        What is known of the objects, in the tracker's own form.
    """

    forwards: bool = True
    frame: int | None = None
    held: dict[int, Any] = field(default_factory=dict)

    def answered(self, frame: int, forwards: bool, held: dict[int, Any]) -> None:
        """Note that a picture was answered."""
        self.frame, self.forwards, self.held = frame, forwards, held

    def left(self, frames: range, forwards: bool) -> range:
        """Those of ``frames`` in a direction that are still to be answered."""
        if self.frame is None or (self.forwards and not forwards):
            return frames
        if self.forwards != forwards:
            return frames[:0]
        return frames[frames.index(self.frame) + 1 :]


KINDS = name_kinds(
    Anchor,
    Carried,
    Contrast,
    Course,
    Ended,
    FeatureState,
    FlowState,
    Followed,
    Glimpse,
    Likeness,
    PipsState,
    PointMask,
    Seen,
    Weights,
    Window,
)
"""What :func:`domainsam.prompter.frozen.freeze` meets in a course."""


def follow(
    view: View,
    objects: Sequence[SceneObject],
    foundation: Foundation,
    tracker: Tracker,
    options: TrackOptions | None = None,
    ended: list[Ended] | None = None,
    course: Course | None = None,
) -> Iterator[FrameAnswer]:
    """Follow objects from the pictures where they were marked, forwards and then backwards.

    A picture comes once, except between the pictures where the first and the last of several objects were
    marked: there one direction brings some objects and the other the rest, and neither paints over the other.

    Parameters
    ----------
    view
        The pictures; it has to use ``foundation``.
    objects
        At most 255, each with clicks, a box or a mask in its own picture (``bounds.frame``).
    tracker
        Who follows points.
    ended
        Is told where objects were given up.
    course
        Is told after each answer where the run stands; one that stands somewhere already is gone on with,
        and gives the answers that an unbroken run would.

    Raises
    ------
    InputError
        If there is no object, one lies outside the pictures, or nothing is found where it was marked.
    """
    chosen = options or TrackOptions()
    if not 0 < len(objects) < 256:
        raise InputError(f"{len(objects)} objects are to be followed; expected 1 to 255")
    for number, one in enumerate(objects, 1):
        check_place(number, one, view)
    told = [] if ended is None else ended
    run = _Run(view, objects, foundation, tracker, chosen, told, course or Course())
    starts = [one.bounds.frame for one in objects]
    yield from run.go(range(min(starts), view.frames), forwards=True)
    if max(starts) > 0:
        yield from run.go(range(max(starts), -1, -1), forwards=False)


@dataclass(frozen=True, eq=False)
class _Run:
    """One direction at a time through a view."""

    view: View
    objects: Sequence[SceneObject]
    foundation: Foundation
    tracker: Tracker
    options: TrackOptions
    ended: list[Ended]
    course: Course

    def go(self, frames: range, forwards: bool) -> Iterator[FrameAnswer]:
        """Answers in the order of ``frames``; backwards without the pictures where objects were marked."""
        left = self.course.left(frames, forwards)
        held: dict[int, Followed] = self.course.held if len(left) < len(frames) else {}
        for frame in left:
            fresh = [n for n, one in enumerate(self.objects) if one.bounds.frame == frame]
            self._step(held, frame, forwards)
            for number in fresh:
                held[number] = start_object(
                    self.view, self.objects[number], number, self.foundation, self.tracker, self.options
                )
            shown = [n for n in held if forwards or n not in fresh]
            if shown:
                self.course.answered(frame, forwards, held)
                yield self._merge(frame, {n: held[n] for n in shown})

    def _step(self, held: dict[int, Followed], frame: int, forwards: bool) -> None:
        alive = {n: one for n, one in held.items() if not one.ended}
        for one in alive.values():
            one.move(self.tracker, self.view, frame, self.options)
        for number, one in alive.items():
            others = [rest.seen for n, rest in alive.items() if n != number] if self.options.others else []
            look_at(one, self.view, frame, self.foundation, others, self.options)
        if self.options.reinit is not None:
            renew(list(alive.values()), self.view, frame, self.tracker, self.options)
        for number, one in alive.items():
            if one.missing and self.options.patience and one.missing >= self.options.patience:
                one.ended = True
            if one.ended:
                way: Literal["forwards", "backwards"] = "forwards" if forwards else "backwards"
                self.ended.append(Ended(number + 1, frame, way, one.reason))

    def _merge(self, frame: int, held: dict[int, Followed]) -> FrameAnswer:
        """Each pixel goes to the object with the greatest logit, or to none where none is above 0."""
        count, shape = len(self.objects), self.view.shape
        best, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        for number, one in held.items():
            logits = np.full(shape, NOTHING, np.float32) if one.answer is None else one.answer.paint(shape)
            above = logits > best
            best[above], labels[above] = logits[above], number + 1
        nowhere = np.zeros((0, 2))
        scores = [held[n].score if n in held else 0.0 for n in range(count)]
        return FrameAnswer(
            frame, labels, tuple(scores), tuple(held[n].seen if n in held else nowhere for n in range(count))
        )


class TrackSource:
    """Objects in every picture that they can be followed to: a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    objects
        As of :func:`follow`.
    foundation, tracker, options
        As of :func:`follow`.

    Notes
    -----
    ``ended`` tells, after :meth:`find`, where objects were given up and why.
    """

    def __init__(
        self,
        objects: Sequence[SceneObject],
        foundation: Foundation,
        tracker: Tracker,
        options: TrackOptions | None = None,
    ) -> None:
        self.objects, self.foundation, self.tracker = tuple(objects), foundation, tracker
        self.options = options or TrackOptions()
        self.ended: list[Ended] = []

    def find(self, view: View) -> Iterator[SceneObject]:
        """An object with mask, box and points for every picture that shows it, by :func:`follow`'s order."""
        self.ended = []
        for answer in follow(view, self.objects, self.foundation, self.tracker, self.options, self.ended):
            for number, one in enumerate(self.objects, 1):
                if (answer.labels == number).any():
                    yield _as_object(answer, number, one.label)


def _as_object(answer: FrameAnswer, number: int, label: str | None) -> SceneObject:
    mask = answer.labels == number
    bounds, part = cut_out(mask, Window(0, 0, mask.shape[0], mask.shape[1], answer.frame))
    left, top, right, bottom = bounds.box
    points = [
        Click(float(x), float(y))
        for x, y in answer.points[number - 1]
        if left <= x < right and top <= y < bottom
    ]
    return SceneObject(bounds, label, answer.scores[number - 1], tuple(points), bounds.box, part)


def check_place(number: int, one: SceneObject, view: View) -> None:
    """Refuse an object that lies outside the pictures; ``number`` counts from 1.

    Raises
    ------
    InputError
        If a picture that it is marked in is not there, or a part lies outside.
    """
    bounds = one.bounds
    rows, cols = view.shape
    if not 0 <= bounds.frame < view.frames:
        raise InputError(
            f"object {number} is marked in picture {bounds.frame}; there are pictures 0 to {view.frames - 1}"
        )
    inside = 0 <= bounds.row <= rows - bounds.height and 0 <= bounds.col <= cols - bounds.width
    clicks = [(point.x, point.y) for point in one.points if not (0 <= point.x < cols and 0 <= point.y < rows)]
    if not inside or clicks:
        raise InputError(
            f"object {number} lies outside; pictures have x from 0 to {cols} and y from 0 to {rows} (pixels)"
        )
