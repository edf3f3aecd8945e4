"""Objects of a film, followed from the pictures where they were marked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.documents import read_json
from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_decoder
from domainsam.infer.journal import JOURNAL_FILE, Journal
from domainsam.infer.outputs import OutputPlan
from domainsam.infer.pictures import PictureView
from domainsam.infer.workroom import WorkRoom, tidy_room
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.pips import PipsTracker
from domainsam.prompter.track import Ended, FrameAnswer, follow
from domainsam.prompter.trackers import FeatureTracker, FlowTracker, StillTracker, Tracker
from domainsam.protocols import Foundation, SceneObject
from domainsam.staging import Staging
from domainsam_photo.halfway import Halfway, Standing, describe_run
from domainsam_photo.read.films import Film, import_av, open_film
from domainsam_photo.read.marked import name_objects, read_marked
from domainsam_photo.read.pictures import read_numbers
from domainsam_photo.settings import TrackJobOptions
from domainsam_photo.write.masks import encode_numbers
from domainsam_photo.write.overlay import draw_overlay, write_film

SUMMARY = "track.json"
RAFT_FILE = "torchvision's file of raft_large or raft_small"
PIPS_FILE = "PIPS's public file (model-*.pth)"


@dataclass(frozen=True)
class TrackPlan(OutputPlan):
    """A film, and the files that are made of it."""

    film: Path
    folder: Path
    frames: int
    video: Path | None

    @property
    def summary(self) -> Path:
        """What became of the objects, JSON."""
        return self.folder / SUMMARY

    @property
    def masks(self) -> tuple[Path, ...]:
        """Numbers of the objects of every picture, PNG."""
        return tuple(self.folder / f"{frame:05d}.png" for frame in range(self.frames))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file."""
        return (self.summary, *self.masks, *(() if self.video is None else (self.video,)))

    @property
    def paths(self) -> dict[str, Path]:
        """Where what is, as a result tells it."""
        paths = {"masks": self.folder, "summary": self.summary}
        return paths if self.video is None else {**paths, "video": self.video}


@dataclass(frozen=True)
class TrackResult:
    """What became of a film."""

    film: Path
    frames: int
    labels: tuple[str, ...]
    seen: tuple[int, ...]
    ended: tuple[Ended, ...]
    paths: dict[str, Path]

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {
            "film": str(self.film),
            "pictures": self.frames,
            "objects": [
                {"number": number, "label": label, "seen_in": seen}
                for number, (label, seen) in enumerate(zip(self.labels, self.seen, strict=True), 1)
            ],
            "ended": [
                {"object": one.number, "picture": one.frame, "direction": one.direction, "reason": one.reason}
                for one in self.ended
            ],
            "outputs": {kind: str(path) for kind, path in self.paths.items()},
        }

    def lines(self) -> Iterator[str]:
        """The result for a person."""
        for number, (label, seen) in enumerate(zip(self.labels, self.seen, strict=True), 1):
            yield f"{self.film.name}: object {number} ({label}) is seen in {seen} of {self.frames} pictures"
        for one in self.ended:
            yield f"  object {one.number} ends {one.direction} at picture {one.frame}: {one.reason}"


def track_film(film: Path, options: TrackJobOptions, progress: Progress = report_nothing) -> TrackResult:
    """Follow marked objects through a film or a folder of pictures, and write a mask for every picture.

    Raises
    ------
    ConfigError
        If nothing says what to follow, or the tracker lacks its file.
    InputError
        If the film or the marks cannot be read, or marks lie outside.
    OutputError
        If an output exists or cannot be written.
    """
    if options.points is None and options.boxes is None and options.mask is None:
        raise ConfigError("nothing says what to follow; give --points, --boxes or --mask")
    if options.video is not None:
        import_av()
    run = options.run
    with open_film(film) as pictures:
        plan = TrackPlan(film, run.out, pictures.frames, options.video)
        if run.resume and plan.complete:
            tidy_room(plan.work)
            return _recall_result(plan)
        plan.check(plan.may_replace(run.overwrite, run.resume))
        foundation, precision = load_decoder(run.foundation, run.device, run.precision)
        with WorkRoom(plan.work, run.resume) as room:
            view = PictureView(pictures.read, pictures.frames, foundation)
            objects = read_marked(view, options.points, options.boxes, options.mask)
            about = describe_run(film, pictures, options, foundation, precision)
            with Journal(room.folder / JOURNAL_FILE, about, run.resume) as journal:
                halfway = Halfway(room.folder, journal)
                standing = halfway.begin(len(objects), foundation.device)
                _follow(view, objects, foundation, options, halfway, standing, progress)
            return _publish(plan, pictures, options, halfway, standing, name_objects(objects))


