"""What another arithmetic costs: IoU and time of the same foundation in float32, bfloat16 and int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.assess.accuracy import BOX, measure_accuracy
from domainsam.assess.examples import LEAST_PIXELS, Example, read_folder, read_pictures
from domainsam.errors import InputError, MissingInputError
from domainsam.foundation.picture import FITS
from domainsam.foundations import find_foundations
from domainsam.prompts import PromptSet
from domainsam.protocols import Foundation

PROMPTS = (BOX, "1")
GRID = (0.25, 0.5, 0.75)
"""Places of clicks, as shares of a side, where nobody says what objects there are."""
MOST_SHARE = 0.9
"""Of a picture: a mask that covers more is none of an object."""


def choose_examples(foundation: Foundation, folder: Path, most: int) -> tuple[list[Example], bool]:
    """Pictures with the objects that masks beside them tell; else with those that the foundation finds.

    Returns
    -------
    examples, known
        At most ``most`` pictures; whether the objects are known from masks.

    Raises
    ------
    MissingInputError, InputError
        If there is no picture, or none holds an object.
    """
    try:
        return list(islice(read_folder(folder), most)), True
    except MissingInputError:
        pictures = read_pictures(folder, most)
    found = [_find_objects(foundation, picture) for picture in pictures]
    examples = [one for one in found if len(one.masks)]
    if not examples:
        raise InputError(
            f"{foundation.name} finds no object in the pictures of '{folder}': give masks beside them"
        )
    return examples, False


def _find_objects(foundation: Foundation, picture: NDArray[np.uint8]) -> Example:
    """What a foundation takes for objects at clicks on a grid."""
    images, fit = FITS[find_foundations()[foundation.name].fit](picture, foundation.image_size)
    height, width = picture.shape[:2]
    clicks = torch.tensor([[[x * width, y * height, 1.0]] for y in GRID for x in GRID])
    count = len(clicks)
    given = PromptSet(
        torch.zeros(count, dtype=torch.int64),
        torch.ones(count, dtype=torch.int64),
        torch.ones(count),
        points=clicks,
    )
    with torch.inference_mode():
        answer = foundation.decode(foundation.encode(images), fit.prompts(given), multimask=True).best()
        masks = (fit.masks(answer.logits.float().cpu())[:, 0] > 0).numpy()
    sizes = masks.sum(axis=(1, 2))
    return Example("", picture, masks[(sizes >= LEAST_PIXELS) & (sizes <= MOST_SHARE * height * width)])


def measure_cost(
    variants: Mapping[str, Foundation], examples: Sequence[Example], first: str
) -> list[dict[str, Any]]:
    """A row a variant: IoU from a box and from a click, what it lost to ``first``, seconds an image."""
    rows = []
    for name, foundation in variants.items():
        found = measure_accuracy(foundation, examples, PROMPTS)
        row: dict[str, Any] = {"arithmetic": name, "seconds": _time_encoder(foundation, examples[0])}
        row |= {f"iou_{prompt}": interval.value for prompt, interval in found.iou.items()}
        rows.append(row)
    base = next(row for row in rows if row["arithmetic"] == first)
    for row in rows:
        row |= {f"cost_{prompt}": base[f"iou_{prompt}"] - row[f"iou_{prompt}"] for prompt in PROMPTS}
    return rows


def _time_encoder(foundation: Foundation, example: Example) -> float:
    """Seconds of one picture, the faster of two."""
    fit = FITS[find_foundations()[foundation.name].fit]
    images, _ = fit(example.picture, foundation.image_size)
    times = []
    with torch.inference_mode():
        for _ in range(2):
            begin = perf_counter()
            foundation.encode(images)
            times.append(perf_counter() - begin)
    return min(times)
