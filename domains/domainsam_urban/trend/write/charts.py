"""Draw the charts of a trend."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from domainsam.io.charts import open_frames, svg_text
from domainsam_urban.trend.measure.areas import OWN, SAMPLE, ChangeFigure, Figures, YearFigure
from domainsam_urban.trend.measure.bounds import Estimate
from domainsam_urban.trend.read.zones import RINGS, ZONES

MOST_ZONES = 20
"""More zones than this are not told apart in one chart; those that changed most are shown."""
INK = "#1d2430"
DPI = 160
LABEL: dict[str, Any] = {"ha": "center", "fontsize": 8, "color": INK}


CAPTIONS = {
    "area": "Settlement area on the ground that all years saw, with low and high values. Grey diamonds: each "
    "year over all that it saw itself, which is not to be compared from year to year.",
    "change": "What became settlement (up) and ceased to be (down) from one year to the next, and the net "
    "change (dot), each with low and high value.",
    "count": "Number of settlements, with the range over the strict and the lax threshold.",
    "statuses": "What became of every settlement from the first year to the last.",
    "zones": "Area of zones in the first (hollow) and the last year (filled), with low and high values.",
    "rings": "Share of each ring that is settlement, by year, with low and high values.",
}
"""Charts by file name, with what each shows."""


@dataclass(frozen=True)
class Chart:
    """One figure: file name without extension, caption, and the drawing as SVG text and PNG bytes."""

    name: str
    caption: str
    svg: str
    png: bytes


def draw_charts(figures: Figures, statuses: Sequence[str]) -> list[Chart]:
    """Every chart that the figures allow, most important first."""
    drawn = {
        "area": draw_area_chart(figures),
        "change": draw_change_chart(figures),
        "count": draw_count_chart(figures),
        "statuses": draw_status_chart(statuses),
    }
    if figures.of_years(ZONES):
        drawn["zones"] = draw_zone_chart(figures)
    if figures.of_years(RINGS):
        drawn["rings"] = draw_ring_chart(figures)
    return [_chart(name, figure) for name, figure in drawn.items()]


def draw_area_chart(figures: Figures) -> Figure:
    """Area by year with intervals; one line for each series, points for own extents."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.add_subplot()
    main = figures.of_years()
    places = place_years(main)
    own = figures.of_years(extent=OWN)
    if any(abs(o.valid_ha - m.valid_ha) > 1e-6 * m.valid_ha for o, m in zip(own, main, strict=True)):
        _whiskers(axes, places, [f.area for f in own], OWN_EXTENT, "own extent of each year", marker="D")
    for name, colour in zip(figures.series, SERIES, strict=False):
        areas = [figure.area for figure in figures.of_years(series=name)]
        low, central, high = _ends(areas)
        axes.fill_between(places, low, high, color=colour, alpha=0.16, linewidth=0)
        adjusted = figures.of_years(series=name)[0].method == SAMPLE
        label = f"{name}, error-adjusted" if adjusted else name
        axes.plot(places, central, "o-", color=colour, markersize=5, linewidth=2, label=label)
        if name == figures.series[0]:
            for place, area in zip(places, areas, strict=True):
                label = _number(area.central)
                axes.annotate(label, (place, area.central), (0, 7), textcoords="offset points", **LABEL)
    _year_axis(axes, main, places)
    axes.set_ylabel("settlement, ha")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    return figure


