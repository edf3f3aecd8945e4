"""The files of one picture before, its result after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam import __version__
from domainsam.documents import read_json
from domainsam.errors import InputError
from domainsam.foundation import load_decoder
from domainsam.infer.batch import Batch as CoreBatch
from domainsam.infer.batch import run_batch
from domainsam.infer.outputs import OutputPlan
from domainsam.infer.pictures import PictureView
from domainsam.limits import tell_changing
from domainsam.protocols import Foundation, PromptSource
from domainsam.staging import Staging, check_apart
from domainsam_photo.read.pictures import find_pictures, read_picture
from domainsam_photo.settings import RunOptions
from domainsam_photo.write.masks import describe_mask, encode_numbers, join_coco, number_masks
from domainsam_photo.write.overlay import draw_overlay, encode_jpeg

ANNOTATIONS = "annotations.json"
"""COCO's file for all pictures of a run."""


@dataclass(frozen=True)
class PicturePlan(OutputPlan):
    """A picture, and the files that are made of it in a folder."""

    picture: Path
    folder: Path
    overlay: bool

    @property
    def masks(self) -> Path:
        """Numbers of the objects, PNG."""
        return self.folder / f"{self.picture.stem}.png"

    @property
    def objects(self) -> Path:
        """Scores and masks of the objects, JSON."""
        return self.folder / f"{self.picture.stem}.json"

    @property
    def drawn(self) -> Path:
        """The picture with its objects over it, JPEG."""
        return self.folder / f"{self.picture.stem}_overlay.jpg"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file."""
        return (self.masks, self.objects, *((self.drawn,) if self.overlay else ()))


@dataclass(frozen=True, eq=False)
class Shown:
    """An object of a picture: its mask ``(H, W)`` at the size of the picture, score and label."""

    mask: NDArray[np.bool_]
    score: float
    label: str = "object"


Finder = Callable[[NDArray[np.uint8]], list[Shown]]
"""From a picture to its objects."""


@dataclass(frozen=True)
class PictureResult:
    """What became of one picture."""

    picture: Path
    count: int
    scores: tuple[float, ...]
    paths: dict[str, Path]
    told: Mapping[str, Any] = field(default_factory=dict)
    """What is told of a search by words; empty where there was none."""

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {
            "picture": str(self.picture),
            "objects": self.count,
            "scores": [round(score, 4) for score in self.scores],
            **({"asked": dict(self.told)} if self.told else {}),
            "outputs": {kind: str(path) for kind, path in self.paths.items()},
        }

    def sentence(self) -> str:
        """One line for a person."""
        if not self.count:
            return f"{self.picture.name}: nothing found{self._tell_why()}"
        best = f", best score {max(self.scores):.2f}"
        return f"{self.picture.name}: {self.count} object{'s' * (self.count > 1)}{best}"

    def _tell_why(self) -> str:
        """Whether a model that was asked says that there is nothing, or says nothing of use."""
        if not self.told:
            return ""
        if self.told["unanswered"]:
            return f"; {self.told['model']} gave no answer: {self.told['unanswered_first'][0]['why']}"
        return f"; {self.told['model']} says that it shows no such object" if self.told["nothing"] else ""


class Batch(CoreBatch[PictureResult]):
    """What became of several pictures."""

    plural = "pictures"
    key = "picture"


def plan_pictures(pictures: Sequence[Path], folder: Path, overlay: bool) -> tuple[PicturePlan, ...]:
    """The files of every picture.

    Raises
    ------
    ConfigError
        If two pictures would share a file.
    OutputError
        If an output is one of the pictures.
    """
    plans = tuple(PicturePlan(picture, folder, overlay) for picture in pictures)
    targets = [path for plan in plans for path in plan.files]
    check_apart([*targets, folder / ANNOTATIONS], pictures, "pictures")
    return plans


def write_picture(
    plan: PicturePlan,
    picture: NDArray[np.uint8],
    found: Sequence[Shown],
    overwrite: bool,
    told: Mapping[str, Any] | None = None,
) -> PictureResult:
    """Write what was found in one picture, every file or none; ``told`` is what a search by words tells.

    Raises
    ------
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    shape = (picture.shape[0], picture.shape[1])
    kept = [one for one in found if one.mask.any()]
    numbers = number_masks([one.mask for one in kept], shape)
    document = {
        "picture": plan.picture.name,
        "width": shape[1],
        "height": shape[0],
        "objects": [
            {"number": number, "label": one.label, "score": round(one.score, 4), **describe_mask(one.mask)}
            for number, one in enumerate(kept, 1)
        ],
        **({"asked": dict(told)} if told else {}),
    }
    paths = {"masks": plan.masks, "objects": plan.objects}
    with Staging(plan.files, overwrite=overwrite) as staging:
        staging.write_bytes(plan.masks, encode_numbers(numbers))
        staging.write_text(plan.objects, json.dumps(document) + "\n")
        if plan.overlay:
            staging.write_bytes(plan.drawn, encode_jpeg(draw_overlay(picture, numbers)))
            paths["overlay"] = plan.drawn
    return PictureResult(plan.picture, len(kept), tuple(one.score for one in kept), paths, told or {})


