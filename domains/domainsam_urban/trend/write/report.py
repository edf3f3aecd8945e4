"""HTML report of a trend, as a single file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from domainsam import __version__
from domainsam.io.pages import encode_data_uri, render
from domainsam_urban.trend.measure.adjusted import YearAccuracy
from domainsam_urban.trend.measure.areas import BOUNDS, OWN, ChangeFigure, Figures
from domainsam_urban.trend.measure.bounds import Estimate
from domainsam_urban.trend.measure.objects import ChangeObjects
from domainsam_urban.trend.measure.tallies import Blocks
from domainsam_urban.trend.read.zones import WHOLE, Zoning
from domainsam_urban.trend.settings import ProductOptions
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.write.charts import GAIN, KEPT, LOSS, STATUS_COLOURS, UNSEEN, Chart
from domainsam_urban.trend.write.quicklooks import OUTLINE, Pictures

MOST_ROWS = 60
"""Places of one kind in a table of the report; the CSV has them all."""


@dataclass(frozen=True, eq=False)
class ReportMaterial:
    """Everything that a report tells."""

    stack: YearStack
    options: ProductOptions
    figures: Figures
    found: ChangeObjects
    zonings: Sequence[Zoning]
    accuracies: Sequence[YearAccuracy]
    charts: Sequence[Chart]
    pictures: Pictures
    notes: Sequence[str]


def render_report(material: ReportMaterial) -> str:
    """The whole page as text."""
    script = files("domainsam_urban").joinpath("templates", "trend.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    figures, stack = material.figures, material.stack
    changes = figures.of_changes()
    return render(
        "domainsam_urban",
        "trend.html.j2",
        m=material,
        script=Markup(script),
        script_hash=digest,
        layers=_layers(material),
        span=changes[-1],
        steps=changes[:-1] if len(changes) > 2 else changes,
        main=figures.of_years(),
        own=figures.of_years(extent=OWN),
        smoothed=figures.of_years(series=figures.series[1]) if len(figures.series) > 1 else [],
        tables=[_place_table(figures, zoning) for zoning in material.zonings if zoning.kind != WHOLE],
        statuses=[(name, Counter(material.found.statuses)[name]) for name in STATUS_COLOURS],
        bounded=any(figure.method == BOUNDS for figure in figures.of_years()),
        block_m=Blocks.of(stack.ground, material.options.uncertainty.block_m).side * stack.ground.pixel_m,
        threshold=stack.threshold / 254,
        colours={"gain": GAIN, "kept": KEPT, "loss": LOSS, "unseen": UNSEEN, "outline": OUTLINE},
        status_colours=STATUS_COLOURS,
        lead=_lead(changes[-1], figures),
        version=__version__,
        ha=format_hectares,
        percent=format_percent,
        whole=format_count,
    )


def format_hectares(value: float) -> str:
    """An area with about three figures, or a dash."""
    if not math.isfinite(value):
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.lstrip("-")


def format_percent(value: float, digits: int = 1) -> str:
    """A share as per cent; unbounded values as such."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{100 * value:.{digits}f}"
    return f"{text.replace('-', '−') if float(text) else text.lstrip('-')} %"


def format_count(value: float) -> str:
    """A count, or a dash."""
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def _layers(material: ReportMaterial) -> dict[str, Any]:
    """What either side of the swipe can show: pictures as data addresses, by name."""
    pictures, labels = material.pictures, material.stack.labels
    images = {f"image-{label}": encode_data_uri(pictures.imagery[label], "image/jpeg") for label in labels}
    images |= {f"outline-{label}": encode_data_uri(pictures.outlines[label], "image/png") for label in labels}
    images["change"] = encode_data_uri(pictures.change, "image/png")
    views = [
        {"name": label, "base": f"image-{label}", "over": f"outline-{label}", "grey": False}
        for label in labels
    ]
    changed = {"name": f"change {labels[0]} to {labels[-1]}", "base": f"image-{labels[-1]}", "over": "change"}
    views.append(changed | {"grey": True})
    width, height = pictures.view.size
    return {
        "images": images,
        "views": views,
        "width": width,
        "height": height,
        "json": json.dumps(views).replace("<", "\\u003c"),
        "metre": pictures.view.metre,
        "bar": _scale_bar(width * pictures.view.metre, width),
    }


def _scale_bar(ground_m: float, width: int) -> tuple[str, float]:
    """A round length of about a fifth of the picture: its name, and its share of the width."""
    target = ground_m / 5
    power = 10 ** math.floor(math.log10(target))
    length = max(step * power for step in (1, 2, 5) if step * power <= target)
    return (f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"), length / ground_m


def _place_table(figures: Figures, zoning: Zoning) -> dict[str, Any]:
    """Rows of one kind of places: areas of every year and what changed from first to last."""
    years: dict[str, list[Any]] = {}
    for figure in figures.of_years(zoning.kind):
        years.setdefault(figure.place, []).append(figure)
    changes: dict[str, ChangeFigure] = {figure.place: figure for figure in figures.of_changes(zoning.kind)}
    order = list(zoning.names)
    if zoning.kind == "zones":
        order.sort(key=lambda name: -abs(changes[name].net.central))
    rows = [(name, years[name], changes[name]) for name in order[:MOST_ROWS]]
    return {"kind": zoning.kind, "rows": rows, "left_out": max(0, len(order) - MOST_ROWS)}


def _lead(span: ChangeFigure, figures: Figures) -> str:
    """Whether the change is beyond doubt, in words."""
    net: Estimate = span.net
    if net.low > 0:
        return "grew"
    if net.high < 0:
        return "shrank"
    areas = [figure.area.central for figure in figures.of_years()]
    return "none" if max(areas) == 0 else "unsure"
