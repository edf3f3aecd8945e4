"""An evaluation as one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from domainsam import __version__
from domainsam.io.charts import open_frames, svg_text
from domainsam.io.pages import render
from domainsam.metrics.calibration import compute_reliability
from domainsam_urban.evaluate import pictures
from domainsam_urban.evaluate.scores import ABLATED, METRICS
from domainsam_urban.evaluate.summary import Evaluation

CASES = 6
"""Pictured windows; each is about a quarter of a megabyte."""


@dataclass(frozen=True)
class ReportText:
    """What the report says about its making: the model and the labels by name, the command that was run."""

    model: str
    labels: str
    command: str


def render_report(evaluation: Evaluation, text: ReportText) -> str:
    """The whole page as text."""
    main = evaluation.variants[0]
    return render(
        "domainsam_urban",
        "report.html.j2",
        evaluation=evaluation,
        metrics=METRICS,
        ablated=ABLATED,
        main=main,
        facts=gather_facts(evaluation, main),
        bars=draw_scene_bars(evaluation, evaluation.shown),
        diagram=draw_reliability(evaluation, evaluation.shown),
        cases=list(pictures.find_worst_cases(evaluation, main, CASES)),
        colours={
            name: getattr(pictures, name)
            for name in ("TRUTH", "PREDICTED", "HIT", "FALSE_ALARM", "MISS", "UNKNOWN")
        },
        text=text,
        version=__version__,
    )


def gather_facts(evaluation: Evaluation, variant: str) -> dict[str, Any]:
    """What the opening sentence and the method need."""
    pixels = [(scene, scene.place.pixel_metres()) for scene in evaluation.scenes]
    total: Any = sum(scene.counts[variant].pooled().confusion[0] * metres**2 for scene, metres in pixels)
    tolerances = sorted({(scene.tolerance_px, scene.tolerance_px * metres) for scene, metres in pixels})
    return {
        "area_km2": float(np.sum(total)) / 1e6,
        "true_ha": float(np.sum(total[1])) / 1e4,
        "predicted_ha": float(np.sum(total[:, 1])) / 1e4,
        "true_objects": int(evaluation.pooled(variant).found_half[0, [0, 2]].sum()),
        "tolerance": ", ".join(dict.fromkeys(f"{px:.3g} px ({m:.1f} m)" for px, m in tolerances)),
    }


COLOURS = ("#0b5fa5", "#d9822b", "#5f7a3c", "#8b4a8b", "#7a7a7a", "#2a9d8f", "#b23a48")
BARS = 40
"""More scenes than this are not told apart in one picture; the worst are shown."""


def draw_scene_bars(evaluation: Evaluation, variants: Sequence[str]) -> str:
    """IoU of every scene, the worst first; scenes without any settlement are left out."""
    metric = next(metric for metric in METRICS if metric.key == "iou")
    scored = [(scene, scene.value(variants[0], metric)) for scene in evaluation.scenes]
    ranked = sorted((pair for pair in scored if np.isfinite(pair[1])), key=lambda pair: pair[1])[:BARS]
    figure = Figure(figsize=(5, 1 + 0.28 * max(1, len(ranked)) * len(variants)), layout="constrained")
    axes = figure.add_subplot()
    thick = 0.8 / len(variants)
    for number, variant in enumerate(variants):
        places = np.arange(len(ranked)) + (number - (len(variants) - 1) / 2) * thick
        values = [scene.value(variant, metric) for scene, _ in ranked]
        axes.barh(places, np.nan_to_num(values), thick * 0.9, color=COLOURS[number], label=variant)
        for place, value in zip(places, values, strict=True):
            axes.text(np.nan_to_num(value) + 0.008, place, f"{value:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(ranked)), [scene.scene.name for scene, _ in ranked], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("IoU")
    if len(variants) > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=len(variants))
    open_frames(figure)
    return svg_text(figure)


def draw_reliability(evaluation: Evaluation, variants: Sequence[str]) -> str | None:
    """Stated probability against what came true, and how often each was stated; None for masks."""
    curves = {variant: compute_reliability(evaluation.pooled(variant).calibration[0]) for variant in variants}
    curves = {variant: curve for variant, curve in curves.items() if np.isfinite(curve.ece)}
    if not curves:
        return None
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1, label="perfect")
    for colour, (variant, curve) in zip(COLOURS, curves.items(), strict=False):
        label = f"{variant} (ECE {curve.ece:.3f})"
        upper.plot(curve.confidence, curve.frequency, "o-", color=colour, markersize=4, label=label)
        edges = np.linspace(0, 1, len(curve.weight) + 1)
        lower.stairs(curve.weight, edges, color=colour, fill=len(curves) == 1, alpha=0.85)
    upper.set_ylabel("share that is settlement")
    upper.set_ylim(-0.02, 1.02)
    upper.legend(frameon=False, fontsize=8)
    lower.set_yscale("log")
    lower.set_ylabel("share of pixels")
    lower.set_xlabel("stated probability")
    lower.set_xlim(0, 1)
    open_frames(figure)
    return svg_text(figure)
