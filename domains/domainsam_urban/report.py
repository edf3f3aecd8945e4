"""An evaluation as one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from domainsam import __version__
from domainsam.metrics.bootstrap import Interval
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
    environment = Environment(
        loader=PackageLoader("domainsam_urban"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=score, span=span, data_uri=data_uri)
    main = evaluation.variants[0]
    return environment.get_template("report.html.j2").render(
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


def score(value: float) -> str:
    """Three decimals, or a dash for what is undefined."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def span(interval: Interval) -> str:
    """The ends of an interval, or why there are none."""
    if not math.isfinite(interval.low):
        return "no interval" if math.isfinite(interval.value) else "undefined"
    return f"{interval.low:.3f} to {interval.high:.3f}"


def data_uri(content: bytes | str, media_type: str) -> str:
    """A file's content as an address that holds it."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{media_type};base64,{base64.b64encode(raw).decode()}"