def _follow(
    view: PictureView,
    objects: list[SceneObject],
    foundation: Foundation,
    options: TrackJobOptions,
    halfway: Halfway,
    standing: Standing,
    progress: Progress,
) -> None:
    """Answer what is still to be answered, and keep it."""
    answers = answer_frames(view, objects, foundation, options, standing)
    for answer in answers:
        halfway.paint(answer.frame, enlarge_numbers(answer.labels, view.original))
        standing.seen = [
            before + (score > 0) for before, score in zip(standing.seen, answer.scores, strict=True)
        ]
        standing.answered += 1
        halfway.note(standing)
        progress("follow", standing.answered, view.frames)


def _publish(
    plan: TrackPlan,
    pictures: Film,
    options: TrackJobOptions,
    halfway: Halfway,
    standing: Standing,
    labels: list[str],
) -> TrackResult:
    """Put every file in place, or none; the masks of pictures without an answer are empty."""
    result = TrackResult(
        plan.film,
        plan.frames,
        tuple(labels),
        tuple(int(count) for count in standing.seen),
        tuple(standing.ended),
        plan.paths,
    )
    replace = plan.may_replace(options.run.overwrite, options.run.resume)
    with Staging(plan.files, overwrite=replace) as staging:
        nothing: bytes | None = None
        for frame, target in enumerate(plan.masks):
            if halfway.mask(frame).exists():
                staging.write_bytes(target, halfway.mask(frame).read_bytes())
            else:
                nothing = nothing or encode_numbers(np.zeros(pictures.read(0).shape[:2], np.uint8))
                staging.write_bytes(target, nothing)
        if plan.video is not None:
            _draw_film(staging[plan.video], pictures, [staging[path] for path in plan.masks])
        staging.write_text(plan.summary, json.dumps(result.document(), indent=2) + "\n")
    return result


def _recall_result(plan: TrackPlan) -> TrackResult:
    """What an earlier run told of a film that is complete."""
    told = read_json(plan.summary, "summary of a followed film")
    try:
        objects, ended = told["objects"], told["ended"]
        return TrackResult(
            plan.film,
            plan.frames,
            tuple(str(one["label"]) for one in objects),
            tuple(int(one["seen_in"]) for one in objects),
            tuple(Ended(one["object"], one["picture"], one["direction"], one["reason"]) for one in ended),
            plan.paths,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{plan.summary}: is no summary of a followed film; give --overwrite to follow it anew"
        ) from error


def answer_frames(
    view: PictureView,
    objects: list[SceneObject],
    foundation: Foundation,
    options: TrackJobOptions,
    standing: Standing,
) -> Iterator[FrameAnswer]:
    """Answers of the chosen tracker, picture by picture, from where a run stands.

    Raises
    ------
    ConfigError
        If SAM 2's memory is asked for without a foundation of SAM 2.
    """
    if options.tracker == "sam2":
        from domainsam.prompter.sam2_memory import follow_by_memory

        return follow_by_memory(view, objects, foundation, standing.course)
    tracker = make_tracker(options, foundation)
    return follow(view, objects, foundation, tracker, options.track, standing.ended, standing.course)


def make_tracker(options: TrackJobOptions, foundation: Foundation) -> Tracker:
    """The tracker of that name.

    Raises
    ------
    ConfigError
        If it is unknown or lacks its file.
    CheckpointError
        If its file is another's.
    """
    where = foundation.device
    makers: dict[str, Callable[[], Tracker]] = {
        "features": lambda: FeatureTracker(foundation.image_size),
        "still": StillTracker,
        "raft": lambda: FlowTracker(_need_file(options, RAFT_FILE), where),
        "pips": lambda: PipsTracker(_need_file(options, PIPS_FILE), where),
    }
    if options.tracker not in makers:
        raise ConfigError(f"no tracker is named {options.tracker!r}; expected {', '.join(makers)} or sam2")
    return makers[options.tracker]()


def _need_file(options: TrackJobOptions, what: str) -> Path:
    if options.tracker_weights is None:
        raise ConfigError(f"--tracker {options.tracker} needs {what}: --tracker-weights")
    return options.tracker_weights


def enlarge_numbers(numbers: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Numbers ``(h, w)`` at the size ``(H, W)`` of the original pictures."""
    return np.asarray(Image.fromarray(numbers).resize(size[::-1], Image.Resampling.NEAREST))


def _draw_film(path: Path, film: Film, masks: list[Path]) -> None:
    pictures = (
        (film.moment(frame), draw_overlay(film.read(frame), read_numbers(mask)))
        for frame, mask in enumerate(masks)
    )
    write_film(path, pictures, film.rate)
