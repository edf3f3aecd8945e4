"""A picture of the result: the scene, outlines over it, scale and north."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam.io.rasters import open_raster
from domainsam.protocols import Window
from domainsam.staging import Staging
from domainsam_urban.read.geodesy import apply_affine
from domainsam_urban.write.sceneview import (
    INVALID,
    View,
    fit_view,
    read_probability_picture,
    read_scene_picture,
)
from domainsam_urban.write.styles import OUTLINE

LONGEST = 1600
NARROWEST = 760
LEGEND_NAMES = 3
"""More labels than these do not fit beside the legend's sign."""
MARGIN, HEADER, FOOTER, GAP = 28, 92, 92, 20
DPI = 100
INK, FAINT = "#1a1a1a", "#5c5c5c"


@dataclass(frozen=True)
class Caption:
    """Words of the picture: a title, and a line of facts below it."""

    title: str
    facts: str = ""


def draw_preview(
    path: Path,
    scene_path: Path | str,
    polygons: Any,
    caption: Caption,
    *,
    bands: tuple[int, ...] | None = None,
    window: Window | None = None,
    names: Sequence[str] = ("settlement",),
    probability_path: Path | str | None = None,
    longest: int = LONGEST,
    overwrite: bool = False,
) -> None:
    """Draw a PNG of the scene with polygon outlines, appearing complete or not at all.

    The scene is read decimated, so memory follows the picture. It is shown as
    its pixels lie, hence a rotated scene upright and its north arrow turned.

    Parameters
    ----------
    polygons
        As :func:`domainsam_urban.write.polygons.polygonise` makes them, in the scene's CRS.
    bands
        Bands to show, from 1: three as red, green, blue, or one as grey. By
        default the first three, or the first where there are fewer.
    window
        Rows and columns of the scene to show; all of it by default.
    names
        What the polygons are, for the legend.
    probability_path
        If given, the probability is drawn beside the scene, on the same ground.
    longest
        Longest side of the picture in pixels, nearly.

    Raises
    ------
    InputError
        If a raster cannot be read or lacks a band.
    OutputError
        If the picture exists and may not be replaced, or cannot be written.
    """
    panels = 1 if probability_path is None else 2
    with open_raster(scene_path) as dataset:
        room = (longest - 2 * MARGIN - (panels - 1) * GAP) / panels, longest - HEADER - FOOTER
        shown = window or Window(0, 0, *dataset.shape)
        affine = dataset.transform @ Affine.translation(shown.col, shown.row)
        view = fit_view((shown.height, shown.width), affine, dataset.crs, room)
        picture = read_scene_picture(dataset, bands, view.size, shown)
    figure = Figure(figsize=(1, 1), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    width = max(panels * view.size[0] + (panels - 1) * GAP, NARROWEST - 2 * MARGIN) + 2 * MARGIN
    height = view.size[1] + HEADER + FOOTER
    figure.set_size_inches(width / DPI, height / DPI)
    left = (width - panels * view.size[0] - (panels - 1) * GAP) / 2
    outline = _outline(polygons, view)
    _show(_panel(figure, left, view), picture, outline, {})
    if probability_path is not None:
        axes = _panel(figure, left + view.size[0] + GAP, view)
        shades = read_probability_picture(probability_path, view.size)
        _show(axes, shades, outline, {"cmap": _shade_map(), "vmin": 0.0, "vmax": 1.0})
    _header(figure, canvas, caption)
    _legend(figure, len(polygons), probability_path is not None, names)
    _scale_bar(figure, view)
    _north_arrow(figure, view)
    with Staging([path], overwrite=overwrite) as staging:
        try:
            canvas.print_png(staging[path])
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"cannot write '{path}' ({reason}): free some space, or choose another folder"
            ) from error


def _shade_map() -> Any:
    return colormaps["viridis"].with_extremes(bad=str(INVALID))


def _outline(polygons: Any, view: View) -> Outline | None:
    """All polygons as one path in picture pixels, no finer than the picture shows."""
    shapes: NDArray[np.object_] = shapely.transform(
        np.asarray(polygons.geometry), lambda points: apply_affine(view.to_picture, points)
    )
    rings = shapely.get_rings(shapely.simplify(shapes, 0.3))
    if not len(rings):
        return None
    return Outline.make_compound_path(
        *(Outline(points, closed=True) for points in map(shapely.get_coordinates, rings))
    )


def _panel(figure: Figure, left: float, view: View) -> Any:
    """Axes whose data units are picture pixels, y down."""
    width, height = figure.get_size_inches() * DPI
    axes = figure.add_axes(
        (left / width, FOOTER / height, view.size[0] / width, view.size[1] / height), frameon=False
    )
    axes.set(xlim=(0, view.size[0]), ylim=(view.size[1], 0), xticks=[], yticks=[])
    return axes


def _show(axes: Any, image: Any, outline: Outline | None, colours: dict[str, Any]) -> None:
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    axes.imshow(image, extent=(0, right, bottom, 0), aspect="auto", interpolation="bilinear", **colours)
    axes.set(xlim=(0, right), ylim=(bottom, 0))
    if outline is None:
        return
    fill = 0.0 if colours else 0.18
    axes.add_patch(PathPatch(outline, facecolor=OUTLINE, alpha=fill, edgecolor="none"))
    for colour, width in (("white", 2.6), (OUTLINE, 1.4)):
        axes.add_patch(PathPatch(outline, fill=False, edgecolor=colour, linewidth=width, joinstyle="round"))


