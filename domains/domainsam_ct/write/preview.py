"""Pictures of a scan with its organs: three planes with contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from domainsam.io.charts import encode_png
from domainsam_ct.job import Segmented
from domainsam_ct.labels import LabelMap
from domainsam_ct.measure.statistics import Tally
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.read.volume import Volume

SOFT_TISSUE = (-160.0, 240.0)
"""Hounsfield units shown from black to white: the usual window of the abdomen, 400 wide around 40."""
SIDE = 560
"""Longest side of a plane in pixels."""
TINT = 0.28
"""How much of an organ's colour lies over the scan inside its contour."""
LINE = 2
"""Width of a contour in pixels, drawn inside the organ."""
GAP, MARGIN = 14, 14
PAPER, INK, FAINT = (16, 18, 22), (235, 238, 242), (150, 158, 168)

Colours = NDArray[np.uint8]


def draw_planes(planes: Sequence[Plane], labels: LabelMap) -> dict[str, Colours]:
    """Every plane as RGB ``(H, W, 3)``, all at one scale, by the plane's name."""
    millimetres = max(
        count * step for plane in planes for count, step in zip(plane.hu.shape, plane.pixel_mm, strict=True)
    )
    scale = SIDE / millimetres
    return {plane.name: draw_plane(plane, labels, scale) for plane in planes}


def draw_plane(plane: Plane, labels: LabelMap, scale: float) -> Colours:
    """A plane with tinted organs, contours and the letters of its edges, ``scale`` pixels a millimetre."""
    height, width = (
        max(1, round(count * step * scale))
        for count, step in zip(plane.hu.shape, plane.pixel_mm, strict=True)
    )
    picture = to_grey(plane.hu, (width, height))
    for value in np.unique(plane.mask):
        if value in labels:
            inside = enlarge_mask(plane.mask == value, (width, height))
            paint(picture, inside, labels[int(value)].colour)
    image = Image.fromarray(picture)
    _letters(image, plane.edges)
    return np.asarray(image)


