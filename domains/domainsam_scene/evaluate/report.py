"""The report: one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from domainsam import __version__
from domainsam.io.charts import open_frames, svg_text
from domainsam.io.pages import render
from domainsam_scene.evaluate.evaluate import Seen, count_confusion
from domainsam_scene.evaluate.summary import Evaluation, compute_mean_iou
from domainsam_scene.read.layouts.base import IGNORE
from domainsam_scene.write.maps import choose_class_colours
from domainsam_scene.write.preview import colour_classes, stretch_image

CASES = 6
"""Pictured samples."""
PICTURE = 300
"""Longest side of a picture in the report, in pixels."""
RIGHT, WRONG, UNKNOWN = (216, 222, 228), (200, 30, 30), (0, 0, 0)


@dataclass(frozen=True)
class ReportText:
    """What the report says about its making: model, data and split by name, the command that was run."""

    model: str
    data: str
    command: str


@dataclass(frozen=True)
class Case:
    """One pictured sample: pictures as PNG by title."""

    name: str
    miou: float
    pictures: dict[str, bytes]


@dataclass
class Gallery:
    """Keeps the samples with the lowest mean IoU as pictures while an evaluation goes on."""

    most: int = CASES
    cases: list[Case] = field(default_factory=list)

    def __call__(self, seen: Seen) -> None:
        """Look at one sample; it is kept if it is among the worst."""
        matrix = count_confusion(seen.truth, seen.prediction.labels, len(seen.labels))
        score = float(compute_mean_iou(matrix[None].astype(np.float64), None)[0])
        if not np.isfinite(score):
            return
        if len(self.cases) == self.most and score >= self.cases[-1].miou:
            return
        self.cases.append(Case(seen.name, score, _pictures(seen)))
        self.cases.sort(key=lambda case: (case.miou, case.name))
        del self.cases[self.most :]


def render_report(evaluation: Evaluation, text: ReportText, cases: list[Case]) -> str:
    """The whole page as text."""
    whole = evaluation.variants[0].name
    rows = [(variant, evaluation.interval(variant.name)) for variant in evaluation.variants]
    return render(
        "domainsam_scene",
        "report.html.j2",
        evaluation=evaluation,
        rows=rows,
        published={variant.name: evaluation.published_miou(variant.name) for variant, _ in rows},
        accuracy=evaluation.accuracy_interval(whole),
        published_whole=evaluation.published_interval(whole),
        heat={variant.name: make_heat_cells(evaluation.class_iou(variant.name)) for variant, _ in rows},
        conditions=evaluation.by_condition(whole),
        protocols=evaluation.protocol_means(),
        falls=evaluation.sensor_value(),
        confused=find_confused_pairs(evaluation, whole),
        occurring=int(np.isfinite(evaluation.class_iou(whole)).sum()),
        bars=draw_class_bars(evaluation),
        curve=draw_sensors_left(evaluation),
        cases=cases,
        legend=[
            (label, "#{:02x}{:02x}{:02x}".format(*colour))
            for label, colour in zip(evaluation.labels, choose_class_colours(evaluation.labels), strict=True)
        ],
        text=text,
        version=__version__,
    )


def make_heat_cells(iou: NDArray[np.float64]) -> list[tuple[str, str, str]]:
    """By class: the IoU in two decimals, the cell's colour and the colour of its text."""
    cells = []
    for value in iou:
        if not np.isfinite(value):
            cells.append(("–", "#ffffff", "#8a94a0"))
            continue
        shade = np.array([255, 255, 255]) + (np.array([11, 95, 165]) - 255) * float(value)
        red, green, blue = (int(channel) for channel in shade)
        ink = "#ffffff" if value > 0.55 else "#1d2430"
        cells.append((f"{value:.2f}".removeprefix("0") or "0", f"#{red:02x}{green:02x}{blue:02x}", ink))
    return cells


def find_confused_pairs(evaluation: Evaluation, variant: str, most: int = 6) -> list[tuple[str, str, float]]:
    """True class, what it was taken for, and the share of the true class's pixels; the largest first."""
    matrix = evaluation.matrix(variant).astype(np.float64)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    pairs = [
        (evaluation.labels[row], evaluation.labels[col], float(share[row, col]))
        for row, col in zip(*np.unravel_index(np.argsort(-share, axis=None)[:most], share.shape), strict=True)
    ]
    return [pair for pair in pairs if pair[2] > 0.01]


def _pictures(seen: Seen) -> dict[str, bytes]:
    shown: dict[str, Any] = {name: stretch_image(image) for name, image in seen.images.items()}
    shown["truth"] = colour_classes(seen.truth, seen.labels)
    shown["prediction"] = colour_classes(seen.prediction.labels, seen.labels)
    wrong = np.empty((*seen.truth.shape, 3), np.uint8)
    wrong[:] = RIGHT
    wrong[seen.prediction.labels != seen.truth] = WRONG
    wrong[seen.truth == IGNORE] = UNKNOWN
    shown["errors"] = wrong
    step = max(1, -(-max(seen.truth.shape) // PICTURE))
    return {title: _png(picture[::step, ::step]) for title, picture in shown.items()}


def _png(picture: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    imsave(file, np.ascontiguousarray(picture), format="png", metadata={"Software": "domainsam"})
    return file.getvalue()


BLUE, ORANGE, GREY = "#0b5fa5", "#d9822b", "#9aa4b0"


def draw_sensors_left(evaluation: Evaluation) -> str | None:
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
    open_frames(figure)
    return svg_text(figure)


def draw_class_bars(evaluation: Evaluation) -> str:
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
    open_frames(figure)
    return svg_text(figure)


def _short(sensors: tuple[str, ...], whole: tuple[str, ...]) -> str:
    """A subset in few words: its one sensor, or what it lacks."""
    if len(sensors) == 1:
        return f"{sensors[0]} alone"
    return "without " + ", ".join(name for name in whole if name not in sensors)