def _header(figure: Figure, canvas: FigureCanvasAgg, caption: Caption) -> None:
    for words, down, size, colour, weight in (
        (caption.title, 36, 17, INK, "bold"),
        (caption.facts, 70, 12, FAINT, "normal"),
    ):
        text = _text(figure, MARGIN, -down, words, size=size, color=colour, weight=weight)
        _fit(text, words, canvas, figure.get_size_inches()[0] * DPI - 2 * MARGIN)


def _fit(text: Any, words: str, canvas: FigureCanvasAgg, room: float) -> None:
    """Take out the middle of a text, as little as makes it fit: the ends of file names tell most."""
    renderer = canvas.get_renderer()

    def shorten(kept: int) -> bool:
        half = kept // 2
        short = f"{words[:half].rstrip()}…{words[len(words) - half :].lstrip()}"
        text.set_text(words if kept == len(words) else short)
        return bool(text.get_window_extent(renderer).width > room)

    if shorten(len(words)):
        # One long text is slow to measure; bisection measures a handful.
        shorten(bisect_left(range(len(words)), True, key=shorten) - 1)


def _legend(figure: Figure, count: int, probability: bool, names: Sequence[str]) -> None:
    width, height = figure.get_size_inches() * DPI
    middle = 0.42 if probability else 0.55
    if count:
        patch = Patch(facecolor=(*_rgb(OUTLINE), 0.25), edgecolor=OUTLINE, linewidth=1.5)
        figure.legend(
            handles=[patch],
            labels=[", ".join(names) if len(names) <= LEGEND_NAMES else "object"],
            loc="center",
            bbox_to_anchor=(middle, FOOTER / 2 / height),
            frameon=False,
            fontsize=12,
            labelcolor=INK,
        )
    else:
        nothing = f"no {names[0] if len(names) == 1 else 'object'} found"
        _text(figure, middle * width, FOOTER / 2, nothing, size=12, color=FAINT, ha="center")
    if probability:
        left, length = 0.62 * width, 0.2 * width
        axes = figure.add_axes((left / width, (FOOTER / 2 - 2) / height, length / width, 14 / height))
        axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap="viridis", extent=(0, 1, 0, 1))
        axes.set(yticks=[], xticks=[0, 0.5, 1])
        axes.tick_params(labelsize=10, colors=INK, length=3)
        _text(figure, left + length / 2, FOOTER / 2 + 25, "probability", size=11, color=INK, ha="center")


def _scale_bar(figure: Figure, view: View) -> None:
    """A bar of a round length, at most a quarter of the picture."""
    width = figure.get_size_inches()[0] * DPI
    unit = view.metre or view.pixel
    length = round_below(0.22 * (width - 2 * MARGIN) * unit)
    right = MARGIN + length / unit
    height = figure.get_size_inches()[1] * DPI
    axes = figure.add_axes((0, 0, 1, FOOTER / height), frameon=False)
    axes.set(xlim=(0, width), ylim=(0, FOOTER), xticks=[], yticks=[])
    middle = (MARGIN + right) / 2
    for start, end, colour in ((MARGIN, middle, INK), (middle, right, "white")):
        axes.fill_between([start, end], 30, 38, facecolor=colour, edgecolor=INK, linewidth=1)
    axes.text(MARGIN, 58, _length_words(length, view.metre is not None), size=12, color=INK, va="center")


def _north_arrow(figure: Figure, view: View) -> None:
    if view.north is None:
        return
    width, height = figure.get_size_inches() * DPI
    axes = figure.add_axes(
        ((width - MARGIN - 76) / width, 8 / height, 76 / width, 76 / height),
        frameon=False,
        xlim=(-38, 38),
        ylim=(38, -38),
        xticks=[],
        yticks=[],
    )
    right, down = view.north
    along, across = np.array([right, down]), np.array([-down, right])
    for side, colour in ((1, INK), (-1, "white")):
        corners = [22 * along, -16 * along + side * 10 * across, -9 * along]
        axes.fill(*np.transpose(corners), facecolor=colour, edgecolor=INK, linewidth=1, joinstyle="round")
    axes.text(31 * right, 31 * down, "N", size=11, color=INK, ha="center", va="center", weight="bold")


def round_below(length: float) -> float:
    """The greatest 1, 2 or 5 times a power of ten that is no longer than ``length``."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length)


def _length_words(length: float, metric: bool) -> str:
    if not metric:
        return f"{length:g} pixels"
    if length >= 1000:
        return f"{length / 1000:g} km"
    return f"{length:g} m" if length >= 1 else f"{length * 100:g} cm"


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red / 255, green / 255, blue / 255


def _text(figure: Figure, x: float, y: float, words: str, **style: Any) -> Any:
    """Words at picture pixels from the lower left corner, from the upper one if ``y`` is negative."""
    width, height = figure.get_size_inches() * DPI
    return figure.text(x / width, (y if y >= 0 else height + y) / height, words, va="center", **style)