def to_grey(
    hu: NDArray[np.float32], size: tuple[int, int], window: tuple[float, float] = SOFT_TISSUE
) -> Colours:
    """Hounsfield units as a grey RGB picture of ``size`` (width, height)."""
    low, high = window
    values = (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    enlarged_values = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
    return np.repeat(enlarged_values[..., None], 3, axis=2)


def enlarge_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at a picture's size ``(width, height)``; its outline runs half way between voxel centres."""
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(share) >= 128


def paint(picture: Colours, inside: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Tint the inside and draw the contour, in place."""
    line = inside & ~ndimage.binary_erosion(inside, iterations=LINE, border_value=1)
    picture[inside] = (picture[inside] * (1 - TINT) + np.array(colour) * TINT).astype(np.uint8)
    picture[line] = colour


def join_planes(planes: Sequence[Plane], pictures: Mapping[str, Colours], labels: LabelMap) -> bytes:
    """All planes side by side over a legend of the organs, as a PNG file."""
    font = ImageFont.load_default(14)
    width = sum(picture.shape[1] for picture in pictures.values()) + GAP * (len(pictures) - 1) + 2 * MARGIN
    tallest = max(picture.shape[0] for picture in pictures.values())
    legend = _legend_rows(labels, width - 2 * MARGIN, font)
    sheet = Image.new("RGB", (width, tallest + 2 * MARGIN + 26 + 24 * len(legend)), PAPER)
    pen = ImageDraw.Draw(sheet)
    left = MARGIN
    for plane in planes:
        picture = pictures[plane.name]
        pen.text((left, MARGIN), f"{plane.name} {plane.position[0]} of {plane.position[1]}", FAINT, font)
        sheet.paste(Image.fromarray(picture), (left, MARGIN + 22 + (tallest - picture.shape[0]) // 2))
        left += picture.shape[1] + GAP
    for number, row in enumerate(legend):
        top = MARGIN + 22 + tallest + 10 + 24 * number
        for left, value in row:
            pen.rectangle((left + MARGIN, top + 2, left + MARGIN + 14, top + 14), labels[value].colour)
            pen.text((left + MARGIN + 20, top - 1), labels[value].title, INK, font)
    return encode_png(np.asarray(sheet))


def _legend_rows(
    labels: LabelMap, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[list[tuple[int, int]]]:
    """Place of every organ's entry: rows of (left edge, value)."""
    rows: list[list[tuple[int, int]]] = [[]]
    left = 0
    for value, organ in labels.items():
        need = 20 + round(font.getlength(organ.title)) + 22
        if left and left + need > width:
            rows.append([])
            left = 0
        rows[-1].append((left, value))
        left += need
    return [row for row in rows if row]


def _letters(image: Image.Image, edges: str) -> None:
    """Directions at the left, right, upper and lower edge, dark around so that they show on bone."""
    font, pen = ImageFont.load_default(16), ImageDraw.Draw(image)
    width, height = image.size
    places = ((10, height / 2), (width - 10, height / 2), (width / 2, 10), (width / 2, height - 10))
    for letter, place in zip(edges, places, strict=True):
        pen.text(place, letter, INK, font, anchor="mm", stroke_width=2, stroke_fill=PAPER)


CHUNK = 16


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a scan with its mask.

    Parameters
    ----------
    name
        ``axial``, ``coronal`` or ``sagittal``.
    hu, mask
        ``(rows, columns)``: axial from front to back, the others from head to
        feet; the patient's right, or front, on the left.
    pixel_mm
        Height and width of a pixel.
    edges
        Letters of the left, right, upper and lower edge: R L A P S I.
    position
        Number of the plane and how many there are along its axis, from 1.
    """

    name: str
    hu: NDArray[np.float32]
    mask: NDArray[np.uint8]
    pixel_mm: tuple[float, float]
    edges: str
    position: tuple[int, int]


def choose_planes(segmented: Segmented) -> tuple[Plane, Plane, Plane]:
    """The axial, coronal and sagittal plane that show most of the organs."""
    shape, tally = segmented.volume.shape, segmented.tally
    x, y, z = (find_best_plane(tally, axis, shape[axis]) for axis in range(3))
    return read_planes_at(segmented.volume, segmented.mask, (x, y, z))


def find_best_plane(tally: Tally, axis: int, count: int) -> int:
    """The plane across an axis where organs are, all in all, nearest to their largest extent."""
    score = np.zeros(count)
    for value in tally.labels:
        along = tally.along(value, axis)
        if along.any():
            score += along / along.max()
    return int(score.argmax()) if score.any() else count // 2


def read_planes_at(
    volume: Volume, mask: StagedVolume, at: tuple[int, int, int]
) -> tuple[Plane, Plane, Plane]:
    """The three planes through a canonical voxel, read in one pass."""
    (width, height, depth), (dx, dy, dz) = volume.shape, volume.spacing
    x, y, z = at
    axial = _cut(volume.slices(z, z + 1)[:, :, 0]), _cut(mask.read(z, z + 1)[0])
    coronal = np.empty((width, depth), np.float32), np.empty((width, depth), np.uint8)
    sagittal = np.empty((height, depth), np.float32), np.empty((height, depth), np.uint8)
    for start, labels in mask.chunks(CHUNK):
        stop = start + len(labels)
        hu = volume.slices(start, stop)
        coronal[0][:, start:stop], coronal[1][:, start:stop] = hu[:, y], labels[:, :, y].T
        sagittal[0][:, start:stop], sagittal[1][:, start:stop] = hu[x], labels[:, x].T
    return (
        Plane("axial", *axial, (dy, dx), "RLAP", (z + 1, depth)),
        Plane("coronal", _cut(coronal[0]), _cut(coronal[1]), (dz, dx), "RLSI", (y + 1, height)),
        Plane("sagittal", _cut(sagittal[0]), _cut(sagittal[1]), (dz, dy), "APSI", (x + 1, width)),
    )


def _cut(plane: NDArray[Any]) -> NDArray[Any]:
    """A plane ``(a, b)`` of canonical axes as an image: both axes run backwards, ``b`` downwards."""
    return np.ascontiguousarray(plane[::-1, ::-1].T)
