"""HTML report of an evaluation, with the slices that have the largest errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam import __version__
from domainsam.errors import DomainSamError
from domainsam.grid import Grid
from domainsam.io.charts import encode_jpeg
from domainsam.io.pages import render
from domainsam_ct.evaluate.labelled import Pair, require_same_grid
from domainsam_ct.evaluate.summary import Evaluation
from domainsam_ct.labels import Organ, find_organ
from domainsam_ct.read.open import open_volume
from domainsam_ct.settings import PERCENTILE
from domainsam_ct.write.preview import enlarge_mask, to_grey

# Okabe and Ito's palette, which colour-blind readers can tell apart; outlines are brighter to stand out.
TRUTH, PREDICTED = "#00e5ff", "#ffd400"
HIT, FALSE_ALARM, MISS = "#009e73", "#e8590c", "#3b5bff"
COLOURS = {"TRUTH": TRUTH, "PREDICTED": PREDICTED, "HIT": HIT, "FALSE_ALARM": FALSE_ALARM, "MISS": MISS}
MARGIN_MM, FIELD_MM = 20.0, 120.0
"""Surroundings shown around an organ, and the least that is shown across."""
SIDE = 640
"""Longest side of a picture in pixels."""
QUALITY = 88
"""Of JPEG files."""
BLANK = 90
"""Grey of pictures without a scan behind."""

FindImage = Callable[[str], Path | None]
"""From a case's name to its scan, None where there is none."""

Box = tuple[slice, slice]
"""Rows and columns of a part of a plane."""


@dataclass(frozen=True, eq=False)
class WorstSlice:
    """One slice of one organ of one case.

    ``found`` and ``true`` are images ``(rows, columns)`` as radiologists see
    them, cut out around the organ; ``box`` is where from, in canonical x and y.
    """

    pair: Pair
    organ: Organ
    slice: int
    slices: int
    dice: float
    missed_mm2: float
    false_mm2: float
    found: NDArray[np.bool_]
    true: NDArray[np.bool_]
    box: Box
    grid: Grid


@dataclass(frozen=True, eq=False)
class Picture:
    """A worst slice, drawn: JPEG files with both outlines and with errors in colour."""

    worst: WorstSlice
    outlines: bytes
    errors: bytes


class WorstSlices:
    """Collects the slices with the largest wrong area, at most one of each organ and case."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.kept: list[WorstSlice] = []

    def offer(
        self,
        pair: Pair,
        organ: Organ,
        found: NDArray[np.bool_],
        true: NDArray[np.bool_],
        grid: Grid,
        dice: float,
    ) -> None:
        """Look at an organ's masks ``(X, Y, Z)`` and keep its worst slice if it is among the worst."""
        wrong = (found ^ true).sum(axis=(0, 1))
        index = int(wrong.argmax())
        if wrong[index] == 0:
            return
        pixel_mm2 = grid.spacing[0] * grid.spacing[1]
        area = float(wrong[index]) * pixel_mm2
        if len(self.kept) == self.count and area <= _wrong_mm2(self.kept[-1]):
            return
        one, other = found[:, :, index], true[:, :, index]
        box = _box(one | other, grid)
        self.kept.append(
            WorstSlice(
                pair,
                organ,
                index,
                found.shape[2],
                dice,
                float((other & ~one).sum()) * pixel_mm2,
                float((one & ~other).sum()) * pixel_mm2,
                _image(one[box]),
                _image(other[box]),
                box,
                grid,
            )
        )
        self.kept = sorted(self.kept, key=_wrong_mm2, reverse=True)[: self.count]

    def draw(self, find_image: FindImage) -> list[Picture]:
        """Every kept slice, the worst first."""
        return [draw_slice(worst, _background(worst, find_image(worst.pair.case))) for worst in self.kept]


def draw_slice(worst: WorstSlice, hu: NDArray[np.float32] | None) -> Picture:
    """Both pictures of a slice, over its scan ``(rows, columns)`` where there is one."""
    height_mm, width_mm = (
        count * step for count, step in zip(worst.true.shape, worst.grid.spacing[1::-1], strict=True)
    )
    scale = SIDE / max(height_mm, width_mm)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    if hu is None:
        base = np.full((size[1], size[0], 3), BLANK, np.uint8)
    else:
        base = to_grey(hu, size)
    found, true = enlarge_mask(worst.found, size), enlarge_mask(worst.true, size)
    outlines, errors = base.copy(), base.copy()
    for inside, colour in ((true, TRUTH), (found, PREDICTED)):
        outlines[inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=1)] = _rgb(colour)
    for area, colour in ((found & true, HIT), (found & ~true, FALSE_ALARM), (true & ~found, MISS)):
        errors[area] = (errors[area] * 0.45 + _rgb(colour) * 0.55).astype(np.uint8)
    return Picture(worst, encode_jpeg(outlines, QUALITY), encode_jpeg(errors, QUALITY))


def _background(worst: WorstSlice, image: Path | None) -> NDArray[np.float32] | None:
    """The scan behind a slice; none where it cannot be read or lies elsewhere."""
    if image is None:
        return None
    try:
        with open_volume(image) as volume:
            require_same_grid(volume.grid, image.name, worst.grid, worst.pair.truth.name)
            return _image(volume.slices(worst.slice, worst.slice + 1)[:, :, 0][worst.box])
    except DomainSamError:
        return None


def _box(inside: NDArray[np.bool_], grid: Grid) -> tuple[slice, slice]:
    """The part of a slice ``(X, Y)`` that holds a mask, with its surroundings."""
    parts = []
    for axis in range(2):
        along = np.flatnonzero(inside.any(axis=1 - axis))
        extent = (int(along[-1]) + 1 - int(along[0])) * grid.spacing[axis]
        margin = round(max(MARGIN_MM, (FIELD_MM - extent) / 2) / grid.spacing[axis])
        parts.append(slice(max(0, int(along[0]) - margin), int(along[-1]) + 1 + margin))
    return parts[0], parts[1]


def _image(plane: NDArray[Any]) -> NDArray[Any]:
    """A canonical plane ``(X, Y)`` as radiologists see it."""
    return np.ascontiguousarray(plane[::-1, ::-1].T)


def _wrong_mm2(worst: WorstSlice) -> float:
    return worst.missed_mm2 + worst.false_mm2


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.float64)


def render_evaluation(
    evaluation: Evaluation, pictures: Sequence[Picture], predicted: str, truth: str, command: str
) -> str:
    """The page about a comparison of masks with labels."""
    return render(
        "domainsam_ct",
        "evaluation.html.j2",
        evaluation=evaluation,
        organs={name: find_organ(name) for name in evaluation.organs},
        pictures=pictures,
        predicted=predicted,
        truth=truth,
        command=command,
        colours=COLOURS,
        percentile=PERCENTILE,
        version=__version__,
    )