def find_by(source: PromptSource, foundation: Foundation) -> Finder:
    """What finds the objects of a picture by a source, masks at the size of the picture."""

    def find(picture: NDArray[np.uint8]) -> list[Shown]:
        view = PictureView(lambda _: picture, 1, foundation)
        return [Shown(view.enlarge_mask(one), one.score) for one in source.find(view)]

    return find


def run_pictures(
    inputs: Iterable[Path],
    run: RunOptions,
    make_finder: Callable[[Foundation], Finder],
    watch: Callable[[PictureResult], None] | None = None,
) -> Batch:
    """Find objects in pictures, and in folders of pictures, and write them.

    Parameters
    ----------
    make_finder
        Called once, if there is anything to do: gives what finds the objects of a picture.
    watch
        Called with every result as soon as it is there.

    Raises
    ------
    InputError
        If nothing can be read.
    OutputError
        If an output exists or cannot be written.
    """
    plans = plan_pictures(find_pictures(inputs), run.out, run.overlay)
    overwrite = run.overwrite or run.resume
    names: list[str] = []

    def prepare() -> Callable[[PicturePlan], PictureResult]:
        foundation, _ = load_decoder(run.foundation, run.device, run.precision)
        names.append(foundation.name)
        find = make_finder(foundation)

        def work(plan: PicturePlan) -> PictureResult:
            picture = read_picture(plan.picture)
            return write_picture(plan, picture, find(picture), overwrite)

        return work

    batch = run_batch(
        plans,
        lambda plan: str(plan.picture),
        prepare,
        Batch,
        resume=run.resume,
        overwrite=overwrite,
        watch=watch,
    )
    if names:
        write_annotations(plans, run.out, run.made_by, names[0])
    return batch


def write_annotations(plans: Sequence[PicturePlan], folder: Path, made_by: str, foundation: str) -> None:
    """Make COCO's file of all pictures that are done anew, by name, where any is.

    Pictures of earlier runs into the same folder stay in it as long as their own files are there.
    """
    path = folder / ANNOTATIONS
    done = sorted({plan.objects for plan in plans if plan.objects.is_file()} | _find_earlier(path))
    if not done:
        return
    documents = [read_json(one, "objects of a picture", most=1 << 30) for one in done]
    about = {
        "description": "objects found by domainsam",
        "version": __version__,
        "made_by": tell_changing(made_by) or "domainsam",
        "foundation": foundation,
    }
    with Staging([path], overwrite=True) as staging:
        staging.write_text(path, join_coco(documents, about))


def _find_earlier(path: Path) -> set[Path]:
    """Files of objects of the pictures that an earlier COCO file names, as far as they are there."""
    if not path.is_file():
        return set()
    try:
        named = read_json(path, "COCO's file of an earlier run", most=1 << 30)["images"]
        stems = [Path(str(one["file_name"])).stem for one in named]
    except (InputError, KeyError, TypeError):
        # Another's file, which is about to be replaced.
        return set()
    files = {path.parent / f"{stem}.json" for stem in stems if stem}
    return {file for file in files if file != path and file.is_file()}
