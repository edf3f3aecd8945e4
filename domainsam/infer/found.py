"""What became of objects that somebody marked: their labels, scores and outlines' bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from domainsam.infer.blend import NODATA
from domainsam.infer.decode import Outline, OutlineKey
from domainsam.infer.store import RawRaster
from domainsam.protocols import SceneObject, Window

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult

UNNAMED = "object"
"""What objects are called that bear no label, where others do or a name is needed."""
PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class FoundObject:
    """One decoded object.

    Parameters
    ----------
    label
        What it is, where that is known.
    score
        Its source's confidence times the IoU that the foundation expects of its outline, 0 to 1.
    bounds
        The smallest window of a frame that holds its outline; None where no
        pixel reached the threshold. Of an object that is larger than the
        foundation's field, the window around its parts, before they are blended.
    """

    label: str | None
    score: float
    bounds: Window | None


def gather_objects(
    objects: Sequence[SceneObject], outlines: Mapping[OutlineKey, Outline]
) -> tuple[FoundObject, ...]:
    """Every object with what the crops it was decoded in say of it; the IoU is weighted by pixels."""
    parts: dict[int, list[Outline]] = {}
    for (number, *_), outline in sorted(outlines.items()):
        parts.setdefault(number, []).append(outline)
    found = []
    for number, mark in enumerate(objects, start=1):
        own = parts.get(number, [])
        iou = sum(part.iou * part.area for part in own) / max(1, sum(part.area for part in own))
        score = min(1.0, max(0.0, mark.score * iou))
        found.append(FoundObject(mark.label, score, _join([part.bounds for part in own])))
    return tuple(found)


def _join(windows: Sequence[Window | None]) -> Window | None:
    """The smallest window around all."""
    known = [window for window in windows if window is not None]
    if not known:
        return None
    top, left = min(item.row for item in known), min(item.col for item in known)
    bottom = max(item.row + item.height for item in known)
    right = max(item.col + item.width for item in known)
    return Window(top, left, bottom - top, right - left, known[0].frame)


def name_objects(objects: Sequence[SceneObject], labels: Sequence[str]) -> tuple[SceneObject, ...]:
    """The same objects; those without a label are called ``object`` where others bear one.

    ``labels`` are the names that they may bear, if such are given.
    """
    if labels or not any(mark.label is not None for mark in objects):
        return tuple(objects)
    return tuple(replace(mark, label=mark.label or UNNAMED) for mark in objects)


def label_all(answer: EngineResult, folder: Path) -> EngineResult:
    """The answer with labels in any case: where no object bears one, all are called ``object``.

    Parameters
    ----------
    folder
        Takes a byte a pixel, if they are missing.

    Raises
    ------
    OutputError
        If there is no room for it.
    """
    if answer.labels is not None:
        return answer
    path = folder / "all-labels.u8"
    with (
        RawRaster.open(answer.probability, answer.shape, answer.frames) as probability,
        RawRaster.create(path, answer.shape, answer.frames) as labels,
    ):
        for window in probability.bands(PIXELS_AT_ONCE):
            values = probability.read(window)
            inside = (values >= answer.level).astype(np.uint8)
            labels.write(window, np.where(values == NODATA, np.uint8(NODATA), inside))
    return replace(answer, labels=path, names=(UNNAMED,))
