"""Draw a preview: every sensor, the class map, confidence and contributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam_scene.model.predict import NODATA, SCALE, ScenePrediction
from domainsam_scene.write.maps import UNKNOWN, choose_class_colours

PANEL = 320
"""Width in pixels of one panel."""
COLUMNS = 4
GAP, HEADER, TITLE, LEGEND_ROW, MARGIN = 14, 54, 24, 22, 20
DPI = 100
INK, FAINT = "#1a1a1a", "#5c5c5c"
MOST_NAMED = 24


@dataclass(frozen=True)
class Picture:
    """What is shown: a title, a line of facts, sensors' images ``(3, H, W)``, the answer and class names."""

    title: str
    facts: str
    images: Mapping[str, NDArray[np.float32]]
    prediction: ScenePrediction
    labels: tuple[str, ...]


def draw_preview(path: Path, picture: Picture) -> None:
    """Draw the picture as PNG.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    panels = [*_sensor_panels(picture), *_answer_panels(picture)]
    rows, cols = picture.prediction.labels.shape
    height = round(PANEL * min(max(rows / cols, 0.3), 2.0))
    present = _present(picture)
    across = min(COLUMNS, len(panels))
    down = -(-len(panels) // across)
    per_row = max(1, across * 2)
    legend = LEGEND_ROW * -(-len(present) // per_row) + 8
    width_px = 2 * MARGIN + across * PANEL + (across - 1) * GAP
    height_px = HEADER + down * (height + TITLE + GAP) + legend + MARGIN
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for index, (name, image, style) in enumerate(panels):
        left = MARGIN + index % across * (PANEL + GAP)
        top = HEADER + index // across * (height + TITLE + GAP) + TITLE
        box = (left / width_px, 1 - (top + height) / height_px, PANEL / width_px, height / height_px)
        axes = figure.add_axes(box)
        axes.imshow(image, interpolation="nearest" if style else "antialiased", aspect="equal", **style)
        axes.set_axis_off()
        figure.text(box[0], 1 - (top - 6) / height_px, name, fontsize=10, color=INK)
    figure.text(MARGIN / width_px, 1 - 26 / height_px, picture.title, fontsize=13, color=INK, weight="bold")
    figure.text(MARGIN / width_px, 1 - 45 / height_px, picture.facts, fontsize=9, color=FAINT)
    _legend(figure, picture.labels, present, per_row, MARGIN / width_px)
    try:
        canvas.print_png(path)
    except OSError as error:
        raise OutputError(
            f"cannot write '{path.name}' ({error.strerror or error}): "
            "free some space, or choose another folder"
        ) from error


def colour_classes(labels: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Class numbers ``(H, W)`` as colours ``(H, W, 3)``; 255 is black."""
    table = np.zeros((256, 3), np.uint8)
    table[:] = UNKNOWN
    table[: len(names)] = choose_class_colours(names)
    return table[labels]


def stretch_image(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A sensor's image ``(3, H, W)`` as ``(H, W, 3)``, dark ones brightened so that they can be seen."""
    shown = image.transpose(1, 2, 0)
    top = float(np.quantile(shown, 0.99)) if shown.size else 1.0
    return np.clip(shown / max(top, 0.05), 0, 1)


Panel = tuple[str, NDArray[Any], dict[str, Any]]


def _sensor_panels(picture: Picture) -> list[Panel]:
    return [(name, stretch_image(image), {}) for name, image in picture.images.items()]


def _answer_panels(picture: Picture) -> list[Panel]:
    answer = picture.prediction
    sure = np.ma.masked_equal(answer.confidence, NODATA)
    panels: list[Panel] = [
        ("map", colour_classes(answer.labels, picture.labels), {"resample": False}),
        ("confidence", sure, {"cmap": "viridis", "vmin": 0, "vmax": SCALE}),
    ]
    if len(answer.contribution) > 1:
        shades = {"cmap": "magma", "vmin": 0, "vmax": SCALE}
        panels += [(f"share of {name}", part, shades) for name, part in answer.contribution.items()]
    return panels


def _present(picture: Picture) -> list[int]:
    """Classes in the map, the largest first."""
    counts = np.bincount(picture.prediction.labels.ravel(), minlength=256)[: len(picture.labels)]
    order = np.argsort(-counts, kind="stable")
    return [int(index) for index in order if counts[index]][:MOST_NAMED]


def _legend(figure: Any, labels: Sequence[str], present: Sequence[int], columns: int, left: float) -> None:
    colours = np.array(choose_class_colours(tuple(labels))) / 255
    patches = [Patch(facecolor=colours[index], edgecolor="#888", label=labels[index]) for index in present]
    if patches:
        figure.legend(
            handles=patches,
            loc="lower left",
            bbox_to_anchor=(left, 0.01),
            borderaxespad=0,
            ncols=columns,
            frameon=False,
            fontsize=9,
            handlelength=1.2,
        )
