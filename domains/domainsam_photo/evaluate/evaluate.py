"""Score a method on labelled pictures or films, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError, DomainSamError, explain
from domainsam.foundation import load_decoder
from domainsam.infer.pictures import PictureView
from domainsam.io.pages import format_score
from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.metrics.tables import csv_text, finite_or_none, interval_document
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.search import ExampleOptions
from domainsam.prompter.track import Course, TrackOptions
from domainsam.protocols import Click, Foundation, SceneObject
from domainsam_photo.evaluate.layouts import (
    FILM_LAYOUTS,
    Group,
    Sequence,
    read_groups,
    read_sequences,
)
from domainsam_photo.evaluate.scores import count_bands, count_overlap, measure_contour, measure_region
from domainsam_photo.find import make_finder
from domainsam_photo.halfway import Standing
from domainsam_photo.read.films import PictureFolder
from domainsam_photo.read.marked import Example
from domainsam_photo.read.pictures import read_mask, read_numbers, read_picture
from domainsam_photo.segment import decode_marked
from domainsam_photo.settings import TRACKERS, FindOptions, RunOptions, TrackJobOptions
from domainsam_photo.track import answer_frames, enlarge_numbers

PICTURE_METHODS = ("example", "example-f", "persam", "persam-f", "boxes", "points")
"""By example, clean and as published, without and with learnt weights; or from the truth's box or centre."""

Mask = NDArray[np.bool_]
Watch = Callable[[str, float, NDArray[np.uint8], Mask, Mask], None]
"""Is shown the name of a case, its score, picture, truth and answer."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What is scored: layout, method, the list of films, the first so many units, and who decodes."""

    layout: str
    method: str | None = None
    split: str | None = None
    limit: int | None = None
    foundation: str | Path | None = None
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0

    @property
    def chosen(self) -> str:
        """The method, or the layout's own.

        Raises
        ------
        ConfigError
            If the layout does not go with it.
        """
        films = self.layout in FILM_LAYOUTS
        known = TRACKERS if films else PICTURE_METHODS
        usual = "features" if films else "example" if self.layout == "perseg" else "boxes"
        method = self.method or usual
        if method not in known:
            raise ConfigError(f"layout {self.layout} takes the methods {', '.join(known)}; not {method!r}")
        return method


@dataclass(frozen=True)
class Unit:
    """An object of a set and its scores by measure."""

    name: str
    scores: dict[str, float]
    pictures: int


@dataclass
class Evaluation:
    """Scores of every object; their means are what papers report."""

    unit: ClassVar[str] = "object"
    """What was resampled."""

    layout: str
    method: str
    foundation: str
    measures: tuple[str, ...]
    units: list[Unit] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seed: int = 0

    def interval(self, measure: str) -> Interval:
        """Mean over objects with a 95 % interval from resampling them."""
        values = np.array([[unit.scores[measure], 1.0] for unit in self.units])
        return bootstrap(values, lambda sums: sums[:, 0] / sums[:, 1], seed=self.seed)

    def document(self) -> dict[str, Any]:
        """Everything as values that JSON can hold."""
        return {
            "layout": self.layout,
            "method": self.method,
            "foundation": self.foundation,
            "means": {name: interval_document(self.interval(name)) for name in self.measures},
            "objects": [
                {
                    "name": unit.name,
                    "pictures": unit.pictures,
                    **{name: finite_or_none(value) for name, value in unit.scores.items()},
                }
                for unit in self.units
            ],
            "skipped": [{"name": name, "error": reason} for name, reason in self.skipped],
        }

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, list[str]]]]:
        """Headings, and the name of every object with its numbers as text."""
        return ("pictures", *self.measures), [
            (unit.name, [str(unit.pictures), *(format_score(unit.scores[name]) for name in self.measures)])
            for unit in self.units
        ]

    def csv(self) -> str:
        """A row for every object."""
        rows = [{"name": unit.name, "pictures": unit.pictures, **unit.scores} for unit in self.units]
        return csv_text(rows, ("name", "pictures", *self.measures))


def evaluate_folder(
    root: Path, options: EvaluateOptions, watch: Watch | None = None, progress: Progress = report_nothing
) -> Evaluation:
    """Score a method on a folder of labelled data.

    DAVIS and its like: J, F and their mean for every object of every film, each the mean over its
    pictures without the first and the last (Pont-Tuset et al. 2017). PerSeg and folders: IoU and Boundary
    IoU of every object, pooled over its pictures.

    Raises
    ------
    ConfigError
        If the method does not go with the layout.
    InputError
        If nothing could be scored.
    """
    method = options.chosen
    foundation, _ = load_decoder(options.foundation, options.device, options.precision)
    films = options.layout in FILM_LAYOUTS
    measures = ("J&F", "J", "F") if films else ("IoU", "boundary IoU")
    result = Evaluation(options.layout, method, foundation.name, measures, seed=options.seed)
    items: Any = read_sequences(root, options.split) if films else read_groups(root, options.layout)
    items = items[: options.limit] if films or options.layout == "perseg" else items
    for done, item in enumerate(items, 1):
        try:
            scored = (
                score_film(item, method, foundation, options, watch)
                if films
                else score_group(item, method, foundation, options, watch)
            )
            result.units += list(scored)
        except DomainSamError as error:
            result.skipped.append((item.name, explain(error)[0]))
        progress("score", done, len(items))
    if not result.units:
        reason = result.skipped[0][1] if result.skipped else "it holds no object"
        raise ConfigError(f"{root}: nothing could be scored ({reason})")
    return result


