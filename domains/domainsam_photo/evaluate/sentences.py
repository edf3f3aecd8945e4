"""RefCOCO and its like: sentences that mean an object of a picture, and COCO's masks."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.documents import read_json
from domainsam.errors import DependencyError, InputError, MissingInputError
from domainsam_photo.evaluate.naming import MOST_JSON, find_picture, index_pictures


@dataclass(frozen=True)
class Sentence:
    """A sentence that means an object of a picture; ``key`` is what its answer's file is called."""

    key: str
    text: str
    picture: Path
    size: tuple[int, int]
    segmentation: Any


class _Plain(pickle.Unpickler):
    """Reads pickles of plain values alone: nothing in the file is run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def read_sentences(root: Path, split: str | None = None, refs: Path | None = None) -> tuple[Sentence, ...]:
    """RefCOCO, RefCOCO+ and RefCOCOg as published: ``refs(BY).p`` and ``instances.json``, pictures below.

    Raises
    ------
    MissingInputError
        If a file is absent.
    InputError
        If one is of another layout, or holds anything but plain values.
    """
    path = refs or _only(root, "refs(*).p")
    told = read_json(root / "instances.json", "RefCOCO's instances", most=MOST_JSON)
    places = index_pictures(root)
    try:
        with io.BytesIO(path.read_bytes()) as file:
            listed = _Plain(file, encoding="latin1").load()
        objects = {int(one["id"]): one for one in told["annotations"]}
        sizes = {int(one["id"]): (int(one["height"]), int(one["width"])) for one in told["images"]}
        files = {int(one["id"]): str(one["file_name"]) for one in told["images"]}
        wanted = [one for one in listed if split is None or one["split"] == split]
        found = [
            Sentence(
                str(sentence["sent_id"]),
                str(sentence["sent"]),
                find_picture(places, files[int(one["image_id"])], root),
                sizes[int(one["image_id"])],
                objects[int(one["ann_id"])]["segmentation"],
            )
            for one in wanted
            for sentence in one["sentences"]
        ]
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
    ) as error:
        raise InputError(
            f"{path}: is not RefCOCO's list of plain values ({error}); fetch it again"
        ) from error
    if not found:
        raise InputError(f"{path}: has no sentence of split {split!r}")
    return tuple(found)


def _only(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        raise MissingInputError(
            f"{root}: holds {len(found)} files {pattern}; expected one: name it by --annotations"
        )
    return found[0]


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """COCO's polygons or run lengths, packed or not, as a mask ``(H, W)``, as pycocotools fills them.

    Raises
    ------
    DependencyError
        If polygons or packed runs are given and pycocotools is not installed.
    InputError
        If it is none of these.
    """
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
        height, width = segmentation["size"]
        counts = segmentation["counts"]
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        if flat.size != height * width:
            raise InputError(f"run lengths sum to {flat.size}; expected {height} x {width}")
        return np.ascontiguousarray(flat.reshape((height, width), order="F"))
    tool = _import_coco()
    try:
        with warnings.catch_warnings():
            # pycocotools hands NumPy 2 an array in an outdated way.
            warnings.simplefilter("ignore", DeprecationWarning)
            if isinstance(segmentation, list):
                segmentation = tool.merge(tool.frPyObjects(segmentation, *size))
            return np.asarray(tool.decode(segmentation) > 0)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"a segmentation is neither polygons nor run lengths ({error})") from error


def _import_coco() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise DependencyError("COCO's polygons need pycocotools: pip install 'domainsam[coco]'") from error
    return mask


def iterate(sentences: tuple[Sentence, ...]) -> Iterator[tuple[Path, list[Sentence]]]:
    """Sentences by picture, so that each picture is read once."""
    order: dict[Path, list[Sentence]] = {}
    for one in sentences:
        order.setdefault(one.picture, []).append(one)
    yield from order.items()
