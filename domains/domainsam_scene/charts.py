"""The charts of an evaluation, as SVG text."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from domainsam_scene.evaluation import Evaluation

BLUE, ORANGE, GREY = "#0b5fa5", "#d9822b", "#9aa4b0"


def sensors_left(evaluation: Evaluation) -> str | None:
    """Mean IoU against the number of sensors, a dot for each subset; None without subsets."""
    rows = [variant for variant in evaluation.variants if variant.kind in ("all", "subsets")]
    if len(rows) < 3:
        return None
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    counts = np.array([len(variant.sensors) for variant in rows])
    scores = np.array([evaluation.interval(variant.name).value for variant in rows])
    means = [(count, float(np.nanmean(scores[counts == count]))) for count in sorted(set(counts))]
    axes.plot(*zip(*means, strict=True), "-", color=GREY, linewidth=1.5, label="mean")
    axes.plot(counts, scores, "o", color=BLUE, markersize=6, alpha=0.8, label="one choice of sensors")
    for count, score, variant in zip(counts, scores, rows, strict=True):
        if count == 1 or count == counts.max() - 1:
            axes.annotate(
                _short(variant.sensors, rows[0].sensors),
                (count, score),
                xytext=(7, -3),
                textcoords="offset points",
                fontsize=7.5,
                color="#444",
            )
    axes.set_xticks(sorted(set(counts)))
    axes.set_xlim(counts.min() - 0.25, counts.max() + 0.6)
    axes.set_ylim(0, max(0.05, 1.1 * float(np.nanmax(scores))))
    axes.set_xlabel("sensors present")
    axes.set_ylabel("mean IoU")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _svg(figure)


def class_bars(evaluation: Evaluation) -> str:
    """IoU of every class with all sensors, and the range over single missing sensors where there are any."""
    whole = evaluation.variants[0]
    iou = evaluation.class_iou(whole.name)
    order = np.argsort(np.nan_to_num(iou, nan=-1))[::-1]
    without = [
        evaluation.class_iou(variant.name)
        for variant in evaluation.variants
        if variant.kind == "subsets" and len(variant.sensors) == len(whole.sensors) - 1
    ]
    figure = Figure(figsize=(5.2, 0.9 + 0.24 * len(iou)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(iou))
    axes.barh(places, np.nan_to_num(iou[order]), 0.72, color=BLUE, alpha=0.85, label="all sensors")
    if without:
        worst = np.nanmin(np.nan_to_num(np.stack(without)), axis=0)[order]
        axes.plot(
            worst, places, "|", color=ORANGE, markersize=10, markeredgewidth=2.5, label="one missing, worst"
        )
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    for place, value in zip(places, iou[order], strict=True):
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(float(np.nan_to_num(value)) + 0.01, float(place), text, va="center", fontsize=7.5)
    axes.set_yticks(places, [evaluation.labels[index] for index in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("IoU")
    return _svg(figure)


def _short(sensors: tuple[str, ...], whole: tuple[str, ...]) -> str:
    """A subset in few words: its one sensor, or what it lacks."""
    if len(sensors) == 1:
        return f"{sensors[0]} alone"
    return "without " + ", ".join(name for name in whole if name not in sensors)


def _svg(figure: Figure) -> str:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    file = io.StringIO()
    # A fixed salt and no date: the same evaluation gives the same file.
    with mpl.rc_context({"svg.hashsalt": "domainsam", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return file.getvalue()
