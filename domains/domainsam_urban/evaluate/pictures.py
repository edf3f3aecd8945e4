"""Draw the windows with the largest errors: the scene, both outlines, the errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow
from scipy import ndimage

from domainsam.io.charts import encode_jpeg
from domainsam.io.rasters import open_raster
from domainsam.metrics.boundary import find_outline
from domainsam.protocols import Window
from domainsam_urban.evaluate.evaluate import open_answer, open_labels
from domainsam_urban.evaluate.summary import Evaluation, SceneScores
from domainsam_urban.read.place import Place

CASE_SIDE = 1024
"""Longest side of a pictured window, in pixels of the comparison grid."""
PICTURE_SIDE = 720
"""Longest side of a picture, in its own pixels."""
QUALITY = 84
"""Of JPEG files."""
# Okabe and Ito's palette, which colour-blind readers can tell apart; outlines are brighter to stand out.
TRUTH, PREDICTED = "#00e5ff", "#ffd400"
HIT, FALSE_ALARM, MISS, UNKNOWN = "#009e73", "#e8590c", "#3b5bff", "#9a9a9a"

Colours = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Case:
    """One pictured window.

    Parameters
    ----------
    scene
        Its scene's name.
    outlines, errors
        JPEG files: the image with both outlines; the errors in colour over a grey image.
    iou
        IoU inside the window, NaN where neither side has settlement.
    missed_ha, false_ha
        Wrong area inside the window, in hectares.
    width_m
        How much ground the picture is wide.
    """

    scene: str
    outlines: bytes
    errors: bytes
    iou: float
    missed_ha: float
    false_ha: float
    width_m: float


def find_worst_cases(evaluation: Evaluation, variant: str, count: int) -> Iterator[Case]:
    """Windows with the most wrong pixels, worst first, none overlapping another; fewer if little is wrong."""
    for scene, window in find_worst_windows(evaluation, variant, count):
        yield draw_case(scene, variant, window, evaluation.options.scoring.threshold)


def find_worst_windows(
    evaluation: Evaluation, variant: str, count: int
) -> Iterator[tuple[SceneScores, Window]]:
    """Where to look: windows around the blocks with the most wrong pixels, all scenes competing."""
    errors = []
    for scene in evaluation.scenes:
        side = evaluation.options.scoring.block_px(scene.place)
        columns = -(-scene.place.shape[1] // side)
        matrix = scene.counts[variant].confusion
        errors.append((matrix[:, 0, 1] + matrix[:, 1, 0]).reshape(-1, columns))
    for _ in range(count):
        index = max(range(len(errors)), key=lambda number: int(errors[number].max()))
        if errors[index].max() == 0:
            return
        scene, side = (
            evaluation.scenes[index],
            evaluation.options.scoring.block_px(evaluation.scenes[index].place),
        )
        row, column = np.unravel_index(int(errors[index].argmax()), errors[index].shape)
        window = _around((int(row) + 0.5) * side, (int(column) + 0.5) * side, scene.place.shape)
        # Whole blocks inside the picture are seen; so is the block that was asked for.
        rows = slice(window.row // side, -(-(window.row + window.height) // side))
        cols = slice(window.col // side, -(-(window.col + window.width) // side))
        errors[index][rows, cols] = 0
        yield scene, window


def _around(row: float, column: float, shape: tuple[int, int]) -> Window:
    height, width = min(CASE_SIDE, shape[0]), min(CASE_SIDE, shape[1])
    top = int(np.clip(row - height / 2, 0, shape[0] - height))
    left = int(np.clip(column - width / 2, 0, shape[1] - width))
    return Window(top, left, height, width)


def draw_case(scene: SceneScores, variant: str, window: Window, threshold: float) -> Case:
    """Both pictures of a window, and what they show in numbers."""
    with open_labels(scene.labels, scene.place, scene.choice, must_touch=False) as truth:
        labels = truth.labels(window)
    with open_answer(scene.answers[variant], scene.place) as answer:
        chance, known = answer.probability(window)
    valid = known & (labels <= 1)
    true, predicted = (labels == 1) & valid, (chance >= threshold) & valid
    hits, missed, false = true & predicted, true & ~predicted, predicted & ~true
    metres = scene.place.pixel_metres()
    joint = int((true | predicted).sum())
    image = read_rgb(scene, window)
    return Case(
        scene.scene.name,
        encode_jpeg(_with_outlines(image, true, predicted), QUALITY),
        encode_jpeg(
            _with_errors(image, {HIT: hits, MISS: missed, FALSE_ALARM: false, UNKNOWN: ~valid}), QUALITY
        ),
        int(hits.sum()) / joint if joint else float("nan"),
        float(missed.sum()) * metres**2 / 1e4,
        float(false.sum()) * metres**2 / 1e4,
        window.width * metres,
    )


def read_rgb(scene: SceneScores, window: Window) -> Colours:
    """The scene in a window, ``(H, W, 3)`` uint8; stretched unless its bytes are colours already."""
    part = RasterWindow(window.col, window.row, window.width, window.height)
    with open_raster(scene.scene.path) as dataset, _on_grid(dataset, scene.place) as source:
        bands = (1, 2, 3) if dataset.count >= 3 else (1, 1, 1)
        image = source.read(bands, window=part, masked=True)
        if dataset.dtypes[0] != "uint8":
            stride = max(1, max(dataset.shape) // 512)
            small = (-(-dataset.height // stride), -(-dataset.width // stride))
            whole = dataset.read(bands, out_shape=(3, *small), masked=True)
            image = _stretched(image, whole)
    return np.ascontiguousarray(np.moveaxis(image.filled(0).astype(np.uint8), 0, -1))


@contextmanager
def _on_grid(dataset: Any, place: Place) -> Iterator[Any]:
    if Place.of(dataset).aligned(place) or dataset.crs is None or place.crs is None:
        yield dataset
        return
    grid = {"crs": place.crs, "transform": place.affine, "height": place.shape[0], "width": place.shape[1]}
    with WarpedVRT(dataset, resampling=Resampling.bilinear, **grid) as warped:
        yield warped


def _stretched(image: Any, whole: Any) -> Any:
    """Each band from its 2nd to its 98th percentile in the whole scene, as 0 to 255."""
    for band in range(3):
        values = whole[band].compressed()
        low, high = np.percentile(values, [2, 98]) if values.size else (0.0, 1.0)
        scaled = (image[band].astype(np.float64) - low) / max(high - low, 1e-9)
        image = image.astype(np.float64) if band == 0 else image
        image[band] = np.clip(scaled, 0, 1) * 255
    return image


def _with_outlines(image: Colours, true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Colours:
    picture, scale = _shrunk(image)
    for mask, colour in ((true, TRUTH), (predicted, PREDICTED)):
        line = find_outline(_shrunk_mask(mask, scale, picture.shape[:2]))
        # A dark rim keeps the line visible on bright roofs.
        picture[ndimage.binary_dilation(line, iterations=2)] = (20, 20, 20)
        picture[ndimage.binary_dilation(line, iterations=1)] = _rgb(colour)
    return picture


def _with_errors(image: Colours, areas: dict[str, NDArray[np.bool_]]) -> Colours:
    picture, scale = _shrunk(image)
    grey = picture.mean(axis=-1, keepdims=True).repeat(3, axis=-1) * 0.75
    for colour, mask in areas.items():
        inside = _shrunk_mask(mask, scale, picture.shape[:2])
        strength = 0.4 if colour == HIT else 0.65
        grey[inside] = (1 - strength) * grey[inside] + strength * np.array(_rgb(colour))
    return np.asarray(grey.round(), np.uint8)


def _shrunk(image: Colours) -> tuple[Colours, float]:
    """A copy no larger than a picture, and the factor it was scaled by."""
    scale = min(1.0, PICTURE_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX)), scale


def _shrunk_mask(mask: NDArray[np.bool_], scale: float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows = np.minimum(((np.arange(shape[0]) + 0.5) / scale).astype(int), mask.shape[0] - 1)
    columns = np.minimum(((np.arange(shape[1]) + 0.5) / scale).astype(int), mask.shape[1] - 1)
    return np.asarray(mask[np.ix_(rows, columns)])


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
