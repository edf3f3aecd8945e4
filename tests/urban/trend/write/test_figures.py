"""Charts where nothing was found, the key of years, and the map's degrees, scale and north."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyproj
import pytest
from affine import Affine
from matplotlib.figure import Figure

from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.measure.bounds import Estimate
from domainsam_urban.trend.read.zones import ZONES
from domainsam_urban.trend.write.charts import (
    draw_change_chart,
    draw_count_chart,
    draw_status_chart,
    draw_zone_chart,
    render_figure,
)
from domainsam_urban.trend.write.quicklooks import Pictures, View, draw_change_map


def words(figure: Figure) -> list[str]:
    """All that is written in a figure."""
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [text for text in found if text]


def estimate(value: float) -> Estimate:
    return Estimate(value, value, value)


def a_year(year: str, area: float, count: float = 0, kind: str = "whole", place: str = "") -> Any:
    """A year's figures as far as charts look at them."""
    return SimpleNamespace(
        year=year, place=place, kind=kind, moment=None, count=estimate(count), area=estimate(area)
    )


class FewFigures:
    """Stands in for the figures of a trend."""

    def __init__(self, years: list[Any], changes: list[Any]) -> None:
        self.years, self.changes = years, changes

    def of_years(self, kind: str = "whole", **_: Any) -> list[Any]:
        return [year for year in self.years if year.kind == kind]

    def of_changes(self) -> list[Any]:
        return self.changes


def test_nothing_found_is_said_and_not_drawn() -> None:
    change = SimpleNamespace(
        early="2016", late="2020", gain=estimate(0), loss=estimate(0), net=estimate(0), series="as predicted"
    )
    figures: Any = FewFigures([a_year("2016", 0), a_year("2020", 0)], [change])
    for figure in (draw_status_chart([]), draw_count_chart(figures), draw_change_chart(figures)):
        (said,) = words(figure)
        assert said.startswith("No ")
        assert not figure.axes[0].patches, "no bars"
    assert draw_status_chart(["stable"]).axes[0].patches


def test_zones_have_a_key_of_years() -> None:
    years = [a_year(year, area, kind=ZONES, place="Haidian") for year, area in (("2016", 5), ("2020", 9))]
    figures: Any = FewFigures(years, [])
    assert words(draw_zone_chart(figures))[-4:] == ["2016", "2020", "more", "less"]


@pytest.mark.parametrize(
    ("code", "left", "top", "lon", "lat", "north"),
    [
        (32650, 440_000, 4_420_000, "116.3", "39.9", True),
        (32722, 200_000, 7_400_000, "53.9", "23.5", True),
        (3031, -3000, 3000, None, None, False),
    ],
)
def test_the_map_says_where_it_is(
    code: int, left: float, top: float, lon: str | None, lat: str | None, north: bool
) -> None:
    crs = pyproj.CRS.from_epsg(code)
    ground = CommonGround(crs.to_wkt(), Affine(10, 0, left, 0, -10, top), 600, 600, 10.0)
    stack: Any = SimpleNamespace(ground=ground, labels=("2016", "2020"))
    view = View.of(stack)
    blank = np.full((view.size[1], view.size[0], 3), 200, np.uint8)
    figure = draw_change_map(Pictures({}, {}, b"", blank, view), stack)
    (axes,) = figure.axes
    render_figure(figure)
    assert "1 km" in words(figure)
    assert ("N" in words(figure)) == north
    ticks = [[label.get_text() for label in side.get_ticklabels()] for side in (axes.xaxis, axes.yaxis)]
    for labels, degree in zip(ticks, (lon, lat), strict=True):
        if degree is None:
            continue
        assert len(labels) == len(set(labels)) >= 2
        assert any(label.startswith(degree) for label in labels), labels
        # Ticks lie where their degrees are: evenly, one step of degrees apart.
    if lon is not None:
        to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
        place, label = axes.get_xticks()[0], ticks[0][0]
        east, _ = to_degrees.transform(left + place, top - 3000)
        assert abs(abs(east) - float(label.split("°")[0])) < 1e-4
    else:
        assert not axes.xaxis.get_tick_params()["bottom"]
