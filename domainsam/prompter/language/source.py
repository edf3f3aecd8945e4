"""What words mean in a scene, a volume or a picture, as a language model sees it (SAM4MLLM)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.names import show
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.descriptors import lay_windows
from domainsam.prompter.language.answers import Answer, Memory, Said, ShortMemory, key_of, understand
from domainsam.prompter.language.codecs import Fractions, Size, Spot
from domainsam.prompter.language.decoding import Place, decode_place, show_window
from domainsam.prompter.language.patterns import make_points
from domainsam.prompter.language.ranking import Sighting, rank
from domainsam.prompter.language.speakers import AskOptions, Question, Speaker
from domainsam.prompter.language.wording import Wording, check_phrase, load_wording
from domainsam.protocols import Foundation, SceneObject, View, Window

log = logging.getLogger(__name__)

Shown = Callable[[Window], NDArray[np.uint8]]
"""Gives the picture ``(h, w, 3)`` uint8 RGB of a window of the scene, in any size of the same shape."""
MOST_TOLD = 20
"""So many answers that were none are told of."""


@dataclass
class Tally:
    """What became of the questions.

    Parameters
    ----------
    asked
        Windows that the model was asked about.
    recalled
        Answers that were kept of an earlier run.
    nothing
        Windows where it says that there is nothing of the kind.
    unanswered
        Where and why it gave no answer.
    """

    asked: int = 0
    recalled: int = 0
    nothing: int = 0
    unanswered: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON can hold it; answers that are none are kept as such."""
        return {
            "windows": self.asked,
            "nothing": self.nothing,
            "unanswered": len(self.unanswered),
            "unanswered_first": self.unanswered[:MOST_TOLD],
        }


