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

from domainsam.errors import ConfigError
from domainsam.foundation import load_decoder
from domainsam.infer.pictures import PictureView
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.pips import PipsTracker
from domainsam.prompter.track import Ended, FrameAnswer, follow
from domainsam.prompter.trackers import FeatureTracker, FlowTracker, StillTracker, Tracker
from domainsam.protocols import Foundation, SceneObject
from domainsam.staging import Staging
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
        targets = [run.out / f"{frame:05d}.png" for frame in range(pictures.frames)]
        extra = [run.out / SUMMARY, *([options.video] if options.video is not None else [])]
        with Staging([*targets, *extra], overwrite=run.overwrite) as staging:
            foundation, _ = load_decoder(run.foundation, run.device, run.precision)
            view = PictureView(pictures.read, pictures.frames, foundation)
            objects = read_marked(view, options.points, options.boxes, options.mask)
            labels = name_objects(objects)
            ended: list[Ended] = []
            seen = np.zeros(len(objects), int)
            answers = answer_frames(view, objects, foundation, options, ended)
            for done, answer in enumerate(answers, 1):
                _store(staging[targets[answer.frame]], enlarge_numbers(answer.labels, view.original))
                seen += [score > 0 for score in answer.scores]
                progress("follow", done, pictures.frames)
            _fill_gaps([staging[path] for path in targets], view.original)
            paths = {"masks": run.out, "summary": run.out / SUMMARY}
            if options.video is not None:
                paths["video"] = options.video
                _draw_film(staging[options.video], pictures, [staging[path] for path in targets])
            result = TrackResult(
                film, pictures.frames, tuple(labels), tuple(map(int, seen)), tuple(ended), paths
            )
            staging.write_text(run.out / SUMMARY, json.dumps(result.document(), indent=2) + "\n")
    return result


def answer_frames(
    view: PictureView,
    objects: list[SceneObject],
    foundation: Foundation,
    options: TrackJobOptions,
    ended: list[Ended],
) -> Iterator[FrameAnswer]:
    """Answers of the chosen tracker, picture by picture.

    Raises
    ------
    ConfigError
        If SAM 2's memory is asked for without a foundation of SAM 2.
    """
    if options.tracker == "sam2":
        from domainsam.prompter.sam2_memory import follow_by_memory

        return follow_by_memory(view, objects, foundation)
    tracker = make_tracker(options, foundation)
    return follow(view, objects, foundation, tracker, options.track, ended)


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


def _store(path: Path, numbers: NDArray[np.uint8]) -> None:
    """Write a mask; where one direction has written already, only what it left free is painted."""
    if path.exists():
        before = read_numbers(path)
        numbers = np.where(before > 0, before, numbers).astype(np.uint8)
    path.write_bytes(encode_numbers(numbers))


def _fill_gaps(paths: list[Path], size: tuple[int, int]) -> None:
    """An empty mask for every picture without an answer."""
    for path in paths:
        if not path.exists():
            path.write_bytes(encode_numbers(np.zeros(size, np.uint8)))


def _draw_film(path: Path, film: Film, masks: list[Path]) -> None:
    pictures = (
        (film.moment(frame), draw_overlay(film.read(frame), read_numbers(mask)))
        for frame, mask in enumerate(masks)
    )
    write_film(path, pictures, film.rate)
