"""An evaluation as one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from domainsam import __version__
from domainsam_cli.reports import render
from domainsam_urban import pictures
from domainsam_urban.charts import reliability_diagram, scene_bars
from domainsam_urban.evaluation import Evaluation
from domainsam_urban.scores import ABLATED, METRICS

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
        facts=facts(evaluation, main),
        bars=scene_bars(evaluation, evaluation.shown),
        diagram=reliability_diagram(evaluation, evaluation.shown),
        cases=list(pictures.worst_cases(evaluation, main, CASES)),
        colours={
            name: getattr(pictures, name)
            for name in ("TRUTH", "PREDICTED", "HIT", "FALSE_ALARM", "MISS", "UNKNOWN")
        },
        text=text,
        version=__version__,
    )


def facts(evaluation: Evaluation, variant: str) -> dict[str, Any]:
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