class LanguageSource:
    """Objects that a language model points at: a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    speaker
        The model.
    phrase
        What is looked for.
    foundation
        Makes masks of what the model points at.
    options
        How it is asked.
    memory
        Keeps answers; those that it knows are not asked for.
    shown
        Gives the pictures that the model is shown, by default those of the view.
    progress
        Told how many windows were asked about.

    Raises
    ------
    InputError
        If the phrase says nothing, or is too long.
    ConfigError
        If the model cannot be asked in this mode.
    """

    def __init__(
        self,
        speaker: Speaker,
        phrase: str,
        foundation: Foundation,
        options: AskOptions,
        *,
        memory: Memory | None = None,
        shown: Shown | None = None,
        progress: Progress = report_nothing,
    ) -> None:
        self.phrase = check_phrase(phrase)
        speaker.refuse(self.phrase)
        self.speaker, self.foundation, self.options = speaker, foundation, options
        self.wording: Wording = load_wording(speaker.kind, options.wording)
        if options.mode == "pqpp" and not self.wording.points:
            raise ConfigError(
                f"{speaker.name} ({speaker.kind}) answers no questions about points: use --mode ppg, or give "
                "them by --wording"
            )
        self.memory = ShortMemory() if memory is None else memory
        self.tally = Tally()
        self._shown, self._progress = shown, progress

    def find(self, view: View) -> Iterator[SceneObject]:
        """Objects of all frames with mask, box and points, the best score first; possibly none.

        A score is the model's confidence in what it wrote times the foundation's in its mask.
        """
        found = [one for _, objects in self.look_through(view, range(view.frames)) for one in objects]
        self.tell()
        yield from sorted(found, key=lambda one: -one.score)[: self.options.most]

    def look_through(self, view: View, frames: Sequence[int]) -> Iterator[tuple[int, list[SceneObject]]]:
        """Objects of some frames, frame by frame, the best score first."""
        for number, frame in enumerate(frames):
            windows = lay_windows(view.shape, self.foundation.image_size, frame)
            own = [window for window in windows if view.block(window).valid.any()]
            named = self._ask_all(view, own)
            seen = [one for window, places in named for one in self._decode(view, window, places)]
            objects = [one for one in rank(seen, view.shape) if one.score >= self.options.least]
            yield frame, objects
            self._progress("ask", number + 1, len(frames))

    def tell(self) -> None:
        """Warn of answers that were none."""
        if self.tally.unanswered:
            count, first = len(self.tally.unanswered), self.tally.unanswered[0]
            log.warning(
                "%s gave no answer in %d of %d pictures, the first because %s",
                self.speaker.name,
                count,
                self.tally.asked,
                first["why"],
            )

    def _ask_all(self, view: View, windows: Sequence[Window]) -> Iterator[tuple[Window, list[Place]]]:
        """Every window with the places that the model names in it."""
        step = max(1, self.speaker.at_once)
        for start in range(0, len(windows), step):
            some = windows[start : start + step]
            pictures = [self.speaker.fit(self._picture(view, window)) for window in some]
            yield from zip(some, self.ask(pictures, some), strict=True)
            if len(windows) > step:
                self._progress("ask", min(start + step, len(windows)), len(windows))

    def _picture(self, view: View, window: Window) -> NDArray[np.uint8]:
        part = show_window(view, window)
        if self._shown is not None:
            return self._shown(part)
        image = view.image(window)[:, : part.height, : part.width]
        return np.asarray(np.rint(image.transpose(1, 2, 0) * 255), np.uint8)

    def ask(self, pictures: Sequence[NDArray[np.uint8]], windows: Sequence[Window] = ()) -> list[list[Place]]:
        """Places that the model names in pictures ``(H, W, 3)`` uint8; ``windows`` say where they lie."""
        direct = self.options.mode == "ppg"
        frame = self.speaker.codec.frame
        text = self.wording.ask_boxes(self.phrase, frame, with_points=direct)
        questions = [Question(one, (("user", text),), self.wording.system) for one in pictures]
        said = self._write(questions)
        answers = [
            understand(one, self.speaker.codec, self._seen(picture), self.wording.nothing)
            for one, picture in zip(said, pictures, strict=True)
        ]
        for number, (answer, one) in enumerate(zip(answers, said, strict=True)):
            self._count(answer, one, windows[number] if windows else None)
        places = [
            [Place(box, spots, one.sure) for box, spots in answer.places]
            for answer, one in zip(answers, said, strict=True)
        ]
        return places if direct else self._query(questions, said, places)

    def _query(
        self, questions: Sequence[Question], said: Sequence[Said], places: Sequence[list[Place]]
    ) -> list[list[Place]]:
        """The places with those of their points that the model is sure about (PQPP)."""
        jobs = [
            (number, place, question, one)
            for number, (question, one) in enumerate(zip(questions, said, strict=True))
            for place in places[number]
        ]
        kept: list[list[Place]] = [[] for _ in questions]
        asked = [job for job in jobs if job[1].box is not None]
        weighed = self._weigh([(question, one, place) for _, place, question, one in asked])
        chances = {id(job[1]): values for job, values in zip(asked, weighed, strict=True)}
        for number, place, *_ in jobs:
            if place.box is None:
                kept[number].append(place)
                continue
            points = points_in(place.box, self.options)
            spots = filter_points(points, chances[id(place)], self.options)
            kept[number].append(replace(place, spots=spots))
        return kept

    def _weigh(self, jobs: Sequence[tuple[Question, Said, Place]]) -> list[NDArray[np.float64]]:
        """How likely yes and no are at every point of every place: ``(points, 2)`` each."""
        words = self.wording.yes, self.wording.no
        together = self.speaker.aligns(words)
        follow_ups: list[tuple[Question, int]] = []
        counts = []
        for question, said, place in jobs:
            assert place.box is not None
            points = points_in(place.box, self.options)
            counts.append(len(points))
            groups = [points] if together else [[point] for point in points]
            follow_ups += [(self._follow_up(question, said, place.box, one), len(one)) for one in groups]
        values: list[NDArray[np.float64]] = []
        step = max(1, self.speaker.at_once)
        for start in range(0, len(follow_ups), step):
            values += self._weigh_kept(follow_ups[start : start + step], words)
        rows = iter(values)
        if together:
            return list(rows)
        return [np.concatenate([next(rows) for _ in range(count)]) for count in counts]

    def _follow_up(
        self, question: Question, said: Said, box: Fractions, points: Sequence[tuple[float, float]]
    ) -> Question:
        codec, size = self.speaker.codec, self._seen(question.picture)
        listed = " ".join(codec.write_point(point, size) for point in points)
        text = self.wording.ask_points(self.phrase, codec.frame, codec.write_box(box, size), listed)
        turns = (*question.turns, ("assistant", said.text), ("user", text))
        return replace(question, turns=turns)

    def _weigh_kept(
        self, jobs: Sequence[tuple[Question, int]], words: tuple[str, str]
    ) -> list[NDArray[np.float64]]:
        keys = [self._key(question, "weigh", count, words) for question, count in jobs]
        known = [self.memory.recall(key) for key in keys]
        self.tally.recalled += sum(one is not None for one in known)
        open_ = [number for number, one in enumerate(known) if one is None]
        if open_:
            some = [jobs[number] for number in open_]
            new = self.speaker.weigh([one for one, _ in some], [count for _, count in some], words)
            for number, values in zip(open_, new, strict=True):
                known[number] = np.round(values, 6).tolist()
                self.memory.keep(keys[number], known[number])
        return [np.asarray(one, float).reshape(-1, 2) for one in known]

    def _write(self, questions: Sequence[Question]) -> list[Said]:
        """Answers, of memory where it has them."""
        keys = [self._key(question, "write", self.options.max_tokens) for question in questions]
        known = [self.memory.recall(key) for key in keys]
        self.tally.recalled += sum(one is not None for one in known)
        open_ = [number for number, one in enumerate(known) if one is None]
        if open_:
            new = self.speaker.write([questions[number] for number in open_], self.options.max_tokens)
            for number, said in zip(open_, new, strict=True):
                known[number] = said.document()
                self.memory.keep(keys[number], known[number])
        return [Said(**one) for one in known]

    def _key(self, question: Question, *about: object) -> str:
        picture = np.ascontiguousarray(question.picture)
        said = (("system", question.system), *question.turns)
        return key_of(picture.tobytes(), said, picture.shape, self.speaker.identity, *about)

    def _seen(self, picture: NDArray[np.uint8]) -> Size:
        return self.speaker.seen((picture.shape[0], picture.shape[1]))

    def _count(self, answer: Answer, said: Said, window: Window | None) -> None:
        self.tally.asked += 1
        if answer.kind == "nothing":
            self.tally.nothing += 1
        if answer.kind == "unanswered":
            where = {} if window is None else {"frame": window.frame, "row": window.row, "col": window.col}
            self.tally.unanswered.append({**where, "why": answer.why, "text": show(said.text)[:200]})

    def _decode(self, view: View, window: Window, places: Sequence[Place]) -> Iterator[Sighting]:
        if not places:
            return
        features = view.features(window)
        for place in places:
            one = decode_place(place, view, window, features, self.foundation)
            if one is not None:
                yield Sighting(replace(one, text=self.phrase), window)


def points_in(box: Fractions, options: AskOptions) -> list[tuple[float, float]]:
    """The pattern's points in a box, x, y as fractions of the picture's sides."""
    left, top, right, bottom = box
    pattern = make_points(options.pattern, options.points)
    return [(left + x * (right - left), top + y * (bottom - top)) for x, y in pattern]


def filter_points(
    points: Sequence[tuple[float, float]], chances: NDArray[np.float64], options: AskOptions
) -> tuple[Spot, ...]:
    """Points that the model is sure about: ``no`` is tested first, then ``yes``; the others are dropped.

    Parameters
    ----------
    chances
        ``(points, 2)``: how likely yes and no are at each.
    """
    spots: list[Spot] = []
    for (x, y), (yes, no) in zip(points, chances, strict=True):
        if no > options.no:
            spots.append((x, y, False))
        elif yes > options.yes:
            spots.append((x, y, True))
    return tuple(spots)
