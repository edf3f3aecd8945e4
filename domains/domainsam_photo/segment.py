"""Objects of a picture that a person marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.foundation import load_decoder
from domainsam.foundation.picture import FITS, fit_longest
from domainsam.foundations import find_foundations
from domainsam.grid import Grid
from domainsam.infer.blend import NODATA
from domainsam.infer.found import UNNAMED
from domainsam.infer.objects import EngineResult
from domainsam.infer.pictures import PictureView
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import TileGrid
from domainsam.prompts import PromptSet
from domainsam.protocols import Block, Foundation, SceneObject, Window
from domainsam.staging import check_targets
from domainsam_photo.job import PictureResult, Shown, plan_pictures, write_annotations, write_picture
from domainsam_photo.read.marked import read_marked
from domainsam_photo.read.pictures import read_picture
from domainsam_photo.settings import RunOptions, SegmentOptions


def segment_picture(picture: Path, options: SegmentOptions) -> PictureResult:
    """Decode what files of marks mark in one picture, and write it.

    Raises
    ------
    ConfigError
        If no file of marks is named.
    InputError
        If a file cannot be read, or nothing is marked inside the picture.
    OutputError
        If an output exists or cannot be written.
    """
    if options.points is None and options.boxes is None:
        raise ConfigError("nothing says what to segment; give --points or --boxes")
    run = options.run
    plan = plan_pictures([picture], run.out, run.overlay)[0]
    check_targets(plan.files, run.overwrite)
    image = read_picture(picture)
    foundation, _ = load_decoder(run.foundation, run.device, run.precision)
    view = PictureView(lambda _: image, 1, foundation)
    objects = read_marked(view, options.points, options.boxes)
    found = decode_marked(image, view, objects, foundation)
    result = write_picture(plan, image, found, run.overwrite)
    write_annotations([plan], run.out, run.made_by, foundation.name)
    return result


def decode_marked(
    image: NDArray[np.uint8], view: PictureView, objects: Sequence[SceneObject], foundation: Foundation
) -> list[Shown]:
    """Masks of marked objects, in their order, each decoded by itself as SAM's predictor does.

    The picture is fitted to the foundation as its own code does it; one click alone is read in three
    ways, of which the foundation's most trusted is taken.
    """
    row = find_foundations().get(foundation.name)
    images, fit = (fit_longest if row is None else FITS[row.fit])(image, foundation.image_size)
    found = []
    with torch.inference_mode():
        features = foundation.encode(images.to(foundation.device))
        for one in objects:
            prompts = fit.prompts(_prompt(one, view))
            alone = len(one.points) == 1 and one.box is None
            masks = foundation.decode(features, prompts, alone).best()
            mask = np.asarray((fit.masks(masks.logits.float())[0, 0] > 0).cpu().numpy())
            found.append(Shown(mask, float(masks.iou[0, 0].clamp(0, 1)), one.label or "object"))
    return found


def _prompt(one: SceneObject, view: PictureView) -> PromptSet:
    """An object of a view as a prompt in pixels of the original picture; a rough mask counts as its box."""
    across, down = view.original[1] / view.shape[1], view.original[0] / view.shape[0]
    box = one.box
    if one.mask is not None and box is None:
        box = one.bounds.box
    points = [[p.x * across, p.y * down, float(p.inside)] for p in one.points]
    if box is not None:
        box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return PromptSet.from_one(torch.tensor([points]) if points else None, box)


class PhotoSource:
    """A picture at its own resolution as a :class:`~domainsam.protocols.Source`.

    Raises
    ------
    MissingInputError, InputError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.picture = path, read_picture(path)

    @property
    def grid(self) -> Grid:
        """Pixels; a picture has no place on the ground."""
        return Grid.of_pixels((self.picture.shape[0], self.picture.shape[1]))

    def read(self, window: Window) -> Block:
        """One block; parts outside the picture are invalid."""
        image = np.zeros((3, window.height, window.width), np.float32)
        valid = np.zeros((window.height, window.width), bool)
        top, left = max(0, window.row), max(0, window.col)
        part = self.picture[
            top : max(0, window.row + window.height), left : max(0, window.col + window.width)
        ]
        rows = slice(top - window.row, top - window.row + part.shape[0])
        cols = slice(left - window.col, left - window.col + part.shape[1])
        image[:, rows, cols] = part.transpose(2, 0, 1).astype(np.float32) / 255
        valid[rows, cols] = True
        return Block(window, image, valid)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover the picture, row by row."""
        for window in TileGrid.cover(self.grid.frame_shape, size, overlap).windows():
            yield self.read(window)


def write_found(
    source: PhotoSource, answer: EngineResult, run: RunOptions, foundation: Foundation
) -> PictureResult:
    """Write what was found in an opened picture, a mask for every label.

    Raises
    ------
    OutputError
        If an output exists or cannot be written.
    """
    names = answer.names or (UNNAMED,)
    scores: dict[str, list[float]] = {name: [] for name in names}
    for one in answer.objects:
        scores[one.label or UNNAMED].append(one.score)
    path = answer.labels or answer.probability
    rows, cols = answer.shape
    with RawRaster.open(path, answer.shape, answer.frames) as stored:
        values = stored.read(Window(0, 0, rows, cols))
    if answer.labels is None:
        values = np.where(values == NODATA, 0, values >= answer.level).astype(np.uint8)
    found = [
        Shown(np.asarray(values == number), max(scores[name], default=0.0), name)
        for number, name in enumerate(names, 1)
    ]
    plan = plan_pictures([source.path], run.out, run.overlay)[0]
    result = write_picture(plan, source.picture, found, run.overwrite)
    write_annotations([plan], run.out, run.made_by, foundation.name)
    return result
