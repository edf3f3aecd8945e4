"""What the jobs of the pack may be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from domainsam.prompter.everything import EverythingOptions
    from domainsam.prompter.language.speakers import AskOptions
    from domainsam.prompter.search import ExampleOptions
    from domainsam.prompter.track import TrackOptions

TrackerName = Literal["features", "still", "raft", "pips", "sam2"]
TRACKERS: tuple[TrackerName, ...] = ("features", "still", "raft", "pips", "sam2")


@dataclass(frozen=True)
class RunOptions:
    """What every job is told: where its outputs go, and who decodes.

    Parameters
    ----------
    out
        Folder of the outputs.
    foundation
        Name or weight file; None for the embedded one.
    device, precision
        As the options of that name.
    overlay
        Also draw the objects over the pictures.
    overwrite, resume, quiet
        As the options of that name.
    made_by
        The command, as outputs tell it.
    """

    out: Path
    foundation: str | Path | None = None
    device: str = "auto"
    precision: str = "auto"
    overlay: bool = True
    overwrite: bool = False
    resume: bool = False
    quiet: bool = False
    made_by: str = "domainsam"


@dataclass(frozen=True)
class SegmentOptions:
    """Objects of one picture by marks."""

    run: RunOptions
    points: Path | None = None
    boxes: Path | None = None


@dataclass(frozen=True)
class FindOptions:
    """Objects of many pictures by example."""

    run: RunOptions
    search: ExampleOptions
    like: tuple[str, ...]
    unlike: tuple[str, ...] = ()
    finetune: bool = False
    parity: bool = False


@dataclass(frozen=True)
class ReferOptions:
    """Objects of one picture by words."""

    run: RunOptions
    ask: AskOptions


@dataclass(frozen=True)
class TrackJobOptions:
    """Objects of a film by marks in some of its pictures."""

    run: RunOptions
    track: TrackOptions
    points: Path | None = None
    boxes: Path | None = None
    mask: Path | None = None
    tracker: TrackerName = "features"
    tracker_weights: Path | None = None
    video: Path | None = None


@dataclass(frozen=True)
class LabelOptions:
    """What marked objects of a picture are called.

    Parameters
    ----------
    run
        ``out`` is a folder, or the current one where nothing is to be written.
    words, vocabulary, model
        Words one by one, a file of them, and the model that knows them.
    points, boxes, masks
        Files of marks, and a picture of numbers.
    least
        A word that fits less than this is none.
    writes
        Whether files are written.
    """

    run: RunOptions
    words: tuple[str, ...] = ()
    vocabulary: Path | None = None
    model: str | None = None
    points: Path | None = None
    boxes: Path | None = None
    masks: Path | None = None
    least: float = 0.0
    writes: bool = True


@dataclass(frozen=True)
class EverythingJobOptions:
    """Everything that pictures show."""

    run: RunOptions
    keep: EverythingOptions


@dataclass(frozen=True)
class SemanticOptions:
    """What every place of pictures shows.

    Parameters
    ----------
    run
        What every job is told.
    words, vocabulary
        Words one by one, and a file of them.
    vocabulary_model
        The model of words; None for the embedded one.
    refine
        Whether a foundation sharpens the map.
    """

    run: RunOptions
    words: tuple[str, ...] = ()
    vocabulary: Path | None = None
    vocabulary_model: str | None = None
    refine: bool = False
