"""The report: one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from domainsam import __version__
from domainsam_cli.reports import render
from domainsam_scene.charts import class_bars, sensors_left
from domainsam_scene.evaluate import Seen, confusion
from domainsam_scene.evaluation import Evaluation, mean_iou
from domainsam_scene.palette import class_colours
from domainsam_scene.preview import coloured, stretched
from domainsam_scene.readers.base import IGNORE

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
        matrix = confusion(seen.truth, seen.prediction.labels, len(seen.labels))
        score = float(mean_iou(matrix[None].astype(np.float64), None)[0])
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
        heat={variant.name: heat_cells(evaluation.class_iou(variant.name)) for variant, _ in rows},
        conditions=evaluation.by_condition(whole),
        protocols=evaluation.protocol_means(),
        falls=evaluation.sensor_value(),
        confused=confused_pairs(evaluation, whole),
        occurring=int(np.isfinite(evaluation.class_iou(whole)).sum()),
        bars=class_bars(evaluation),
        curve=sensors_left(evaluation),
        cases=cases,
        legend=[
            (label, "#{:02x}{:02x}{:02x}".format(*colour))
            for label, colour in zip(evaluation.labels, class_colours(evaluation.labels), strict=True)
        ],
        text=text,
        version=__version__,
    )


def heat_cells(iou: NDArray[np.float64]) -> list[tuple[str, str, str]]:
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


def confused_pairs(evaluation: Evaluation, variant: str, most: int = 6) -> list[tuple[str, str, float]]:
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
    shown: dict[str, Any] = {name: stretched(image) for name, image in seen.images.items()}
    shown["truth"] = coloured(seen.truth, seen.labels)
    shown["prediction"] = coloured(seen.prediction.labels, seen.labels)
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
