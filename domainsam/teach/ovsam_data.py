"""Named masks for CLIP2SAM: pictures of COCO's layout, flipped, scaled and cropped as published."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from domainsam.assess.examples import read_picture
from domainsam.distil.pictures import choose_held_back
from domainsam.errors import InputError, MissingInputError
from domainsam.protocols import Word
from domainsam.vocabulary.words import fold

SCALES = (0.9, 2.0)
"""Of a picture whose longer side fits the input, by chance."""
LEAST_PIXELS = 32
"""Visible pixels of an object that is asked for (the published ``min_gt_mask_area``)."""
TRIES = 8
PICTURE_FOLDERS = ("train2017", "train", "images", "val2017", "val", "")


@dataclass(frozen=True)
class NamedPicture:
    """A picture and its objects: words' numbers, and COCO's annotations of their masks."""

    path: Path
    labels: tuple[int, ...]
    annotations: tuple[Any, ...]


@dataclass(frozen=True)
class NamedBatch:
    """Pictures, and objects in them that are asked for.

    ``images`` ``(B, 3, S, S)`` float32 in 0 to 1, ``seen`` ``(B, S, S)`` bool where they show the picture;
    of each of ``N`` objects ``index`` (its picture), ``labels``, ``boxes`` ``(N, 4)``, ``points`` ``(N, 2)``,
    ``masks`` ``(N, S, S)`` bool, and ``by_box``, whether it is asked for by its box, else by the point.
    """

    images: Tensor
    seen: Tensor
    index: Tensor
    labels: Tensor
    boxes: Tensor
    points: Tensor
    masks: Tensor
    by_box: Tensor

    def to(self, device: torch.device) -> NamedBatch:
        """The same on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


def find_annotations(folder: Path) -> Path | None:
    """COCO's file of a data set, None where there is none: that of ``annotations/`` that is for training."""
    if folder.suffix == ".json":
        return folder
    found = sorted((folder / "annotations").glob("*.json"))
    training = [path for path in found if "train" in path.stem]
    return next(iter(training or found), None)


def read_named(folder: Path, base: Sequence[Word] | None) -> tuple[tuple[Word, ...], list[NamedPicture]]:
    """The words that are learnt, and the pictures with objects that bear them.

    Parameters
    ----------
    folder
        Holds ``annotations/*.json`` and pictures in a folder beside it; or that file itself.
    base
        The words to learn; None for all categories.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is none of COCO's, a word is no category of it, or nothing is left to learn from.
    DependencyError
        If pycocotools is not installed.
    """
    file = find_annotations(folder)
    if file is None or not file.is_file():
        raise MissingInputError(
            f"'{folder}': holds no annotations/*.json; stage 2 learns from named masks of COCO's layout"
        )
    from pycocotools.coco import COCO

    try:
        with redirect_stdout(io.StringIO()):
            table = COCO(str(file))
        names = {int(row["id"]): str(row["name"]).replace("_", " ") for row in table.dataset["categories"]}
    except (ValueError, KeyError, AssertionError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"'{file}' is no file of COCO's: {error}") from error
    words = tuple(map(Word, names.values())) if base is None else tuple(base)
    numbers = {fold(phrase): number for number, word in enumerate(words) for phrase in word.phrases}
    known = {fold(name) for name in names.values()}
    strange = [word.name for word in words if not any(fold(phrase) in known for phrase in word.phrases)]
    if strange:
        raise InputError(f"'{file}' has no category {', '.join(map(repr, strange[:3]))}; it has {len(names)}")
    root = file.parent if folder.suffix == ".json" else folder
    pictures = []
    for image in sorted(table.imgs):
        rows = table.loadAnns(table.getAnnIds(imgIds=image, iscrowd=False))
        kept = [
            (numbers[fold(names[row["category_id"]])], row)
            for row in rows
            if fold(names[row["category_id"]]) in numbers
        ]
        if kept:
            labels, annotations = zip(*kept, strict=True)
            pictures.append(
                NamedPicture(_find(root, table.imgs[image]["file_name"], file), labels, annotations)
            )
    if not pictures:
        raise InputError(f"'{file}': no object bears one of the {len(words)} words to learn")
    return words, pictures


def _find(root: Path, name: str, file: Path) -> Path:
    for folder in PICTURE_FOLDERS:
        if (root / folder / name).is_file():
            return root / folder / name
    raise InputError(
        f"'{file}' names {name}, which lies in no folder beside it: {', '.join(PICTURE_FOLDERS[:-1])}"
    )


def split_named(
    pictures: Sequence[NamedPicture], share: float
) -> tuple[list[NamedPicture], list[NamedPicture]]:
    """Pictures that teach, and those that are held back; by their names, as good as by chance."""
    from hashlib import sha256

    keys = [sha256(one.path.name.encode()).hexdigest() for one in pictures]
    held = choose_held_back(keys, share)
    teach = [one for one, key in zip(pictures, keys, strict=True) if key not in held]
    return teach, [one for one, key in zip(pictures, keys, strict=True) if key in held]