def score_group(
    group: Group, method: str, foundation: Foundation, options: EvaluateOptions, watch: Watch | None
) -> Iterator[Unit]:
    """Pooled IoU and Boundary IoU of one object's pictures."""
    others = group.others
    if method in ("boxes", "points"):
        answer = _make_prompted(method, foundation)
        others = tuple(pair for pair in (group.reference, *others) if pair is not None)
    else:
        answer = _make_by_example(group, method, foundation)
    others = others[: options.limit] if options.layout == "folder" else others
    sums = np.zeros((2, 2))
    for pair in others:
        picture, truth = read_picture(pair.picture), _read_truth(pair)
        found = answer(picture, truth)
        sums += [count_overlap(truth, found), count_bands(truth, found)]
        if watch is not None:
            watch(f"{group.name}/{pair.picture.stem}", measure_region(truth, found), picture, truth, found)
    if not len(others):
        raise ConfigError(f"{group.name}: has no picture beside its example; add some")
    values = sums[:, 0] / np.maximum(sums[:, 1], 1)
    yield Unit(group.name, {"IoU": float(values[0]), "boundary IoU": float(values[1])}, len(others))


def _read_truth(pair: Example) -> Mask:
    return np.asarray(read_numbers(pair.mask) > 0)


def _make_by_example(
    group: Group, method: str, foundation: Foundation
) -> Callable[[NDArray[np.uint8], Mask], Mask]:
    """A function from a picture to the best place of what the group's reference shows."""
    if group.reference is None:
        raise ConfigError(f"{group.name}: has no example; add one")
    given = FindOptions(
        RunOptions(Path()),
        like=(),
        finetune=method.endswith("-f"),
        parity=method.startswith("persam"),
        search=ExampleOptions(always=True, most=1),
    )
    find = make_finder([group.reference], [], foundation, given)

    def answer(picture: NDArray[np.uint8], truth: Mask) -> Mask:
        found = find(picture)
        return found[0].mask if found else np.zeros(truth.shape, bool)

    return answer


def _make_prompted(method: str, foundation: Foundation) -> Callable[[NDArray[np.uint8], Mask], Mask]:
    """A function from a picture and its truth to what the truth's box, or a click in its middle, gives."""

    def answer(picture: NDArray[np.uint8], truth: Mask) -> Mask:
        if not truth.any():
            return np.zeros(truth.shape, bool)
        view = PictureView(lambda _: picture, 1, foundation)
        one = view.shrink_mask(truth)
        if method == "boxes":
            mark = SceneObject.marked(box=one.bounds.box)
        else:
            mark = SceneObject.marked((_middle(one),))
        return decode_marked(picture, view, [mark], foundation)[0].mask

    return answer


def _middle(one: SceneObject) -> Click:
    """The place farthest from the edge of an object: where evaluations set their first click."""
    from scipy import ndimage

    assert one.mask is not None
    depth = ndimage.distance_transform_edt(np.pad(one.mask, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return Click(one.bounds.col + int(col) + 0.5, one.bounds.row + int(row) + 0.5)


def score_film(
    film: Sequence, method: str, foundation: Foundation, options: EvaluateOptions, watch: Watch | None
) -> Iterator[Unit]:
    """J, F and their mean of every object of a film, marked by its mask where it is first labelled."""
    pictures = PictureFolder(film.folder)
    view = PictureView(pictures.read, pictures.frames, foundation)
    starts = _find_starts(film)
    objects = [
        view.shrink_mask(read_mask(film.masks[frame], number), frame) for number, frame in starts.items()
    ]
    given = TrackJobOptions(RunOptions(Path()), TrackOptions(), tracker=method)  # type: ignore[arg-type]
    answers: dict[int, NDArray[np.uint8]] = {}
    for answer in answer_frames(view, objects, foundation, given, Standing(Course(), [])):
        if answer.frame in film.masks:
            before = answers.get(answer.frame, np.zeros(view.shape, np.uint8))
            answers[answer.frame] = np.where(before > 0, before, answer.labels).astype(np.uint8)
    scored = [frame for frame in sorted(film.masks) if 0 < frame < pictures.frames - 1]
    for place, (number, start) in enumerate(starts.items(), 1):
        regions, contours = [], []
        for frame in scored:
            if frame <= start:
                continue
            truth = np.asarray(read_numbers(film.masks[frame]) == number)
            labels = enlarge_numbers(answers.get(frame, np.zeros(view.shape, np.uint8)), view.original)
            found = np.asarray(labels == place)
            regions.append(measure_region(truth, found))
            contours.append(measure_contour(truth, found))
            if watch is not None:
                watch(
                    f"{film.name}/{frame}, object {number}", regions[-1], pictures.read(frame), truth, found
                )
        if regions:
            j, f = float(np.mean(regions)), float(np.mean(contours))
            yield Unit(f"{film.name}, object {number}", {"J&F": (j + f) / 2, "J": j, "F": f}, len(regions))


def _find_starts(film: Sequence) -> dict[int, int]:
    """Numbers of a film's objects, and the first picture in which each is labelled."""
    starts: dict[int, int] = {}
    for frame in sorted(film.masks):
        numbers = read_numbers(film.masks[frame])
        # 255 marks what no score counts.
        for number in np.unique(numbers[(numbers > 0) & (numbers < 255)]).tolist():
            starts.setdefault(int(number), frame)
    return starts
