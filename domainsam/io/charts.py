"""Charts and pictures as files: PNG, JPEG, and SVG text for reports."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.names import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, float | str]


def is_score(name: str) -> bool:
    """Whether a value of a row is a score on validation data."""
    return name.endswith("iou") or name == "dice" or (name.startswith("dice_") and name != "dice_loss")


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Loss and scores against steps, one stage after the other."""
    # Matplotlib takes a while to import, and few runs draw.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    start = 0.0
    for stage in dict.fromkeys(str(row["stage"]) for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        steps = [start + float(row["step"]) for row in own]
        for axes, names in ((left, ["loss"]), (right, [name for name in own[-1] if is_score(name)])):
            for name in names:
                values = [float(row.get(name, "nan")) for row in own]
                axes.plot(steps, values, marker=".", label=f"{stage}: {name.replace('_', ' ')}")
        start = steps[-1]
    for axes, title in ((left, "loss"), (right, "score on validation data")):
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    _save_png(figure, path)


def draw_bars(values: Mapping[str, float], path: Path, label: str) -> None:
    """Horizontal bars by name, the largest on top, with their values beside them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted(values, key=lambda name: values[name])
    figure = Figure(figsize=(7, 0.9 + 0.3 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    bars = axes.barh(names, [values[name] for name in names])
    axes.bar_label(bars, fmt="{:.3g}", padding=3, fontsize=8)
    axes.set(xlabel=label)
    axes.margins(x=0.12)
    open_frames(figure)
    _save_png(figure, path)


def _save_png(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=110)
    temporary.replace(path)


def open_frames(figure: Figure) -> None:
    """Draw axes without their upper and right lines, with small ticks."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)


def svg_text(figure: Figure) -> str:
    """A figure as SVG; the same figure gives the same text, for it has a fixed salt and no date."""
    import matplotlib as mpl

    file = io.StringIO()
    _read_no_formulas(figure)
    plain = {"svg.hashsalt": "domainsam", "svg.fonttype": "path", "text.parse_math": False}
    with mpl.rc_context(plain):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return file.getvalue()


def _read_no_formulas(figure: Figure) -> None:
    """Show texts as they are: names of places and classes hold dollars, and may hold what is no letter."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(show(text.get_text()))


def encode_jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """A picture ``(H, W, 3)`` as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """A picture ``(H, W)`` or ``(H, W, 3 or 4)`` as a PNG file, as small as it gets."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()