class NamedStream:
    """Batches by step: every picture once an epoch, in an order by chance.

    Parameters
    ----------
    side
        Of the square input in pixels.
    prompts
        Objects that are asked for in a picture; fewer objects come again.
    still
        Fit whole pictures, without chance, to judge.
    """

    def __init__(
        self,
        pictures: Sequence[NamedPicture],
        side: int,
        batch_size: int,
        prompts: int,
        seed: int = 0,
        rank: int = 0,
        still: bool = False,
    ) -> None:
        self.pictures, self.side, self.batch_size = pictures, side, batch_size
        self.prompts, self.seed, self.rank, self.still = prompts, seed, rank, still

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, step: int) -> NamedBatch:
        """The batch of a step."""
        rows = []
        for place in range(step * self.batch_size, (step + 1) * self.batch_size):
            epoch, number = divmod(place, len(self.pictures))
            order = np.random.default_rng((self.seed, self.rank, epoch)).permutation(len(self.pictures))
            chosen = number if self.still else int(order[number])
            rows.append(
                self._show(self.pictures[chosen], np.random.default_rng((self.seed, self.rank, place)))
            )
        index = torch.cat([torch.full((len(row[2]),), number) for number, row in enumerate(rows)])
        columns = list(zip(*rows, strict=True))
        return NamedBatch(
            torch.stack(columns[0]),
            torch.stack(columns[1]),
            index,
            *(torch.cat(column) for column in columns[2:]),
        )

    def _show(self, one: NamedPicture, rng: np.random.Generator) -> tuple[Tensor, ...]:
        picture = read_picture(one.path)
        outlines = [draw_mask(row, (picture.shape[0], picture.shape[1])) for row in one.annotations]
        for attempt in range(TRIES + 1):
            whole = self.still or attempt == TRIES
            window = self._place(picture.shape[:2], None if whole else rng)
            image, seen = _cut(picture, window, self.side, Image.Resampling.BILINEAR)
            masks = [_cut(mask, window, self.side, Image.Resampling.NEAREST)[0] > 0 for mask in outlines]
            kept = [
                number for number, mask in enumerate(masks) if mask.sum() >= (1 if whole else LEAST_PIXELS)
            ]
            if kept:
                return self._ask(one, image, seen, masks, kept, rng)
        raise InputError(
            f"{one.path}: none of its objects has a pixel once it fits {self.side} pixels; leave it out"
        )

    def _place(self, shape: Sequence[int], rng: np.random.Generator | None) -> tuple[float, int, int, bool]:
        """Scale, top, left (of the scaled picture) and whether it is mirrored."""
        scale = self.side / max(shape[0], shape[1])
        if rng is None:
            return scale, 0, 0, False
        scale *= float(rng.uniform(*SCALES))
        height, width = (max(1, round(length * scale)) for length in shape[:2])
        top = int(rng.integers(max(0, height - self.side) + 1))
        left = int(rng.integers(max(0, width - self.side) + 1))
        return scale, top, left, bool(rng.random() < 0.5)

    def _ask(
        self,
        one: NamedPicture,
        image: NDArray[Any],
        seen: NDArray[np.bool_],
        masks: Sequence[NDArray[np.bool_]],
        kept: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, ...]:
        """Half of what is asked for by its box, the other half by a point on it, in an order by chance."""
        order = rng.permutation(len(kept))
        chosen = [kept[int(order[number % len(kept)])] for number in range(self.prompts)]
        boxes, points = [], []
        for number in chosen:
            rows, cols = np.nonzero(masks[number])
            boxes.append((cols.min(), rows.min(), cols.max() + 1, rows.max() + 1))
            place = int(rng.integers(len(rows)))
            points.append((cols[place] + 0.5, rows[place] + 0.5))
        return (
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255,
            torch.from_numpy(seen),
            torch.tensor([one.labels[number] for number in chosen]),
            torch.tensor(np.array(boxes), dtype=torch.float32),
            torch.tensor(np.array(points), dtype=torch.float32),
            torch.from_numpy(np.stack([masks[number] for number in chosen])),
            torch.from_numpy(rng.permutation(self.prompts) < (self.prompts + 1) // 2),
        )


def draw_mask(row: Any, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask ``(H, W)`` 0 or 1 of an annotation: polygons, or runs of either kind."""
    from pycocotools import mask as runs

    outline = row["segmentation"]
    if isinstance(outline, list):
        coded = runs.merge(runs.frPyObjects(outline, *shape))
    elif isinstance(outline["counts"], list):
        coded = runs.frPyObjects(outline, *shape)
    else:
        coded = outline
    return np.asarray(runs.decode(coded), np.uint8)


def _cut(
    values: NDArray[np.uint8], place: tuple[float, int, int, bool], side: int, how: Image.Resampling
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A square of a scaled picture, and where it shows some of it."""
    scale, top, left, mirrored = place
    height, width = (max(1, round(length * scale)) for length in values.shape[:2])
    scaled = np.asarray(Image.fromarray(values).resize((width, height), how))
    part = scaled[top : top + side, left : left + side]
    if mirrored:
        part = part[:, ::-1]
    out = np.zeros((side, side, *values.shape[2:]), np.uint8)
    out[: part.shape[0], : part.shape[1]] = part
    seen = np.zeros((side, side), bool)
    seen[: part.shape[0], : part.shape[1]] = True
    return out, seen
