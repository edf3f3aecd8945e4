"""What a person marked in photographs and films, in the pixels of a scaled view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError
from domainsam.grid import Grid
from domainsam.infer.pictures import PictureView
from domainsam.io.marks import read_marks
from domainsam.prompter.clicks import Clicks
from domainsam.protocols import Click, SceneObject, View
from domainsam_photo.read.pictures import read_mask, read_numbers, read_picture, require_set


@dataclass(frozen=True)
class Example:
    """A picture and the mask of an object in it, as ``--like PICTURE:MASK`` names them."""

    picture: Path
    mask: Path


@dataclass(frozen=True)
class Original:
    """What marks are checked against: the size of the original pictures, and how many there are."""

    shape: tuple[int, int]
    frames: int


def parse_example(text: str) -> Example:
    """``ref.jpg:mask.png`` in its two parts; a drive letter is part of a path.

    Raises
    ------
    ConfigError
        If it is of another form.
    """
    parts = [text[:place] for place, sign in enumerate(text) if sign == ":" and place != 1]
    for before in parts:
        after = text[len(before) + 1 :]
        if before and after:
            return Example(Path(before), Path(after))
    raise ConfigError(f"an example is {text!r}; expected PICTURE:MASK, such as ref.jpg:ref_mask.png")


def read_example(example: Example) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture ``(H, W, 3)`` of an example, and its mask ``(H, W)``.

    Raises
    ------
    MissingInputError, InputError
        If one cannot be read, nothing is marked, or they differ in size.
    """
    picture, mask = read_picture(example.picture), read_mask(example.mask)
    _check_size(example.mask, mask.shape, (picture.shape[0], picture.shape[1]))
    return picture, mask


def _check_size(path: Path, given: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if given != wanted:
        raise InputError(
            f"{path}: is {given[1]} x {given[0]} pixels; its picture is {wanted[1]} x {wanted[0]}: "
            "expected one size"
        )


def read_marked(
    view: PictureView, points: Path | None, boxes: Path | None, masks: Path | None = None
) -> list[SceneObject]:
    """Objects of files of marks and of a mask of numbers (picture 0), in the pixels of the view.

    Coordinates of files are pixels of the original pictures; ``slice`` is the number of the picture.

    Raises
    ------
    InputError
        If nothing is marked, or outside.
    """
    grid = Grid.of_pixels(view.original)
    objects: list[SceneObject] = []
    if points is not None:
        objects += read_marks(points, grid, frame="pixel", frames=view.frames)
    if boxes is not None:
        objects += read_marks(boxes, grid, kind="boxes", frame="pixel", frames=view.frames)
    list(Clicks(objects, "marks").find(cast(View, Original(view.original, view.frames))))
    scaled = [scale_object(one, view) for one in objects]
    if masks is not None:
        numbers = read_numbers(masks)
        require_set(masks, numbers > 0)
        _check_size(masks, numbers.shape, view.original)
        scaled += [
            view.shrink_mask(np.asarray(numbers == number)) for number in np.unique(numbers[numbers > 0])
        ]
    if not scaled:
        raise InputError("nothing is marked; give points, boxes or a mask")
    return scaled


def scale_object(one: SceneObject, view: PictureView) -> SceneObject:
    """An object in pixels of the original picture, in those of the view."""
    rows, cols = view.shape
    down, across = rows / view.original[0], cols / view.original[1]
    if one.mask is not None:
        whole = np.zeros(view.original, bool)
        whole[one.bounds.slices] = one.mask
        return view.shrink_mask(whole, one.bounds.frame)
    points = tuple(
        Click(min(p.x * across, cols - 0.01), min(p.y * down, rows - 0.01), p.inside) for p in one.points
    )
    box = one.box
    if box is not None:
        box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return SceneObject.marked(points, box, one.bounds.frame, one.label, one.score)


def name_objects(objects: Sequence[SceneObject]) -> list[str]:
    """Labels of objects; ``object`` where one bears none."""
    return [one.label or "object" for one in objects]
