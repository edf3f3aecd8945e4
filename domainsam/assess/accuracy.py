"""How well a foundation finds known objects from a box, or from one click and the clicks that correct it.

Clicks are placed as is usual (Kirillov et al. 2023, section 7.1 and appendix D): the first at the point
farthest from the object's edge, each further one in the middle of the largest error, inside or outside.
For a single click the reading of highest estimated IoU counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.assess.examples import Example
from domainsam.errors import ConfigError, InputError
from domainsam.foundation.picture import FITS, Fit
from domainsam.foundations import FoundationSpec, find_foundations
from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Foundation, Masks
from domainsam.train.clicks import find_boxes, place_clicks

BOX = "box"


@dataclass(frozen=True)
class Accuracy:
    """Mean IoU by prompt, each with the interval that resampling pictures gives."""

    foundation: str
    pictures: int
    objects: int
    iou: dict[str, Interval]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row a prompt, for a table."""
        facts = {"foundation": self.foundation, "pictures": self.pictures, "objects": self.objects}
        return [
            {**facts, "prompt": name, "iou": one.value, "low": one.low, "high": one.high}
            for name, one in self.iou.items()
        ]


def parse_prompts(text: str | Sequence[str | int]) -> tuple[str, ...]:
    """Prompts to try, of ``box`` and numbers of clicks, as ``box,1,3,5``.

    Raises
    ------
    ConfigError
        If one is neither, or none is given.
    """
    parts = text.split(",") if isinstance(text, str) else list(text)
    names = tuple(dict.fromkeys(str(part).strip() for part in parts))
    wrong = [name for name in names if name != BOX and not (name.isdecimal() and 1 <= int(name) <= 20)]
    if wrong or not names:
        raise ConfigError(
            f"prompts {', '.join(map(repr, wrong))}: expected box and numbers of clicks, as box,1,3,5"
        )
    return names


def measure_accuracy(
    foundation: Foundation,
    examples: Iterable[Example],
    prompts: Sequence[str] = (BOX, "1", "3", "5"),
) -> Accuracy:
    """Mean IoU of the foundation's masks with the known ones, over all objects.

    Raises
    ------
    InputError
        If no picture holds an object.
    """
    row = find_foundations().get(foundation.name)
    understood = FoundationSpec.prompts if row is None else row.prompts
    outside = "points outside" in understood
    fitted = FITS["longest" if row is None else row.fit]
    sums: dict[str, list[tuple[float, int]]] = {name: [] for name in prompts}
    pictures = objects = 0
    for example in examples:
        if not len(example.masks):
            continue
        images, fit = fitted(example.picture, foundation.image_size)
        with torch.inference_mode():
            features = foundation.encode(images)
            found = _Clicker(foundation, features, fit, example.masks, outside).try_all(prompts)
        for name, values in found.items():
            sums[name].append((float(values.sum()), len(values)))
        pictures, objects = pictures + 1, objects + len(example.masks)
    if not objects:
        raise InputError("no picture holds an object of at least 16 pixels: give masks with objects")
    iou = {name: bootstrap(np.array(pairs), _mean) for name, pairs in sums.items()}
    clicks = max((int(name) for name in prompts if name != BOX), default=0)
    notes = () if outside or clicks < 2 else (f"{foundation.name} knows no clicks outside: all are inside",)
    return Accuracy(foundation.name, pictures, objects, iou, notes)


def _mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums[:, 0] / sums[:, 1]


@dataclass(frozen=True)
class _Clicker:
    """One picture's objects, prompted together."""

    foundation: Foundation
    features: Features
    fit: Fit
    truth: NDArray[np.bool_]
    outside: bool

    def try_all(self, prompts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """IoU of every object by prompt."""
        found: dict[str, NDArray[np.float64]] = {}
        if BOX in prompts:
            boxes = torch.from_numpy(find_boxes(self.truth, scale=1))
            found[BOX] = self._score(self._answer(None, boxes, multimask=False))
        wanted = {int(name) for name in prompts if name != BOX}
        points: Tensor | None = None
        guess: Tensor | None = None
        for count in range(1, max(wanted, default=0) + 1):
            known = torch.from_numpy(self.truth)
            # Who knows no clicks outside is shown what is missing only.
            shown = guess if guess is None or self.outside else guess & known
            click = place_clicks(known, shown, None, scale=1)
            points = click if points is None else torch.cat([points, click], dim=1)
            guess = self._answer(points, None, multimask=count == 1)
            if count in wanted:
                found[str(count)] = self._score(guess)
        return {name: found[name] for name in prompts}

    def _answer(self, points: Tensor | None, boxes: Tensor | None, multimask: bool) -> Tensor:
        """Masks ``(N, H, W)`` bool of the picture."""
        count = len(self.truth)
        given = PromptSet(
            image_index=torch.zeros(count, dtype=torch.int64),
            labels=torch.ones(count, dtype=torch.int64),
            scores=torch.ones(count),
            points=points,
            boxes=boxes,
        )
        masks: Masks = self.foundation.decode(self.features, self.fit.prompts(given), multimask).best()
        # One after the other: full-size logits of many objects would fill the memory.
        full = [self.fit.masks(one[None].float().cpu())[0, 0] > 0 for one in masks.logits]
        return torch.stack(full)

    def _score(self, found: Tensor) -> NDArray[np.float64]:
        truth = torch.from_numpy(self.truth)
        both = (found & truth).sum(dim=(1, 2)).double()
        either = (found | truth).sum(dim=(1, 2)).double()
        return (both / either).numpy()
