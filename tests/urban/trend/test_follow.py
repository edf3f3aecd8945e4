"""Outlines of one year are followed through the others, and what cannot be is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Point

from domainsam.errors import DomainSamError
from domainsam_cli import main
from domainsam_urban.trend.follow import TABLE, tell_status
from tests.urban.tiny import PLACE, UTM, write_scene

ROWS, COLS, PIXEL = 192, 256, 0.9
PONDS = {"growing": (60, 70), "steady": (60, 190), "drying": (140, 120)}
SIZES = {2016: (14, 16, 18), 2018: (18, 16, 10), 2020: (22, 16, 0)}
"""Radii in pixels by year."""


def draw(year: int) -> np.ndarray:
    """Blue ponds on green noise; another year has another light."""
    noise = np.random.default_rng(year).normal(0, 5, (ROWS, COLS, 3))
    picture = np.array((110, 150, 90)) + noise
    rows, cols = np.mgrid[:ROWS, :COLS]
    for (row, col), radius in zip(PONDS.values(), SIZES[year], strict=True):
        picture[(rows - row) ** 2 + (cols - col) ** 2 < radius**2] = (40, 70, 150)
    return np.clip(picture * {2016: 1.0, 2018: 0.85, 2020: 1.1}[year], 1, 255).astype(np.uint8)


def outline(row: int, col: int, radius: float) -> Any:
    return Point(*(PLACE @ (col + 0.5, row + 0.5))).buffer(radius * PIXEL)


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("years")
    for year in SIZES:
        write_scene(folder / f"{year}.tif", draw(year))
    shapes = [outline(*place, size) for place, size in zip(PONDS.values(), SIZES[2016], strict=True)]
    table = geopandas.GeoDataFrame({"label": list(PONDS)}, geometry=shapes, crs=UTM)
    table.to_crs("EPSG:4326").to_file(folder / "ponds.gpkg")
    return folder


def follow(years: Path, out: Path, *more: str, outlines: str = "ponds.gpkg") -> int:
    inputs = [f"{year}={years / f'{year}.tif'}" for year in SIZES]
    return main(
        [
            *("urban", "follow", *inputs, "--from", str(years / outlines), "-o", str(out)),
            *("--device", "cpu", "-q", *more),
        ]
    )


def test_outlines_grow_stay_and_vanish(years: Path, tmp_path: Path) -> None:
    out = tmp_path / "followed"
    assert follow(years, out, "--reach", "12") == 0
    table = pd.read_csv(out / TABLE).set_index(["outline", "year"])
    pixel = PIXEL**2
    for number, name in enumerate(PONDS):
        for year, sizes in SIZES.items():
            radius = np.sqrt(table.loc[(name, year), "found_m2"] / pixel / np.pi)
            # Within a cell of four pixels.
            assert radius == pytest.approx(sizes[number], abs=4), (name, year)
        drawn = np.pi * SIZES[2016][number] ** 2 * pixel
        assert table.loc[(name, 2020), "prompted_m2"] == pytest.approx(drawn, rel=0.05)
    found = {name: [table.loc[(name, year), "found_m2"] for year in SIZES] for name in PONDS}
    assert min(found["growing"][1:]) > 1.3 * found["growing"][0]
    assert found["steady"][2] == pytest.approx(found["steady"][0], rel=0.3)
    assert table.loc[("growing", 2020), "status"] == "grown"
    assert table.loc[("drying", 2018), "status"] == "shrunk"
    assert table.loc[("drying", 2020), "status"] == "vanished"
    assert table.loc[("steady", 2016), "iou"] > 0.6
    assert {path.name for path in out.iterdir()} >= {TABLE, "areas.csv"}
    # Finished already: nothing is done again.
    before = (out / TABLE).stat().st_mtime_ns
    assert follow(years, out, "--reach", "12", "--resume") == 0
    assert (out / TABLE).stat().st_mtime_ns == before


def test_years_without_common_ground_are_one_line(
    years: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from affine import Affine

    far = write_scene(tmp_path / "far.tif", draw(2016), transform=Affine.translation(50_000, 0) @ PLACE)
    code = main(
        [
            *("urban", "follow", f"2016={years / '2016.tif'}", f"2018={far}", "-q"),
            *("--from", str(years / "ponds.gpkg"), "-o", str(tmp_path / "out"), "--device", "cpu"),
        ]
    )
    assert code != 0
    told = capsys.readouterr().err.strip()
    assert len([line for line in told.splitlines() if "for research" not in line]) == 1
    assert "ground" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shape", "more", "words"),
    [
        (Point(500_000, 4_500_000).buffer(50), (), "lies outside"),
        (outline(60, 70, 14), ("--from-year", "2017"), "none of the years"),
        (Point(*(PLACE @ (70.5, 60.5))), (), "no outline"),
    ],
)
def test_outlines_that_cannot_be_followed_are_one_line(
    years: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shape: Any,
    more: tuple[str, ...],
    words: str,
) -> None:
    geopandas.GeoDataFrame(geometry=[shape], crs=UTM).to_file(tmp_path / "bad.gpkg")
    assert follow(years, tmp_path / "out", *more, outlines=str(tmp_path / "bad.gpkg")) != 0
    told = capsys.readouterr().err.strip()
    assert words in told
    assert len([line for line in told.splitlines() if "for research" not in line]) == 1
    assert not (tmp_path / "out").exists()


def test_statuses() -> None:
    assert [tell_status(100, area) for area in (95, 109, 111, 89, 0)] == [
        *("stable", "stable", "grown", "shrunk", "vanished")
    ]
    assert tell_status(0, 0) == "not found"
    assert tell_status(0, 5) == "new"


def test_missing_outlines(years: Path) -> None:
    from domainsam_urban.trend.follow import run_follow
    from domainsam_urban.trend.settings import FollowOptions, TrendOptions

    with pytest.raises(DomainSamError, match="nothing says what to follow"):
        run_follow([], TrendOptions(years / "out"))
    with pytest.raises(DomainSamError, match="no such file"):
        run_follow([], TrendOptions(years / "out", follow=FollowOptions(years / "none.gpkg")))