def draw_change_chart(figures: Figures) -> Figure:
    """Gain and loss of every step as bars, the net change as a dot."""
    steps = _steps(figures)
    if not any(end for step in steps for part in (step.gain, step.loss) for end in (part.central, part.high)):
        return _say("No ground became or ceased to be settlement.")
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(steps))
    for sign, colour, label, estimates in (
        (1, GAIN, "became settlement", [step.gain for step in steps]),
        (-1, LOSS, "ceased to be settlement", [step.loss for step in steps]),
    ):
        low, central, high = _ends(estimates)
        axes.bar(places, sign * central, 0.5, color=colour, alpha=0.85, label=label)
        bars = [central - low, high - central] if sign > 0 else [high - central, central - low]
        spread = np.maximum(bars, 0)
        axes.errorbar(places - 0.12, sign * central, spread, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    _whiskers(axes, places + 0.12, [step.net for step in steps], INK, "net change")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(places, [f"{step.early} to {step.late}" for step in steps])
    axes.set_ylabel("ha")
    axes.set_xlim(-0.6, max(len(steps) - 0.4, 0.6))
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    return figure


def draw_count_chart(figures: Figures) -> Figure:
    """Number of settlements by year."""
    main = figures.of_years()
    if not any(entry.count.central or entry.count.high for entry in main):
        return _say("No settlement was found in any year.")
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    places = place_years(main)
    low, central, high = _ends([f.count for f in main])
    axes.plot(places, central, "-", color=SERIES[0], alpha=0.5)
    axes.errorbar(places, central, yerr=[central - low, high - central], fmt="o", color=SERIES[0], capsize=3)
    _year_axis(axes, main, places)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.0))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("settlements")
    return figure


