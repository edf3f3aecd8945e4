"""Masks as PNG with a palette, and as COCO's run lengths."""

from __future__ import annotations

import colorsys
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GOLDEN = 0.61803398875
"""Hue to hue by the golden ratio: neighbours in number are far apart in colour."""


def choose_colour(number: int) -> tuple[int, int, int]:
    """Colour of an object by its number, from 1; black for 0."""
    if number == 0:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb((0.02 + (number - 1) * GOLDEN) % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def encode_numbers(numbers: NDArray[np.uint8]) -> bytes:
    """Numbers of objects ``(H, W)`` as PNG with a palette, as DAVIS stores its masks."""
    image = Image.fromarray(numbers, "L")
    image.putpalette([part for number in range(256) for part in choose_colour(number)])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def encode_map(numbers: NDArray[np.uint16], words: int) -> bytes:
    """Numbers of words ``(H, W)`` as PNG: with a palette for up to 255 words, as grey of 16 bits for more."""
    if words <= 255:
        return encode_numbers(numbers.astype(np.uint8))
    file = io.BytesIO()
    Image.fromarray(numbers.astype(np.uint16)).save(file, "PNG")
    return file.getvalue()


def number_masks(masks: Sequence[NDArray[np.bool_]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Masks ``(H, W)`` as numbers, from 1; where several lie, the first. Beyond 255 they share the last."""
    numbers = np.zeros(shape, np.uint8)
    for number, mask in reversed(list(enumerate(masks, 1))):
        numbers[mask] = min(number, 255)
    return numbers


def encode_runs(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's run lengths of a mask: column by column, beginning with how many are not set."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    ends = np.concatenate([[0], edges, [len(flat)]])
    counts = np.diff(ends).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + counts}


def describe_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's ``segmentation``, ``bbox`` (left, top, width, height) and ``area`` of a mask, not empty."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [int(cols[0]), int(rows[0]), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1]
    return {"segmentation": encode_runs(mask), "area": int(mask.sum()), "bbox": box, "iscrowd": 0}


def join_coco(pictures: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """One COCO file of the documents of several pictures; categories are numbered by their names."""
    names = sorted({one["label"] for picture in pictures for one in picture["objects"]})
    numbers = {name: number for number, name in enumerate(names, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, picture in enumerate(pictures, 1):
        images.append(
            {
                "id": image,
                "file_name": picture["picture"],
                "width": picture["width"],
                "height": picture["height"],
            }
        )
        for one in picture["objects"]:
            entry = {key: value for key, value in one.items() if key not in ("label", "number")}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": numbers[one["label"]], **entry}
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    document = {"info": dict(about), "images": images, "annotations": annotations, "categories": categories}
    return json.dumps(document) + "\n"