def draw_status_chart(statuses: Sequence[str]) -> Figure:
    """Number of settlements by what became of them."""
    number = Counter(statuses)
    names = [status for status in STATUS_COLOURS if number[status]]
    if not names:
        return _say("No settlement was found in any year.")
    figure = Figure(figsize=(4.6, 0.9 + 0.33 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    values = [number[name] for name in names]
    axes.barh(names, values, color=[STATUS_COLOURS[name] for name in names])
    for place, value in enumerate(values):
        axes.text(value, place, f" {value}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(0, max(axes.get_xlim()[1], 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("settlements")
    return figure


def draw_zone_chart(figures: Figures) -> Figure:
    """First and last year of the zones that changed most."""
    by_place: dict[str, list[YearFigure]] = {}
    for entry in figures.of_years(ZONES):
        by_place.setdefault(entry.place, []).append(entry)
    order = sorted(
        by_place, key=lambda name: -abs(by_place[name][-1].area.central - by_place[name][0].area.central)
    )
    names = sorted(order[:MOST_ZONES], key=lambda name: -by_place[name][-1].area.central)
    figure = Figure(figsize=(7.2, 1.1 + 0.36 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        first, last = by_place[name][0], by_place[name][-1]
        colour = GAIN if last.area.central >= first.area.central else LOSS
        axes.plot(
            [first.area.central, last.area.central], [place, place], color=colour, linewidth=2, alpha=0.7
        )
        for entry, shift, face in ((first, -0.12, "white"), (last, 0.12, colour)):
            axes.plot(
                [entry.area.low, entry.area.high], [place + shift] * 2, color=colour, linewidth=1, alpha=0.5
            )
            axes.plot(entry.area.central, place, "o", color=colour, markerfacecolor=face, markersize=6)
    axes.set_yticks(range(len(names)), [name if len(name) < 32 else name[:30] + "…" for name in names])
    axes.invert_yaxis()
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("settlement, ha")
    years = [by_place[names[0]][place].year for place in (0, -1)]
    key = [
        Line2D([], [], marker="o", linestyle="", color=INK, markerfacecolor=face, label=year)
        for year, face in zip(years, ("white", INK), strict=True)
    ]
    key += [
        Line2D([], [], color=colour, linewidth=2, label=label)
        for colour, label in ((GAIN, "more"), (LOSS, "less"))
    ]
    figure.legend(handles=key, frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def draw_ring_chart(figures: Figures) -> Figure:
    """Share of settlement from ring to ring, a line for each year, later ones darker."""
    rings = figures.of_years(RINGS)
    years = list(dict.fromkeys(entry.year for entry in rings))
    names = list(dict.fromkeys(entry.place for entry in rings))
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    shades = mpl.colormaps["YlGnBu"](np.linspace(0.35, 0.95, len(years)))
    for number, (year, shade) in enumerate(zip(years, shades, strict=True)):
        low, central, high = 100 * _ends([entry.share for entry in rings if entry.year == year])
        places = np.arange(len(names)) + (number - (len(years) - 1) / 2) * min(0.08, 0.5 / len(years))
        bars = np.maximum([central - low, high - central], 0)
        axes.errorbar(
            places, central, yerr=bars, fmt="o-", color=shade, label=year, markersize=4, elinewidth=1
        )
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=0 if len(names) <= 6 else 30)
    axes.set_ylabel("settlement, % of the ring")
    axes.set_ylim(bottom=0)
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=min(len(years), 8))
    return figure


def _say(words: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(4.6, 1.1), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=10, color=INK, transform=axes.transAxes)
    return figure


def place_years(entries: Sequence[YearFigure]) -> np.ndarray:
    """Where years stand on an axis of time; evenly spaced unless all dates are known."""
    moments = [entry.moment for entry in entries]
    if any(moment is None for moment in moments):
        return np.arange(len(entries), dtype=float)
    return np.array([m.year + (m.timetuple().tm_yday - 1) / 366 for m in moments if m is not None])


def _chart(name: str, figure: Figure) -> Chart:
    open_frames(figure)
    for axes in figure.axes:
        axes.grid(axis="y" if name not in ("statuses", "zones") else "x", color="#e6eaee", linewidth=0.8)
        axes.set_axisbelow(True)
    return Chart(name, CAPTIONS[name], *render_figure(figure))


def render_figure(figure: Figure) -> tuple[str, bytes]:
    """A figure as SVG text and PNG bytes; the same figure gives the same bytes."""
    text, picture = svg_text(figure), io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png", dpi=DPI, metadata={"Software": None}, facecolor="white")
    return text, picture.getvalue()


def _steps(figures: Figures) -> list[ChangeFigure]:
    """Changes from each year to the next, without that from the first to the last."""
    changes = figures.of_changes()
    return changes[:-1] if len(changes) > 2 else changes[:1]


def _ends(estimates: Sequence[Estimate]) -> np.ndarray:
    """Low, central and high ``(3, N)``."""
    return np.array([(e.low, e.central, e.high) for e in estimates], dtype=float).reshape(-1, 3).T


def _whiskers(
    axes: Axes, places: np.ndarray, estimates: Sequence[Estimate], colour: str, label: str, marker: str = "o"
) -> None:
    low, central, high = _ends(estimates)
    bars = np.maximum([central - low, high - central], 0)
    axes.errorbar(
        places,
        central,
        yerr=bars,
        fmt=marker,
        color=colour,
        markersize=4,
        elinewidth=1,
        capsize=3,
        label=label,
    )


def _year_axis(axes: Axes, entries: Sequence[YearFigure], places: np.ndarray) -> None:
    axes.set_xticks(places, [entry.year for entry in entries], rotation=30 if len(entries) > 10 else 0)
    span = max(float(np.ptp(places)), 1.0)
    axes.set_xlim(places.min() - 0.06 * span, places.max() + 0.06 * span)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


STATUS_COLOURS: Mapping[str, str] = {
    "appeared": "#b2182b",
    "expanded": "#ef8a62",
    "stable": "#8c8c8c",
    "shrunk": "#67a9cf",
    "vanished": "#2166ac",
    "split": "#762a83",
    "merged": "#1b7837",
}
"""ColorBrewer's RdBu for more and less, PRGn for parting and joining: safe for colour-blind readers."""
GAIN, KEPT, LOSS = "#d6403a", "#f2c14e", "#2b7bba"
"""Ground that became, stayed and ceased to be settlement."""
UNSEEN = "#9a9a9a"
"""Ground that some year did not see."""
SERIES = ("#0b5fa5", "#d9822b")
"""As predicted, and smoothed."""
OWN_EXTENT = "#7a7a7a"
